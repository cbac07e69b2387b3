import csv
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from torta_jax.errors import InputError
from torta_jax.workload import check, read

HEADER = "timestamp,input_tokens,output_tokens\n"
TIME = ["2023-11-16 18:15:46.6805900", "2023-11-16 18:15:50.9951690", "2023-11-16 18:16:51.2224670"]
AZURE = {"TIMESTAMP": TIME, "ContextTokens": [374, 396, 879], "GeneratedTokens": [44, 109, 55]}
GENERAL = {
    "timestamp": [0.5, 0.75, 100.0],
    "input_tokens": [1, 0, 10_000_000],
    "output_tokens": [5, 6, 7],
    "model": ["b", "a", "a"],
    "region": ["Ulm", "Ulm", "Köln"],
}


def write(folder, kind, columns, name="trace"):
    """A file of the given kind, by other means than the reader's."""
    path = folder / f"{name}.{kind}"
    rows = list(zip(*columns.values(), strict=True))
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    elif kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([list(columns), *rows])
    else:
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    return path


def csv_with(folder, text, name="trace.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_all_formats_give_the_same_table(tmp_path, kind):
    azure = read(write(tmp_path, kind, AZURE))
    np.testing.assert_allclose(azure.time_s, [0, 4.314579, 64.541877], rtol=0, atol=1e-9)
    np.testing.assert_array_equal(azure.input_tokens, [374, 396, 879])
    np.testing.assert_array_equal(azure.output_tokens, [44, 109, 55])
    assert azure.model is azure.region is None
    general = read(write(tmp_path, kind, GENERAL, "general"))
    np.testing.assert_array_equal(general.time_s, [0, 0.25, 99.5])
    assert general.models == ("a", "b")
    assert general.regions == ("Ulm", "Köln")
    np.testing.assert_array_equal(general.model, [1, 0, 0])
    np.testing.assert_array_equal(general.region, [0, 0, 1])


def test_parquet_may_hold_real_timestamps(tmp_path):
    moments = pa.array(np.array(["2024-01-01T00:00:00", "2024-01-01T00:00:01.5"], "datetime64[ms]"))
    for zone in (None, "UTC"):
        columns = {"timestamp": moments.cast(pa.timestamp("ms", zone)), "input_tokens": [1, 2], "output_tokens": [1, 2]}
        path = tmp_path / "typed.parquet"
        pq.write_table(pa.table(columns), path)
        np.testing.assert_array_equal(read(path).time_s, [0, 1.5])


@pytest.mark.parametrize("suffix", ["Z", "+00:00", "+02:00", "-0500"])
def test_times_may_carry_a_zone(tmp_path, suffix):
    path = write(tmp_path, "csv", AZURE | {"TIMESTAMP": [moment + suffix for moment in TIME]})
    np.testing.assert_allclose(read(path).time_s, [0, 4.314579, 64.541877], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("first", "hour"),
    [
        ("2023-11-16 18:15:46.6805900", 18 + 15 / 60 + 46.68059 / 3600),
        ("2023-11-16T18:30:00Z", 18.5),
        ("2023-11-16T01:30:00+02:00", 23.5),
        ("1969-12-31 06:00:00", 6),
        ("0", 0),
        ("92700", 1.75),
        ("1700157600", 18),  # since 1970: 2023-11-16, 18:00 UTC
    ],
)
def test_the_clock_of_the_prices_starts_with_the_first_request(tmp_path, first, hour):
    table = read(csv_with(tmp_path, f"{HEADER}{first},1,2\n"))
    assert table.start_hour_utc == pytest.approx(hour, abs=1e-9)


def test_column_names_ignore_case_spaces_and_underscores_and_other_columns_do_not_matter(tmp_path):
    text = "\ufeffuser, Input Tokens ,OUTPUT-TOKENS,Timestamp\r\nme,1,2,3\r\nyou, 4 ,5.0,1e1\r\n\r\n"
    table = read(csv_with(tmp_path, text))
    np.testing.assert_array_equal(table.time_s, [0, 7])
    np.testing.assert_array_equal(table.input_tokens, [1, 4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER + "0,1,2\n1,-3,2\n", r"line 3: input_tokens = '-3': allowed are whole numbers from 0 to 10000000"),
        (HEADER + "0,1,2\n1,2,NaN\n", r"line 3: output_tokens = 'NaN': allowed"),
        (HEADER + "0,1,2\n1,2.5,3\n", r"line 3: input_tokens = '2.5'"),
        (HEADER + "0,1,2\n1,,3\n", r"line 3: input_tokens = ''"),
        (HEADER + "0,1,2\n1,20000000,3\n", r"line 3: input_tokens = '20000000'"),
        (HEADER + "0,one,2\n", r"line 2: input_tokens = 'one'"),
        (HEADER + "0,1,2\nsoon,1,2\n", r"line 3: timestamp = 'soon': allowed are numbers"),
        (HEADER + "0,1,2\ninf,1,2\n", r"line 3: timestamp = 'inf'"),
        (HEADER + "2024-01-01,1,2\n5,1,2\n", r"line 3: timestamp = '5': allowed are seconds, or ISO 8601"),
        (HEADER + "2024-13-01,1,2\n", r"line 2: timestamp = '2024-13-01'"),
        (HEADER + "2024-01-01T00:00:00Z,1,2\n2024-01-01T00:00:00,1,2\n", r"line 3: .* with a time zone"),
        (HEADER + "0,1,2\n5,1,2\n4,1,2\n", r"line 4: timestamp is before the one above"),
        (HEADER + "0,1,2\n1,2\n", r"line 3: 2 columns where the header has 3"),
        (HEADER + "0,1,2\n1,2,3,4\n", r"line 3: 4 columns where the header has 3"),
        (HEADER + "0,1,2\n\n1,2,3\n", r"line 3: timestamp = ''"),
        (HEADER, "no rows below the header"),
        ("", r"an empty file"),
        ("timestamp,input_token,output_tokens\n0,1,2\n", r"'input_tokens' is missing; is it 'input_token'\?"),
        ("timestamp,input_tokens\n0,1\n", r"'output_tokens' is missing \(found: timestamp, input_tokens\)"),
        ("timestamp,ContextTokens,input_tokens,output_tokens\n0,1,1,2\n", "two columns hold input_tokens"),
        (HEADER[:-1] + ",region\n0,1,2,\n", r"line 2: region = '': allowed are names"),
        (b"PK\x03\x04\x00\x00", "a binary file"),
        (HEADER.encode() + b"0,1,2\n1,\xff,2\n", "line 3: not UTF-8"),
    ],
)
def test_a_bad_csv_is_refused_with_file_line_field_and_range(tmp_path, text, message):
    path = csv_with(tmp_path, text)
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"timestamp": 0, "input_tokens": 1, "output_tokens": 2}\n\n{"timestamp": 1}', "line 3: 'input_tokens' is"),
        ('{"timestamp": 0, "input_tokens": true, "output_tokens": 2}', "line 1: input_tokens = 'True'"),
        ('{"timestamp": 0, "input_tokens": null, "output_tokens": 2}', "line 1: input_tokens = ''"),
        ('{"timestamp": 0, "input_tokens": [1], "output_tokens": 2}', "line 1: input_tokens = ''"),
        ('{"timestamp": 0, "input_tokens": NaN, "output_tokens": 2}', "line 1: input_tokens = 'nan'"),
        ("[1, 2]", "line 1: a JSON object was expected"),
        ("{nonsense", "line 1: not JSON"),
        ("[" * 100_000, "line 1: not JSON"),
        ('{"timestamp": ' + "1" * 5000 + ', "input_tokens": 1, "output_tokens": 2}', "line 1"),
        ('{"timestamp": "\\ud800", "input_tokens": 1, "output_tokens": 2}', "line 1: timestamp = '?'"),
        ("\n \n", "no rows"),
    ],
)
def test_a_bad_jsonl_is_refused_with_file_and_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read(csv_with(tmp_path, text, "trace.jsonl"))


