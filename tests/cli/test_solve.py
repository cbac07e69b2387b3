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
    assert found["value"] == pytest.approx(found["cost_of_sent"])
    assert found["lower_bound"] <= best + 1e-9
    assert found["value"] == pytest.approx(best, rel=1e-3)
    assert found["solution"][1] == {"name": "atlanta", "denver": 20.0, "atlanta": 0.0, "buffered": 0.0}


def test_the_csv_is_a_table_like_the_file_and_a_line_that_certifies_it(tmp_path, capsys):
    _, out, _ = solve(tmp_path, capsys, "transport", TRANSPORT, "--epsilon", "0.02")
    *table, certificate = out.splitlines()
    lines = list(csv.reader(io.StringIO("\n".join(table))))
    assert lines[0] == ["", "denver", "atlanta", "buffered"]
    assert [line[0] for line in lines[1:]] == ["denver", "atlanta", "price"]
    assert certificate.startswith("# value 36, cost of sent 36, charge for buffered 0, lower bound 35.")


def test_demand_without_capacity_is_buffered_and_said_to_be(tmp_path, capsys):
    status, out, _ = solve(tmp_path, capsys, "transport", TRANSPORT.replace("40,40", "10,10"), "--json")
    found = json.loads(out)
    assert (status, found["status"]) == (1, "infeasible")
    assert found["buffered"] == pytest.approx(30)
    assert found["cost_of_sent"] == pytest.approx(12, rel=1e-3)
    assert found["charge_for_buffered"] == pytest.approx(30 * (1.2 + 10 * 0.8))


def test_a_file_is_replaced_only_if_asked_and_the_problem_never(tmp_path, capsys):
    path, out = str(tmp_path / "problem.csv"), tmp_path / "result.csv"
    out.write_text("mine")
    status, _, err = solve(tmp_path, capsys, "transport", TRANSPORT, "--out", str(out))
    assert (status, out.read_text()) == (2, "mine")
    assert "is there already; choose another file or add --overwrite" in err
    assert main(["solve", "transport", path, "--out", str(out), "--overwrite"]) == 0
    assert out.read_text().startswith(",denver")
    assert main(["solve", "transport", path, "--out", path, "--overwrite"]) == 2
    assert "is the problem itself" in capsys.readouterr().err
    assert main(["solve", "transport", path, "--out", str(tmp_path / ("x" * 300))]) == 2
    assert "cannot be written (File name too long)" in capsys.readouterr().err


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
        ("transport", ASSIGNMENT, "line 1: the last column must be 'demand', it is 'outside'"),
        ("transport", TRANSPORT.replace("capacity", "room"), "line 4: the last row must be 'capacity', it is 'room'"),
        ("transport", TRANSPORT.replace("30", "-3"), "line 2, column 'demand': '-3' is not a number from 0 to 1e+30"),
        ("transport", TRANSPORT.replace("1.2,30", "x,30"), "column 'atlanta': 'x' is not a number from -1e+30 to 1e"),
        ("transport", TRANSPORT.replace("1.2,30", "1e300,30"), "line 2, column 'atlanta': '1e300' is not a number"),
        ("transport", TRANSPORT.replace("1.2,30", "nan,30"), "line 2, column 'atlanta': 'nan' is not a number"),
        ("transport", TRANSPORT.replace("1.2,30", "30"), "line 2: 3 cells, the header has 4"),
        ("transport", TRANSPORT.replace("atlanta,1", "denver,1"), "row 'denver' appears twice"),
        ("transport", TRANSPORT.replace("40,40", "0,0"), "capacity: no column has any"),
        ("transport", ",a,demand\nx,,1\ncapacity,1,\n", "mask: every pair is forbidden"),
        ("transport", TRANSPORT.replace("40,40,", "40,40,9"), "nothing may stand in row 'capacity' under 'demand'"),
        ("transport", "", "empty file, a header, a row and the row 'capacity' are needed"),
        ("assignment", ",outside,a\nx,1,2\nroom,1,1\n", "line 1: the last column must be 'outside', it is 'a'"),
        ("assignment", ASSIGNMENT.replace("1,1,\n", "1,1.5,\n"), "'1.5' is not a whole number from 0 to 2147483647"),
        ("assignment", ASSIGNMENT.replace("5", "500000000000"), "floats have no such limit (--floats)"),
        (
            "assignment",
            ASSIGNMENT.replace("5", "5e20"),
            "below 2**53 are needed, 5e+20 is not (--floats)",
        ),
        ("assignment", ASSIGNMENT.replace("1,1,\n", "1,1e300,\n"), "line 5, column 'b': '1e300' is not a whole number"),
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
    (tmp_path / "there.csv").write_text("")
    again = ["--out", str(tmp_path / "there.csv"), "--overwrite"]
    assert main(["solve", "transport", str(tmp_path / "none.csv"), *again]) == 2
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
