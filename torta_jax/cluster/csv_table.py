"""Reading a user's CSV file so that every mistake in it is named by file, line and column."""

import csv
import io
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from torta_jax.errors import InputError, require, unknown
from torta_jax.files import read_text


@dataclass(frozen=True)
class Row:
    """One line of a table; an empty cell counts as absent."""

    where: str  # "FILE, line N"
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """The cell, which must not be empty."""
        value = self.cells.get(column, "")
        require(value != "", f"{self.where}, column {column!r}: empty, a value is needed")
        return value

    def number(self, column: str, low: float, high: float) -> float:
        """The cell as a number in [low, high]."""
        text = self.text(column)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        allowed = low <= value <= high  # false for NaN
        require(
            allowed,
            f"{self.where}, column {column!r}: {text[:40]!r} is not a number from {low:g} to {high:g}",
        )
        return value

    def number_or(self, column: str, low: float, high: float, default: float) -> float:
        """As `number`, with a default for an absent cell."""
        return self.number(column, low, high) if self.cells.get(column) else default


@dataclass(frozen=True)
class Table:
    """A CSV file with a header line and at least one row."""

    path: Path
    columns: tuple[str, ...]
    rows: list[Row]

    def need(self, *columns: str) -> None:
        """Raise `InputError` unless the file has these columns."""
        missing = [column for column in columns if column not in self.columns]
        require(
            not missing,
            f"{self.path}: missing column {', '.join(missing)} (found: {', '.join(self.columns)})",
        )


def read_table(path: str | Path, columns: Collection[str]) -> Table:
    """Read a UTF-8 CSV file whose header holds only names of `columns`, each at most once.

    Raises:
        InputError: the file is missing, unreadable, binary, not CSV, has an unknown or repeated column, a row
            of another length than the header, or no rows.
    """
    path = Path(path)
    lines = lines_of(path)
    require(bool(lines), f"{path}: empty file, a header line and at least one row are needed")
    header = tuple(cell.strip() for cell in lines[0][1])
    for column in header:
        if column not in columns:
            raise InputError(f"{path}, line {lines[0][0]}: {unknown('column', column[:40], columns)}")
        require(header.count(column) == 1, f"{path}, line {lines[0][0]}: column {column!r} appears twice")
    rows = [_row(f"{path}, line {number}", header, cells) for number, cells in lines[1:]]
    require(bool(rows), f"{path}: no rows after the header")
    return Table(path, header, rows)


def lines_of(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, with their numbers from 1.

    Raises:
        InputError: the file is missing, unreadable, binary or not CSV.
    """
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        return [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV ({error})") from None


def _row(where: str, header: tuple[str, ...], cells: list[str]) -> Row:
    require(len(cells) == len(header), f"{where}: {len(cells)} cells, the header has {len(header)}")
    return Row(where, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