def test_a_bad_parquet_is_refused(tmp_path):
    with pytest.raises(InputError, match="parquet"):
        read(csv_with(tmp_path, b"PAR1 not really PAR1", "trace.parquet"))
    with pytest.raises(InputError, match="row 2: input_tokens = ''"):
        read(write(tmp_path, "parquet", AZURE | {"ContextTokens": [1, None, 2]}))
    with pytest.raises(InputError, match="no rows"):
        read(write(tmp_path, "parquet", {name: pa.array([], pa.float64()) for name in GENERAL}))
    with pytest.raises(InputError, match="parquet"):
        read(write(tmp_path, "parquet", AZURE | {"ContextTokens": [[1], [2], [3]]}))


def test_a_wrong_extension_or_path_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"unknown trace format '.jsonlines'; did you mean '.jsonl'"):
        read(tmp_path / "trace.jsonlines")
    with pytest.raises(InputError, match="No such file"):
        read(tmp_path / "nothing.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="directory"):
        read(tmp_path / "folder.csv")


def test_a_report_measures_the_whole_windows(tmp_path):
    times = np.concatenate([np.full(4, 10.0), np.full(2, 20.0), [32.0]])
    columns = {"timestamp": times, "input_tokens": np.arange(7), "output_tokens": np.arange(7) * 10}
    report = check(write(tmp_path, "csv", columns), slot_s=5.0)
    assert (report.rows, report.span_s) == (7, 22.0)
    rate = np.array([4, 0, 2, 0])
    assert (report.rate_mean, report.rate_min, report.rate_max) == (1.5, 0, 4)
    assert report.dispersion == pytest.approx(rate.var(ddof=1) / 1.5)
    assert report.output_tokens[0.5] == 30
    assert report.problems == (
        "2 of 4 slots of 5 s are empty",
        "requests without input tokens: 1",
        "requests without output tokens: 1",
    )
    assert "7 requests" in str(report)


def test_a_trace_of_one_moment_has_a_report(tmp_path):
    report = check(csv_with(tmp_path, HEADER + "5,1,1\n5,1,1\n"))
    assert report.rows == 2
    assert np.isnan(report.rate_mean)
    assert any("same time" in problem for problem in report.problems)
    assert "no rate, shorter than one window" in str(report)
    assert "nan" not in str(report)


def test_rescaling_stretches_time_and_multiplies_requests(tmp_path):
    times = np.sort(np.random.default_rng(0).uniform(0, 1e4, 4000))
    columns = {"timestamp": times, "input_tokens": np.arange(4000), "output_tokens": np.ones(4000, int)}
    table = read(write(tmp_path, "csv", columns))
    twice = table.rescaled(time=2.0)
    np.testing.assert_allclose(twice.time_s, 2 * table.time_s)
    more = table.rescaled(rate=2.5, seed=1)
    copies = np.bincount(more.input_tokens, minlength=4000)
    assert set(copies) == {2, 3}
    assert abs(copies.mean() - 2.5) < 4 * 0.5 / np.sqrt(4000)
    assert (np.diff(more.time_s) >= 0).all()
    less = table.rescaled(rate=0.25, seed=1)
    assert set(less.time_s) <= set(table.time_s)
    wrongs: tuple[dict[str, Any], ...] = ({"rate": 0.0}, {"time": -1.0}, {"rate": np.nan}, {"rate": 1e-9})
    for wrong in wrongs:
        with pytest.raises(InputError):
            table.rescaled(**wrong)
