"""Whatever a file holds: a table or one clear error."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from torta_jax.errors import InputError
from torta_jax.workload import Trace, TraceTable, read
from torta_jax.workload.report import measure

FIXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
CELL = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["", "nan", "-1", "1e309", "0x10", "1_0", "2024-01-01", "9999-12-31T00:00:00Z", '"', "'", ","]),
    st.integers().map(str),
    st.floats().map(str),
    st.datetimes().map(str),
)
COLUMN = st.sampled_from(["timestamp", "input_tokens", "ContextTokens", "output_tokens", "model", "region", "x"])


def a_table_or_an_input_error(path):
    try:
        table = read(path)
    except InputError:
        return
    assert isinstance(table, TraceTable)
    assert len(table) == len(table.input_tokens) == len(table.output_tokens) > 0
    assert (table.time_s >= 0).all()
    str(measure(table))
    Trace.from_table(table, num_slots=2, regions=table.regions, model_gb=[1.0] * max(1, len(table.models)))


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_any_bytes(tmp_path, suffix):
    @FIXED
    @given(st.binary(max_size=200))
    def run(data):
        path = tmp_path / f"trace.{suffix}"
        path.write_bytes(data)
        a_table_or_an_input_error(path)

    run()


@pytest.mark.parametrize("separator", [",", "\t"])
def test_any_cells_of_a_csv(tmp_path, separator):
    @FIXED
    @given(st.lists(COLUMN, max_size=5), st.lists(st.lists(CELL, min_size=3, max_size=5), max_size=4))
    def run(names, rows):
        path = tmp_path / "trace.csv"
        text = "\n".join(separator.join(row) for row in [["timestamp", "input_tokens", "output_tokens", *names], *rows])
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        a_table_or_an_input_error(path)

    run()


def test_mostly_good_cells_of_a_csv(tmp_path):
    good = st.tuples(st.floats(0, 1e4).map(str), st.integers(0, 9).map(str), st.integers(0, 9).map(str))

    @FIXED
    @given(st.lists(good, min_size=1), st.one_of(st.none(), st.tuples(st.integers(0, 2), CELL)))
    def run(rows, fault):
        cells = sorted(([*row] for row in rows), key=lambda row: float(row[0]))
        if fault is not None:
            cells[0][fault[0]] = fault[1]
        path = tmp_path / "trace.csv"
        lines = ["timestamp,input_tokens,output_tokens", *(",".join(row) for row in cells)]
        path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        if fault is None:
            assert len(read(path)) == len(rows)
        a_table_or_an_input_error(path)

    run()


def test_any_values_of_a_jsonl(tmp_path):
    value = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=2),
        max_leaves=3,
    )

    @FIXED
    @given(st.lists(st.dictionaries(COLUMN, value, max_size=6), max_size=4))
    def run(rows):
        path = tmp_path / "trace.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        a_table_or_an_input_error(path)

    run()
