"""The result of a comparison as two tables: every policy, and its paired difference against the reference."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from torta_jax.evaluate.compare import METRICS

PLAIN_WIDTH = 10_000
"""Columns where stdout is no terminal: nothing is wrapped."""

GAP = 2

DIFFERENCES = {
    "objective_s_per_task": ("Eq 1 s/task", 2),
    "response_s": ("response s", 2),
    "response_p99_s": ("p99 s", 2),
    "wait_s": ("wait s", 2),
    "load_balance": ("load balance", 3),
    "power_cost_usd": ("cost $", 2),
    "overhead_s_per_task": ("overhead s/task", 2),
}
"""Metrics of the second table: heading and digits."""

LEGEND = (
    "Means over seeds. Eq 1: what a task costs in all, response, electricity (45 s per thousandth of a dollar), server "
    "starts, drops and changes of the plan, in seconds; cost: electricity of the whole run; overhead: seconds of model "
    "loads, migrations and server starts; worst region: largest share of a region's tasks that was dropped"
)

Columns = dict[str, list[Text]]
"""Heading -> one cell per policy."""


def show(document: Mapping[str, Any]) -> None:
    """Print the tables of a result document on stdout; those too wide for a terminal go on below."""
    terminal = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if terminal else PLAIN_WIDTH, no_color=not terminal, highlight=False)
    console.print(_title(document["world"]), soft_wrap=True)
    _print(console, list(document["policies"]), _measures(document["policies"].values()))
    console.print(f"\n{LEGEND}", soft_wrap=True)
    if document["paired"]:
        console.print(f"\nDifference against {_over(document['world'])}", soft_wrap=True)
        _print(console, list(document["paired"]), _differences(document["paired"].values()))


def _over(world: Mapping[str, Any]) -> str:
    """The reference, and what the intervals of the differences are over; a single seed has none."""
    if world["seeds"] == 1:
        return f"{world['reference']}, in one world: no intervals"
    drawn = "what the trace leaves open" if world["trace"] else "arrivals"
    return f"{world['reference']}, seed by seed, with 95 % intervals over seeds of {drawn}"


def _title(world: Mapping[str, Any]) -> str:
    synthetic = "load {load:g}, from {start_hour:g} h UTC"
    arrivals = f"trace {world['trace']}" if world["trace"] else synthetic.format_map(world)
    happens = [f", {len(rows)} × {name.replace('_', ' ')}" for name, rows in world["events"].items() if rows]
    return (
        f"{world['topology']}: {world['regions']} regions, {world['servers']} servers, "
        f"placement {world['fleet_seed']}, {arrivals}, "
        f"{world['seeds']} seeds of {world['slots']} slots of {world['slot_s']:g} s, "
        f"prices: {world['prices']}, information: {world['information']}{''.join(happens)}"
    )


def _measures(entries) -> Columns:
    rows = [_row(entry) for entry in entries]
    return {heading: [Text(row[heading]) for row in rows] for heading in rows[0]}


def _row(entry: Mapping[str, Any]) -> dict[str, str]:
    response = entry["response_s"]
    dropped = entry["dropped"] / entry["arrived"] if entry["arrived"] else 0.0
    return {
        "Eq 1 s/task": _number(entry["objective_s_per_task"], 2),
        "response s": _number(response["mean"], 2),
        "p50": _number(response["p50"], 2),
        "p99": _number(response["p99"], 2),
        "wait s": _number(entry["wait_s"]["mean"], 2),
        "inference s": _number(entry["inference_s"]["mean"], 2),
        "load balance": _number(entry["load_balance"], 3),
        "cost $": _number(entry["power_cost_usd"], 2),
        "overhead s/task": _number(entry["overhead_s_per_task"], 2),
        "dropped %": _number(100 * dropped, 2),
        "worst region %": _number(100 * entry["worst_region_drop_fraction"], 2),
    }


def _differences(entries) -> Columns:
    return {
        heading: [_difference(entry[metric], METRICS[metric], digits) for entry in entries]
        for metric, (heading, digits) in DIFFERENCES.items()
    }


def _print(console: Console, policies: Sequence[str], columns: Columns) -> None:
    """One table, or several where the console is too narrow for all columns: no cell is ever cut."""
    names = max(map(len, policies))
    for number, headings in enumerate(_groups(columns, console.width - names)):
        if number:
            console.print()
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
        table.add_column("policy", no_wrap=True, min_width=names)
        for heading in headings:
            table.add_column(heading, justify="right", no_wrap=True, min_width=_width(heading, columns))
        for index, policy in enumerate(policies):
            table.add_row(policy, *(columns[heading][index] for heading in headings))
        console.print(table)


def _groups(columns: Columns, room: int) -> Iterator[list[str]]:
    """Headings that fit side by side, at least one at a time."""
    group: list[str] = []
    used = 0
    for heading in columns:
        needed = _width(heading, columns) + GAP
        if group and used + needed > room:
            yield group
            group, used = [], 0
        group.append(heading)
        used += needed
    yield group


def _width(heading: str, columns: Columns) -> int:
    return max(len(heading), *(len(cell) for cell in columns[heading]))


def _difference(difference: Mapping[str, float | None], better: int, digits: int) -> Text:
    """`-1.79 [-1.90, -1.68]`, green where the whole interval is better, red where it is worse."""
    low, high = difference["low"], difference["high"]
    cell = Text(_number(difference["difference"], digits, sign=True))
    if low is None or high is None:
        return cell
    cell.append(f" [{_number(low, digits, sign=True)}, {_number(high, digits, sign=True)}]")
    if low * better > 0 and high * better > 0:
        cell.stylize("green")
    elif low * better < 0 and high * better < 0:
        cell.stylize("red")
    return cell


def _number(value: float | None, digits: int, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
