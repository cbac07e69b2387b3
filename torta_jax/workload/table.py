"""Reading a trace from a file: every cell is checked, and the first bad one is named.

All formats become columns of text first, so that a cell is judged by the same rules wherever it comes from.
"""

import csv
import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from torta_jax.errors import InputError, require, unknown
from torta_jax.files import read_text, unreadable

NAMES = {
    "timestamp": "timestamp",
    "inputtokens": "input_tokens",
    "contexttokens": "input_tokens",
    "outputtokens": "output_tokens",
    "generatedtokens": "output_tokens",
    "model": "model",
    "region": "region",
}
"""Column name without case, spaces, dashes and underscores -> field. The second name of the tokens is that of
the Azure LLM inference traces."""

REQUIRED = ("timestamp", "input_tokens", "output_tokens")
MAX_TOKENS = 10_000_000
MAX_SECONDS = 1e11
DAY_S = 86_400


@dataclass(frozen=True)
class TraceTable:
    """Requests in order of arrival; plain NumPy."""

    source: str  # where they come from, for messages
    time_s: np.ndarray  # [n] float64, seconds since the first request
    input_tokens: np.ndarray  # [n] int64
    output_tokens: np.ndarray  # [n] int64
    model: np.ndarray | None = None  # [n] int32 index into `models`
    region: np.ndarray | None = None  # [n] int32 index into `regions`
    models: tuple[str, ...] = ()  # the most frequent first
    regions: tuple[str, ...] = ()
    start_hour_utc: float = 0.0  # hour of the day of the first request; times in seconds count from midnight

    def __len__(self) -> int:
        return len(self.time_s)

    def rescaled(self, *, time: float = 1.0, rate: float = 1.0, seed: int = 0) -> "TraceTable":
        """The same requests stretched and multiplied.

        Args:
            time: factor on every gap; the arrival rate is divided by it.
            rate: mean number of copies of a request: a whole part, and one more by chance. The first copy
                keeps its time, the others come up to 45 s later (before stretching), not all at once.
            seed: of the copies.

        Raises:
            InputError: for a factor that is not positive and finite, or if no request is left.
        """
        for name, factor in (("time", time), ("rate", rate)):
            require(np.isfinite(factor) and factor > 0, f"{name} = {factor}: a positive number is needed")
        random = np.random.default_rng(seed)
        copies = (rate + random.random(len(self))).astype(int)
        require(bool(copies.any()), f"{self.source}: rate = {rate} leaves no request")
        row = np.repeat(np.arange(len(self)), copies)
        first = np.concatenate([[True], np.diff(row) > 0])
        at = self.time_s[row] + np.where(first, 0.0, random.uniform(0.0, 45.0, len(row)))
        order = np.argsort(at, kind="stable")
        return self._take(row[order], at[order] * time)

    def _take(self, row: np.ndarray, time_s: np.ndarray) -> "TraceTable":
        fields = ("input_tokens", "output_tokens", "model", "region")
        columns = {name: getattr(self, name) for name in fields}
        taken = {name: column[row] for name, column in columns.items() if column is not None}
        return replace(self, time_s=time_s, **taken)


@dataclass(frozen=True)
class _Cells:
    """The columns of a file as text, and how to name one of its rows."""

    path: Path
    columns: dict[str, pa.Array]  # field -> [n] strings, trimmed
    place: Callable[[int], str]  # index of a row -> "line 7"

    def fail(self, row: int, field: str, allowed: str) -> InputError:
        cell = self.columns[field][row].as_py()
        shown = cell if len(cell) <= 40 else cell[:40] + "…"
        return InputError(f"{self.path}, {self.place(row)}: {field} = {shown!r}: allowed are {allowed}")


