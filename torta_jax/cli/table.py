"""The result of a comparison as two tables: every policy, and its paired difference against the reference."""

import sys
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from torta_jax.evaluate.compare import METRICS

PLAIN_WIDTH = 10_000
"""Columns where stdout is no terminal: nothing is wrapped or cut."""

DIFFERENCES = {
    "response_s": ("response s", 2),
    "response_p99_s": ("p99 s", 2),
    "load_balance": ("load balance", 3),
    "power_cost_usd": ("cost $", 2),
    "overhead_s_per_task": ("overhead s/task", 2),
}
"""Metrics of the second table: heading and digits."""


def show(document: Mapping[str, Any], reference: str) -> None:
    """Print the tables of a result document on stdout."""
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else PLAIN_WIDTH, no_color=not terminal, highlight=False)
    console.print(_title(document["world"]), soft_wrap=True)
    console.print(_policies(document["policies"], terminal))
    if document["paired"]:
        console.print(
            f"Difference against {reference} over paired seeds, with 95 % bootstrap intervals", soft_wrap=True
        )
        console.print(_paired(document["paired"], terminal))


def _title(world: Mapping[str, Any]) -> str:
    arrivals = f"trace {world['trace']}" if world["trace"] else f"load {world['load']:g}"
    return (
        f"{world['topology']}: {world['regions']} regions, {world['servers']} servers, {arrivals}, "
        f"{world['seeds']} seeds of {world['slots']} slots of {world['slot_s']:g} s, "
        f"information: {world['information']}"
    )


def _policies(policies: Mapping[str, Any], terminal: bool) -> Table:
    table = _table(terminal)
    for heading in (
        *("response s", "p50", "p99", "wait s", "inference s", "load balance", "cost $"),
        *("overhead s/task", "dropped %", "worst region %"),
    ):
        table.add_column(heading, justify="right")
    for name, entry in policies.items():
        response = entry["response_s"]
        dropped = entry["dropped"] / entry["arrived"] if entry["arrived"] else 0.0
        table.add_row(
            name,
            *(_number(response[key], 2) for key in ("mean", "p50", "p99")),
            _number(entry["wait_s"]["mean"], 2),
            _number(entry["inference_s"]["mean"], 2),
            _number(entry["load_balance"], 3),
            _number(entry["power_cost_usd"], 2),
            _number(entry["overhead_s_per_task"], 2),
            _number(100 * dropped, 2),
            _number(100 * entry["worst_region_drop_fraction"], 2),
        )
    return table


def _paired(paired: Mapping[str, Any], terminal: bool) -> Table:
    table = _table(terminal)
    for heading, _ in DIFFERENCES.values():
        table.add_column(heading, justify="right")
    for name, differences in paired.items():
        cells = (_difference(differences[key], METRICS[key], digits) for key, (_, digits) in DIFFERENCES.items())
        table.add_row(name, *cells)
    return table


def _table(terminal: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD if terminal else None, pad_edge=False, padding=(0, 1) if terminal else (0, 2))
    table.add_column("policy", no_wrap=True)
    return table


def _difference(difference: Mapping[str, float | None], better: int, digits: int) -> Text:
    """`-1.79 [-1.90, -1.68]`, green where the whole interval is better, red where it is worse."""
    low, high = difference["low"], difference["high"]
    cell = Text(_number(difference["difference"], digits, sign=True))
    if low is None or high is None:
        return cell
    cell.append(f" [{_number(low, digits, sign=True)},\u00a0{_number(high, digits, sign=True)}]")
    if low * better > 0 and high * better > 0:
        cell.stylize("green")
    elif low * better < 0 and high * better < 0:
        cell.stylize("red")
    return cell


def _number(value: float | None, digits: int, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
