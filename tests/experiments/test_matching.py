"""The comparison of ways to match, at toy size."""

import io

import pytest
from rich.console import Console

from experiments import matching
from torta_jax import schedulers


@pytest.mark.parametrize(
    ("information", "other"),
    [
        ("online", "with an auction's prices"),
        pytest.param("slot", "auction in windows", marks=pytest.mark.slow),
    ],
)
def test_a_table_has_a_row_for_every_way_and_differences_against_the_first(monkeypatch, information, other):
    ways = matching.variants(information)
    assert next(iter(ways)) == matching.REFERENCE
    assert all(way.transport == schedulers.get("torta").transport for way in ways.values()), "not the same macro layer"
    monkeypatch.setattr(matching, "variants", lambda _: {name: ways[name] for name in (matching.REFERENCE, other)})
    table = matching.compare(0.5, 1.0, information, matching.Options(seeds=2, slots=60))
    assert table.title == f"load 0.5, surge of 1, {information}"
    text = io.StringIO()
    Console(file=text, width=120).print(table)
    lines = [line for line in text.getvalue().splitlines() if line.startswith("│")]
    assert [line.split("│")[1].strip() for line in lines] == [matching.REFERENCE, other]
    assert lines[0].count("[") == 0
    assert lines[1].count("[") == 1