def read(path: str | Path) -> TraceTable:
    """A trace from CSV (.csv), JSON lines (.jsonl) or Parquet (.parquet).

    Columns, by any of the names in `NAMES`: timestamp (ISO 8601 text, or seconds), input and output tokens
    (whole numbers), and optionally model and region (text). Other columns are ignored.

    Raises:
        InputError: naming the file, the line (1 is the first), the field, the allowed range and the nearest
            column name, for anything that is not such a trace.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: {unknown('trace format', path.suffix, _READERS)}")
    try:
        cells = reader(path)
    except OSError as error:
        raise unreadable(path, error) from error
    except (pa.ArrowException, ValueError, OverflowError, MemoryError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a readable {path.suffix} file: {_first_line(error)}") from error
    return _table(cells)


def _table(cells: _Cells) -> TraceTable:
    time_s, start_hour_utc = _times(cells)
    back = np.flatnonzero(np.diff(time_s) < 0)
    if len(back):
        place = f"{cells.path}, {cells.place(int(back[0]) + 1)}"
        raise InputError(f"{place}: timestamp is before the one above; sort the rows by timestamp")
    model, models = _labels(cells, "model")
    region, regions = _labels(cells, "region")
    return TraceTable(
        source=str(cells.path),
        time_s=time_s - time_s[0],
        start_hour_utc=start_hour_utc,
        input_tokens=_tokens(cells, "input_tokens"),
        output_tokens=_tokens(cells, "output_tokens"),
        model=model,
        region=region,
        models=models,
        regions=regions,
    )


def _read_csv(path: Path) -> _Cells:
    text = read_text(path)
    require(bool(text.strip()), f"{path}: an empty file")
    header, *rest = re.split(r"\r\n|\r|\n", text, maxsplit=1)
    names = next(csv.reader([header]), [])
    fields = _fields(path, names)
    require(bool(rest and rest[0].strip()), f"{path}: no rows below the header")
    ragged: list = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row)
        return "skip"

    position = [f"{index}" for index in range(len(names))]
    # One thread, and no line left out: only then is the number of a row the number of its line.
    table = pyarrow.csv.read_csv(
        pa.BufferReader(rest[0].rstrip().encode()),
        read_options=pyarrow.csv.ReadOptions(use_threads=False, column_names=position),
        parse_options=pyarrow.csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=skip),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types={name: pa.string() for name in position},
            include_columns=[position[index] for index in fields.values()],
            strings_can_be_null=False,
        ),
    )
    if ragged:
        row = ragged[0]
        found = f"{row.actual_columns} columns where the header has {row.expected_columns}"
        raise InputError(f"{path}, line {row.number + 1}: {found}")
    columns = {field: table[position[index]] for field, index in fields.items()}
    return _cells(path, columns, lambda row: f"line {row + 2}")


def _read_jsonl(path: Path) -> _Cells:
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]
    require(bool(lines), f"{path}: no rows")
    rows = [_json_object(path, number, line) for number, line in lines]
    fields = _fields(path, list(rows[0]))
    names = list(rows[0])
    columns = {}
    for field, index in fields.items():
        name = names[index]
        for (number, _), row in zip(lines, rows, strict=True):
            require(name in row, f"{path}, line {number}: {name!r} is missing")
        columns[field] = pa.chunked_array([[_plain(row[name]) for row in rows]], pa.string())
    return _cells(path, columns, lambda row: f"line {lines[row][0]}")


def _read_parquet(path: Path) -> _Cells:
    with path.open("rb") as handle:
        file = pyarrow.parquet.ParquetFile(handle)
        names = file.schema_arrow.names
        fields = _fields(path, names)
        table = file.read(columns=[names[index] for index in fields.values()], use_threads=False)
    require(table.num_rows > 0, f"{path}: no rows")
    text = {field: table[names[index]].cast(pa.string()) for field, index in fields.items()}
    columns = {field: pc.fill_null(column, "") for field, column in text.items()}
    return _cells(path, columns, lambda row: f"row {row + 1}")


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}


def _json_object(path: Path, number: int, line: str) -> dict:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, line {number}: not JSON: {_first_line(error)}") from error
    require(isinstance(row, dict), f"{path}, line {number}: a JSON object was expected")
    return row


def _plain(value: object) -> str:
    """A JSON value as the text of a cell; surrogates, which no other format can hold, are replaced."""
    if value is None or isinstance(value, (list, dict)):
        return ""
    try:
        text = str(value)
    except ValueError:  # whole numbers of thousands of digits are refused by Python itself
        return "a huge number"
    return text.encode("utf-8", "replace").decode("utf-8")


def _fields(path: Path, names: list[str]) -> dict[str, int]:
    """Field -> position of its column."""
    found: dict[str, int] = {}
    for index, name in enumerate(names):
        field = NAMES.get(re.sub(r"[\s_-]", "", name).lower())
        if field is not None:
            require(field not in found, f"{path}: two columns hold {field}")
            found[field] = index
    for field in REQUIRED:
        if field not in found:
            free = [name for index, name in enumerate(names) if index not in found.values()]
            near = difflib.get_close_matches(field, free, n=1, cutoff=0.5)
            hint = f"; is it {near[0]!r}?" if near else ""
            raise InputError(f"{path}: column {field!r} is missing{hint} (found: {', '.join(names)[:200]})")
    return found


def _cells(path: Path, columns: dict[str, pa.ChunkedArray], place: Callable[[int], str]) -> _Cells:
    trim = partial(pc.call_function, "utf8_trim_whitespace")
    return _Cells(path, {name: trim([column.combine_chunks()]) for name, column in columns.items()}, place)


def _cast(cells: _Cells, field: str, kind: pa.DataType, allowed: str) -> pa.Array:
    """A column as another type; the first cell that cannot be is named."""
    column = cells.columns[field]
    if _castable(column, kind):
        return column.cast(kind)
    good, bad = 0, len(column)  # the first `good` cells can be cast, the first `bad` cannot
    while bad - good > 1:
        middle = (good + bad) // 2
        if _castable(column[:middle], kind):
            good = middle
        else:
            bad = middle
    raise cells.fail(good, field, allowed)


def _castable(column: pa.Array, kind: pa.DataType) -> bool:
    try:
        column.cast(kind)
    except pa.ArrowException:
        return False
    return True


def _numbers(cells: _Cells, field: str, low: float, high: float, whole: bool) -> np.ndarray:
    allowed = f"{'whole ' if whole else ''}numbers from {low:.0f} to {high:.0f}"
    numbers = _cast(cells, field, pa.float64(), allowed).to_numpy(zero_copy_only=False)
    good = (numbers >= low) & (numbers <= high) & (not whole or numbers == np.floor(numbers))
    if not good.all():
        raise cells.fail(int(np.argmin(good)), field, allowed)
    return numbers


def _tokens(cells: _Cells, field: str) -> np.ndarray:
    return _numbers(cells, field, 0, MAX_TOKENS, whole=True).astype(np.int64)


def _times(cells: _Cells) -> tuple[np.ndarray, float]:
    """[n] float64 seconds, and the hour of the day of the first; text is ISO 8601, zoned if the first row is."""
    column = cells.columns["timestamp"]
    if _castable(column[:1], pa.float64()):
        seconds = _numbers(cells, "timestamp", -MAX_SECONDS, MAX_SECONDS, whole=False)
        return seconds, float(seconds[0] % DAY_S) / 3600
    zone = "UTC" if re.search(r"[T ].*(Z|[+-]\d\d:?(\d\d)?)$", column[0].as_py()) else None
    allowed = f"seconds, or ISO 8601 times {'with' if zone else 'without'} a time zone as in the first row"
    moment = _cast(cells, "timestamp", pa.timestamp("ns", zone), allowed).cast(pa.int64()).to_numpy()
    # The difference is taken in nanoseconds: a float64 of seconds since 1970 is only good to 0.2 µs. Python
    # integers, since the ends of the type's range are 584 years apart and their difference would wrap around.
    wide = int(moment.max()) - int(moment.min()) >= 2**63
    seconds = (moment.astype(float) if wide else moment - moment[0]) * 1e-9
    return seconds, int(moment[0]) % (DAY_S * 10**9) / 3.6e12


def _labels(cells: _Cells, field: str) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """[n] int32 ids, and the names they stand for, the most frequent first."""
    if field not in cells.columns:
        return None, ()
    encoded = cells.columns[field].dictionary_encode()
    names = encoded.dictionary.to_pylist()
    ids = encoded.indices.to_numpy()
    if "" in names:
        raise cells.fail(int(np.argmax(ids == names.index(""))), field, "names that are not empty")
    rank = np.argsort(-np.bincount(ids, minlength=len(names)), kind="stable")
    return np.argsort(rank)[ids].astype(np.int32), tuple(names[i] for i in rank)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
