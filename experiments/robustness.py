"""Does the result on the default world hold elsewhere? Other networks, loads, placements of the fleet, and trouble.

Every row is one `torta compare`, against a policy in the same worlds; nothing is tuned or calibrated anew.

    python -m experiments.robustness                                # against SkyLB
    python -m experiments.robustness --reference skylb-engineered
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import track
from rich.table import Table

MORNING = {"polska": "4.3", "gabriel": "5.6", "cost2": "5"}
"""UTC hour at which the sun is, over the regions' mean, where it is over Abilene's when the default world begins."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "default": (),
    **{name: ("--topology", name) for name in MORNING},
    **{f"{name}, morning": ("--topology", name, "--start-hour", hour) for name, hour in MORNING.items()},
    **{f"load {load}": ("--load", load) for load in ("0.3", "0.45", "0.7", "0.8", "0.9")},
    **{f"from {hour} h UTC": ("--start-hour", hour) for hour in ("0", "6", "15", "18")},
    **{f"placement {seed}": ("--fleet-seed", str(seed)) for seed in range(1, 5)},
    "hourly prices": ("--prices", "hourly"),
}
"""World -> options of `torta compare`."""

EVENTS = {
    "surge": "[[surge]]\nstart_slot = 160\nnum_slots = 30\nfactor = 2.5\n",
    "two regions fail": '[[failure]]\nstart_slot = 200\nnum_slots = 40\nregions = ["CHINng", "HSTNng"]\n',
    "price shock": '[[price_shock]]\nstart_slot = 120\nnum_slots = 240\nfactor = 4.0\nregions = ["DNVRng", "KSCYng"]\n',
}
"""World -> events of its `--config`."""

ROOM = "4"
"""Slots of waiting tasks that the simulator has room for, everywhere alike."""

TIMES = {"response_s": "response s", "response_p99_s": "p99 s", "overhead_s_per_task": "overhead s/task"}


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    policies: tuple[str, ...] = ("skylb", "skylb-engineered", "torta-paper", "torta")
    reference: str = "skylb"  # one of the policies, with which the others are compared
    seeds: int = 8
    json: bool = False  # one JSON document on stdout in place of the table


def compare(words: tuple[str, ...], events: str, options: Options) -> tuple[dict[str, Any], list[str]]:
    """The result document of one comparison, and what it said beside: where tasks found no room in the padding."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "world.toml"
        config.write_text(events)
        command = [sys.executable, "-m", "torta_jax.cli.main", "compare", "-q", "--json", "--config", str(config)]
        command += ["--seeds", str(options.seeds), "--room", ROOM, *words]
        command += ["--policies", *options.policies, "--reference", options.reference]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return json.loads(done.stdout), done.stderr.splitlines()


def cells(document: dict[str, Any], policy: str) -> list[str]:
    """Its own response and cost; differences against the reference; shares of tasks that the two dropped."""
    paired, other = document["paired"][policy], document["policies"][document["world"]["reference"]]
    own = document["policies"][policy]
    seconds = [_interval(paired[metric], 1.0, 2) for metric in TIMES]
    cost = _interval(paired["power_cost_usd"], 100 / other["power_cost_usd"], 1)
    dropped = " / ".join(f"{100 * entry['dropped'] / entry['arrived']:.2f}" for entry in (own, other))
    return [f"{own['response_s']['mean']:.2f}", f"{own['power_cost_usd']:.2f}", *seconds, cost, dropped]


def _interval(difference: dict[str, float], scale: float, digits: int) -> str:
    middle, low, high = (scale * difference[key] for key in ("difference", "low", "high"))
    return f"{middle:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def main() -> None:
    options, progress = tyro.cli(Options, description=__doc__), Console(stderr=True)
    documents = {}
    for name in track((*OPTIONS, *EVENTS), "comparing", console=progress):
        documents[name], notes = compare(OPTIONS.get(name, ()), EVENTS.get(name, ""), options)
        for note in notes:
            progress.print(f"{name}: {note}", highlight=False)
    if options.json:
        print(json.dumps(documents, indent=2))
        return
    differences = (f"Δ {name}" for name in (*TIMES.values(), "cost %"))
    headings = ("world", "policy", "response s", "cost $", *differences, f"dropped %, own / {options.reference}")
    table = Table(*headings, box=None, pad_edge=False)
    for name, document in documents.items():
        prices = document["world"]["prices"]
        for policy in document["paired"]:
            table.add_row(name if prices == "flat" else f"{name}, prices {prices}", policy, *cells(document, policy))
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


if __name__ == "__main__":
    main()
