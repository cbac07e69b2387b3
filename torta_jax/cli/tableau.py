"""One CSV file that holds a whole problem, as operations research writes it.

    ,      denver, atlanta, demand
    denver,     0,     1.2,     30
    atlanta,  1.2,        ,     20
    capacity,  40,      40,

The first line names the columns and the first cell of a line its row. An empty cell is a pair that is not allowed.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torta_jax.cluster.csv_table import lines_of
from torta_jax.errors import require

LARGEST = 1e30
"""Of a number in a file."""


@dataclass(frozen=True)
class Tableau:
    """A matrix with names, a column beside it and a row below."""

    rows: list[str]
    columns: list[str]
    cells: np.ndarray  # [N, C], zero where `mask` is False
    mask: np.ndarray  # [N, C] bool
    side: np.ndarray | None  # [N]
    foot: np.ndarray  # [C]


def read(path: str | Path, side: str, foot: str, *, optional: bool = False, most: int | None = None) -> Tableau:
    """Read a tableau whose last column is `side` and whose last row is `foot`.

    Args:
        optional: the column may be missing.
        most: the last row holds whole numbers, none larger than this.

    Raises:
        InputError: the file cannot be read or is no tableau; it names line and column.
    """
    path = Path(path)
    lines = [(number, [cell.strip() for cell in cells]) for number, cells in lines_of(path)]
    require(len(lines) > 0, f"{path}: empty file, a header, a row and the row {foot!r} are needed")
    require(len(lines) > 2, f"{path}: a header, a row and the row {foot!r} are needed")
    header = lines[0][1][1:]
    there = bool(header) and header[-1] == side
    names_first = "; a line begins with its name, see --help"
    last = lines[0][1][-1][:40]
    require(
        there or (optional and side not in header),
        f"{path}, line {lines[0][0]}: the last column must be {side!r}, it is {last!r}{names_first}",
    )
    columns = header[:-1] if there else header
    require(bool(columns), f"{path}, line {lines[0][0]}: no column before {side!r}")
    last = lines[-1][1][0][:40]
    require(last == foot, f"{path}, line {lines[-1][0]}: the last row must be {foot!r}, it is {last!r}{names_first}")
    rows = [cells[0] for _, cells in lines[1:-1]]
    _named_once(path, "column", header)
    _named_once(path, "row", [*rows, foot])
    body = [_body(f"{path}, line {number}", header, cells, side) for number, cells in lines[1:-1]]
    number, ending = lines[-1]
    corner = ending[len(columns) + 1 :]
    require(not any(corner), f"{path}, line {number}: nothing may stand in row {foot!r} under {side!r}")
    foots = _foot(f"{path}, line {number}", columns, ending[: len(columns) + 1], most)
    cells = np.array(body)[:, : len(columns)]
    return Tableau(
        rows=rows,
        columns=columns,
        cells=np.where(np.isnan(cells), 0.0, cells),
        mask=~np.isnan(cells),
        side=np.array(body)[:, -1] if there else None,
        foot=np.array(foots),
    )


def _body(where: str, header: list[str], cells: list[str], side: str) -> list[float]:
    """The numbers of a line after its name; NaN for an empty cell of the matrix."""
    _as_wide(where, header, cells)
    return [
        math.nan if text == "" and column != side else _number(where, column, text, 0 if column == side else -LARGEST)
        for column, text in zip(header, cells[1:], strict=True)
    ]


def _foot(where: str, columns: list[str], cells: list[str], most: int | None) -> list[float]:
    """The numbers of the last row."""
    _as_wide(where, columns, cells)
    high, whole = (LARGEST, False) if most is None else (most, True)
    return [_number(where, column, text, 0, high, whole) for column, text in zip(columns, cells[1:], strict=True)]


def _as_wide(where: str, columns: list[str], cells: list[str]) -> None:
    require(len(cells) == len(columns) + 1, f"{where}: {len(cells)} cells, the header has {len(columns) + 1}")


def _number(where: str, column: str, text: str, low: float, high: float = LARGEST, whole: bool = False) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    right = low <= number <= high and not (whole and number % 1)  # false for NaN
    what = "a whole number" if whole else "a number"
    require(right, f"{where}, column {column!r}: {text[:40]!r} is not {what} from {low:.10g} to {high:.10g}")
    return number


def _named_once(path: Path, what: str, names: list[str]) -> None:
    for name, count in Counter(names).items():
        require(name != "", f"{path}: a {what} has no name")
        require(count == 1, f"{path}: {what} {name!r} appears twice")
