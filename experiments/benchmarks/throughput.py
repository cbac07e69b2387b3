"""Speed of the default experiment, of its parts, and of the same queues in other people's simulators, in one run.

python -m experiments.benchmarks.throughput [--quick] [--json] [--batch 1 16 64] [--policy torta]
"""

import json
import os
import sys
import tempfile
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import compilation, experiment, lanes, peers_ciw, peers_simpy
from experiments.benchmarks.stopwatch import Contestant, Time, race

BATCHES = (1, 16, 64)
GPU_BATCHES = (*BATCHES, 1024, 4096)
PARTS = ("round-robin", "reactive-ot", "torta")
PARTS_BATCH = 16
PEERS = {"SimPy": peers_simpy.run, "ciw (equal servers)": peers_ciw.run, "plain Python": lanes.run}
REFERENCE = "SimPy"
TARGETS = {
    "cluster_slots_per_s": ("cluster-slots/s, 16 clusters", 1500, ">="),
    "compile_s": ("compile s, cold", 15, "<="),
    "cached_compile_s": ("compile s, from the cache", 3, "<="),
    "memory_mb_per_cluster": ("MB per cluster, 16 clusters", 1, "<="),
}


@dataclass(frozen=True)
class Options:
    """Speed of the simulator and of its peers."""

    quick: bool = False  # fewer slots, batches and repeats
    json: bool = False  # JSON on stdout in place of the tables
    batch: tuple[int, ...] = ()  # clusters at once; default: 1, 16, 64, and with a GPU 1024 and 4096
    policy: str = "torta"  # timed for every batch


def main(options: Options) -> None:
    """Measure everything and print it."""
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory() as cache, console.status("compiling") as status:
        tell = status.update if console.is_terminal else partial(print, file=sys.stderr, flush=True)
        document = benchmark(options, cache, tell)
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        show(document)


def benchmark(options: Options, cache: str, tell) -> dict[str, Any]:
    """The whole document; `cache` is an empty directory for compiled programs."""
    num_slots, repeats = (60, 3) if options.quick else (480, 5)
    tell(f"compiling {options.policy} for {PARTS_BATCH} clusters")
    cold = compilation.in_subprocess(cache, options.policy, PARTS_BATCH, num_slots)
    tell("the same from the cache")
    cached = compilation.in_subprocess(cache, options.policy, PARTS_BATCH, num_slots)
    jax.config.update("jax_compilation_cache_dir", cache)
    options = replace(options, batch=options.batch or default_batches(options.quick))
    times = race(contestants(options, num_slots), repeats, tell)
    rows = [row(contestant, time) for contestant, time in times.items()]
    reference = next(row for row in rows if row["name"] == REFERENCE)
    for entry in rows:
        entry["ratio"] = entry["tasks_per_s"] / reference["tasks_per_s"]
        entry["cpu_ratio"] = entry["tasks_per_cpu_s"] / reference["tasks_per_cpu_s"]
    compiled = cold | {"cached_compile_s": cached["compile_s"]}
    return {
        "machine": {"devices": [str(device.device_kind) for device in jax.local_devices()], "cores": os.cpu_count()},
        "repeats": repeats,
        "speed": rows,
        "compilation": compiled,
        "targets": targets(options.policy, rows, compiled),
    }


def default_batches(quick: bool) -> tuple[int, ...]:
    batches = GPU_BATCHES if jax.default_backend() == "gpu" else BATCHES
    return batches[:2] if quick else batches


def contestants(options: Options, num_slots: int) -> list[Contestant]:
    """The batches of one policy, the parts of the experiment, and the peers."""
    whole = [(options.policy, batch) for batch in options.batch]
    whole += [(name, PARTS_BATCH) for name in (*PARTS, options.policy)]
    arrivals = partial(experiment.arrivals_only, PARTS_BATCH, num_slots)
    return [
        Contestant("arrivals alone", PARTS_BATCH, num_slots, arrivals),
        *(
            Contestant(name, batch, num_slots, partial(experiment.simulate, name, batch, num_slots))
            for name, batch in dict.fromkeys(whole)
        ),
        *peers(min(num_slots, 60)),
    ]


def peers(num_slots: int) -> list[Contestant]:
    """One world each, drawn beforehand; building the fleet is part of the time."""
    cluster, model_gb, tasks = experiment.one_world(num_slots)
    contestant = lambda run: lambda: len(run(lanes.fleet(cluster), tasks, model_gb))  # noqa: E731
    return [Contestant(name, 1, num_slots, contestant(run)) for name, run in PEERS.items()]


def row(contestant: Contestant, time: Time) -> dict[str, Any]:
    """One line of the result: the median over the repeats, and the worst."""
    return {
        "name": contestant.name,
        "batch": contestant.batch,
        "slots": contestant.num_slots,
        "cluster_slots_per_s": contestant.cluster_slots / time.median_s,
        "worst_cluster_slots_per_s": contestant.cluster_slots / time.worst_s,
        "tasks_per_s": time.tasks / time.median_s,
        "tasks_per_cpu_s": time.tasks / time.cpu_s,
        "cpu_us_per_cluster_slot": time.cpu_s / contestant.cluster_slots * 1e6,
    }


def targets(policy: str, rows: list[dict[str, Any]], compiled: dict[str, float]) -> list[dict[str, Any]]:
    """What was wanted, beside what was measured."""
    speeds = {(entry["name"], entry["batch"]): entry["cluster_slots_per_s"] for entry in rows}
    measured = compiled | {"cluster_slots_per_s": speeds[policy, PARTS_BATCH]}
    return [
        {
            "name": name,
            "target": bound,
            "sense": sense,
            "measured": measured[key],
            "met": measured[key] >= bound if sense == ">=" else measured[key] <= bound,
        }
        for key, (name, bound, sense) in TARGETS.items()
    ]


def show(document: dict[str, Any]) -> None:
    """Two tables on stdout."""
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    devices = document["machine"]["devices"]
    console.print(f"{len(devices)} × {devices[0]}, median and worst of {document['repeats']} repeats")
    speed = Table(box=box.SIMPLE_HEAD)
    speed.add_column("what")
    for heading in (
        "clusters",
        "slots",
        "cluster-slots/s",
        "worst",
        "tasks/s",
        f"÷ {REFERENCE}",
        "per core",
        "CPU µs/slot",
    ):
        speed.add_column(heading, justify="right")
    for entry in document["speed"]:
        keys = ("batch", "slots", "cluster_slots_per_s", "worst_cluster_slots_per_s", "tasks_per_s")
        cells = [f"{entry[key]:,.0f}" for key in keys]
        speed.add_row(
            entry["name"],
            *cells,
            f"{entry['ratio']:.1f}",
            f"{entry['cpu_ratio']:.1f}",
            f"{entry['cpu_us_per_cluster_slot']:,.0f}",
        )
    console.print(speed)
    wanted = Table("", "target", "measured", "", box=box.SIMPLE_HEAD)
    for entry in document["targets"]:
        bound = f"{entry['sense'].replace('>=', '≥').replace('<=', '≤')} {entry['target']:,}"
        wanted.add_row(entry["name"], bound, f"{entry['measured']:,.2f}", "met" if entry["met"] else "missed")
    console.print(wanted)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
