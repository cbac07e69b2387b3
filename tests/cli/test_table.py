import io

import pytest
from rich.console import Console

from tests.evaluate.fakes import episodes
from torta_jax.cli import table
from torta_jax.evaluate.compare import document


@pytest.fixture(scope="module")
def result():
    return document({}, episodes(seeds=3, slots=6))


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_number_is_cut_at_any_width(result, width):
    for rows, columns in (
        (result["policies"], table._measures(result["policies"].values())),
        (result["paired"], table._differences(result["paired"].values())),
    ):
        printed = io.StringIO()
        table._print(Console(file=printed, width=width), list(rows), columns)
        assert max(map(len, printed.getvalue().splitlines())) <= width
        for heading, cells in columns.items():
            assert heading in printed.getvalue()
            assert all(cell.plain in printed.getvalue() for cell in cells)


def test_colours_say_better_or_worse_only_where_the_interval_excludes_zero():
    def styles(low, high, better):
        difference = {"difference": (low + high) / 2, "low": low, "high": high}
        return [span.style for span in table._difference(difference, better, 2).spans]

    assert styles(-2.0, -1.0, better=-1) == ["green"]
    assert styles(-2.0, -1.0, better=+1) == ["red"]
    assert styles(-1.0, 1.0, better=-1) == []


def test_what_is_not_known_is_a_dash():
    nothing = {"difference": None, "low": None, "high": None}
    assert table._difference(nothing, -1, 2).plain == "-"
