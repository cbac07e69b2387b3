"""`torta solve`: from a CSV file to a solution with its certificate, or to one line that says what is wrong."""

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.solvers.transport import linear_program
from torta_jax.cli.main import main
from torta_jax.cli.tableau import read
from torta_jax.errors import InputError

TRANSPORT = ",denver,atlanta,demand\ndenver,0,1.2,30\natlanta,1.2,,20\ncapacity,40,40,\n"
ASSIGNMENT = ",a,b,outside\nx,5,3,0\ny,6,,1\nz,4,2,1\nroom,1,1,\n"


def solve(tmp_path, capsys, kind, content, *options):
    """Exit status, standard output, and standard error."""
    path = tmp_path / "problem.csv"
    path.write_text(content)
    status = main(["solve", kind, str(path), *options])
    return status, *capsys.readouterr()


def test_transport_is_the_linear_programs_and_forbidden_pairs_are_empty(tmp_path, capsys):
    status, out, _ = solve(tmp_path, capsys, "transport", TRANSPORT, "--json")
    found = json.loads(out)
    best, *_ = linear_program(
        np.array([[0, 1.2], [1.2, 0]]), [30, 20], [40, 40], mask=np.array([[True, True], [True, False]])
    )
    assert status == 0
    assert found["status"] == "converged"
    assert found["lower_bound"] <= best + 1e-9
    assert found["value"] == pytest.approx(best, rel=1e-3)
    assert found["solution"][1] == {"name": "atlanta", "denver": 20.0, "atlanta": 0.0, "buffered": 0.0}


def test_the_csv_is_a_table_like_the_file_and_a_line_that_certifies_it(tmp_path, capsys):
    _, out, _ = solve(tmp_path, capsys, "transport", TRANSPORT, "--epsilon", "0.02")
    *table, certificate = out.splitlines()
    lines = list(csv.reader(io.StringIO("\n".join(table))))
    assert lines[0] == ["", "denver", "atlanta", "buffered"]
    assert [line[0] for line in lines[1:]] == ["denver", "atlanta", "price"]
    assert certificate.startswith("# value 36, lower bound 35.")


def test_demand_without_capacity_is_buffered_and_said_to_be(tmp_path, capsys):
    _, out, _ = solve(tmp_path, capsys, "transport", TRANSPORT.replace("40,40", "10,10"), "--json")
    found = json.loads(out)
    assert found["status"] == "infeasible"
    assert found["buffered"] == pytest.approx(30)


def test_balanced_gives_every_column_its_share(tmp_path, capsys):
    content = ",a,b,demand\nx,1,2,30\ny,2,1,20\ncapacity,10,40,\n"
    _, out, _ = solve(tmp_path, capsys, "transport", content, "--balanced", "--json")
    rows = json.loads(out)["solution"]
    assert rows[0]["a"] + rows[1]["a"] == pytest.approx(10)


def test_whole_numbers_are_assigned_exactly_and_the_result_goes_to_a_file(tmp_path, capsys):
    status, out, _ = solve(tmp_path, capsys, "assignment", ASSIGNMENT, "--out", str(tmp_path / "result.csv"))
    assert status == 0
    assert out == "# value 10, upper bound 10, assigned 2, unassigned 1, rounds 1, status converged\n"
    assert (tmp_path / "result.csv").read_text() == "task,server,value\nx,b,3\ny,a,6\nz,,1\n"


def test_other_numbers_are_assigned_nearly_and_no_column_outside_is_needed(tmp_path, capsys):
    content = ",a,b\nx,0.5,0.3\ny,4,\nz,4,2\nroom,1,1\n"
    _, out, _ = solve(tmp_path, capsys, "assignment", content, "--json")
    found = json.loads(out)
    assert found["value"] == pytest.approx(6)
    assert 6 <= found["upper_bound"] < 6.02


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("transport", ASSIGNMENT, "line 1: the last column must be 'demand'"),
        ("transport", TRANSPORT.replace("capacity", "room"), "line 4: the last row must be 'capacity'"),
        (
            "transport",
            TRANSPORT.replace("30", "-3"),
            "line 2, column 'demand': '-3' is not a finite number of at least 0",
        ),
        ("transport", TRANSPORT.replace("1.2,30", "x,30"), "line 2, column 'atlanta': 'x' is not a finite number"),
        ("transport", TRANSPORT.replace("1.2,30", "30"), "line 2: 3 cells, the header has 4"),
        ("transport", TRANSPORT.replace("atlanta,1", "denver,1"), "row 'denver' appears twice"),
        ("transport", TRANSPORT.replace("40,40", "0,0"), "capacity: no column has any"),
        ("transport", ",a,demand\nx,,1\ncapacity,1,\n", "mask: every pair is forbidden"),
        ("transport", TRANSPORT.replace("40,40,", "40,40,9"), "nothing may stand in row 'capacity' under 'demand'"),
        ("transport", "", "a header, a row and the row 'capacity' are needed"),
        ("assignment", ASSIGNMENT.replace("1,1,\n", "1,1.5,\n"), "'1.5' is not a whole number of at least 0"),
        ("assignment", ASSIGNMENT.replace("5", "500000000000"), "floats have no such limit (--floats)"),
        ("assignment", ASSIGNMENT.replace("5", "5e300"), "too large to be counted (--floats)"),
        ("assignment", ASSIGNMENT.replace("1,1,\n", "1,1e300,\n"), "room of less than 2**31 is needed, 1e+300 is not"),
        ("transport", TRANSPORT.replace(",denver", ",buffered"), "no column may be called 'buffered'"),
        ("transport", TRANSPORT.replace("atlanta,1", "price,1"), "no row may be called 'price'"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_place(tmp_path, capsys, kind, content, message):
    status, out, err = solve(tmp_path, capsys, kind, content)
    assert status == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path, capsys):
    assert main(["solve", "transport", str(tmp_path / "none.csv")]) == 2
    assert "none.csv: cannot be read" in capsys.readouterr().err
    status, _, err = solve(tmp_path, capsys, "assignment", ASSIGNMENT, "--out", str(tmp_path / "no" / "where.csv"))
    assert status == 2
    assert "cannot be written" in err


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=',\n" ab1-.enx', max_size=80) | st.binary(max_size=60))
def test_any_file_is_a_tableau_or_an_input_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "file.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    try:
        found = read(path, "demand", "capacity")
    except InputError:
        return
    assert np.isfinite(found.cells).all()
