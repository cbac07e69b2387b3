"""Speed and quality of the solvers, beside other people's, in one run: tables here, JSON and a picture in --out.

python -m experiments.benchmarks.solvers [--quick] [--out results/solvers]
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from rich import box
from rich.console import Console
from rich.table import Table

from experiments.benchmarks import instances, solver_peers
from experiments.benchmarks.stopwatch import Contestant, race
from torta_jax import auction, sinkhorn, soft
from torta_jax.plots import style

EPSILON = 0.05
LOADS = (0.7, 1.0, 1.5)
REGIONS = (12, 32, 64)
SIZES = ((64, 16), (32, 10), (256, 32), (1024, 64))
BATCHES = (1, 64, 1024)
GPU_BATCHES = (*BATCHES, 16384)
MOST_VALUES = 2**21
"""Values in a batch at most; larger problems come in smaller batches."""

SLOW = {"optax Hungarian": 64 * 64 * 16, "SciPy assignment": 256 * 32 * 64, "POT batch": 64 * 32 * 32, "POT emd": 2**20}
"""Values in a batch beyond which a peer is left out."""


@dataclass(frozen=True)
class Options:
    """Speed and quality of the solvers, beside other people's."""

    quick: bool = False  # one size, one load, small batches
    out: Path = Path("results/solvers")  # solvers.json and solvers.png
    repeats: int = 3


@dataclass(frozen=True)
class Solver:
    """A contestant: how it runs, and what its result says of its quality."""

    name: str
    run: Callable[[], Any]
    quality: Callable[[Any], dict[str, float]]


def main(options: Options) -> None:
    """Measure everything, print it, write it."""
    console = Console(stderr=True)
    with console.status("drawing problems") as status:
        tell = status.update if console.is_terminal else partial(print, file=sys.stderr, flush=True)
        document = benchmark(options, tell)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "solvers.json").write_text(json.dumps(document, indent=2) + "\n")
    picture(document).savefig(options.out / "solvers.png")
    show(document)
    print(f"wrote {options.out / 'solvers.json'} and solvers.png")


def benchmark(options: Options, tell) -> dict[str, Any]:
    """The whole document."""
    batches = GPU_BATCHES if jax.default_backend() == "gpu" else BATCHES
    batches = batches[1:2] if options.quick else batches
    transport, assignment = [], []
    for regions in REGIONS[:1] if options.quick else REGIONS:
        for batch in batches:
            case = {"regions": regions, "batch": batch}
            transport += measure(transport_solvers(regions, batch), case, batch, options.repeats, tell)
    for tasks, servers in SIZES[:1] if options.quick else SIZES:
        for batch in dict.fromkeys(min(batch, MOST_VALUES // (tasks * servers)) for batch in batches):
            for load in LOADS[1:2] if options.quick else LOADS:
                case = {"tasks": tasks, "servers": servers, "load": load, "batch": batch}
                solvers = assignment_solvers(tasks, servers, load, batch)
                assignment += measure(solvers, case, batch * tasks, options.repeats, tell)
    return {
        "machine": {"devices": [str(device.device_kind) for device in jax.local_devices()], "cores": os.cpu_count()},
        "missing": [name for name in ("ot", "ortools") if not solver_peers.installed(name)],
        "transport": transport,
        "assignment": assignment,
    }


def measure(solvers: list[Solver], case: dict[str, Any], count: int, repeats: int, tell) -> list[dict[str, Any]]:
    """A row for each solver. The first run, which compiles, is timed apart; its result is what quality is read from."""
    first, rows = {}, {}
    for solver in solvers:
        tell(f"{solver.name}, {case}")
        begin = time.perf_counter()
        result = jax.block_until_ready(solver.run())
        first[solver.name], rows[solver.name] = time.perf_counter() - begin, solver.quality(result)

    def timed(solver: Solver) -> Contestant:
        return Contestant(solver.name, case["batch"], 1, lambda: jax.block_until_ready(solver.run()) is None or count)

    times = race([timed(solver) for solver in solvers], repeats, lambda _: None)
    return [
        case
        | {
            "solver": contestant.name,
            "us_per_problem": took.median_s / case["batch"] * 1e6,
            "per_s": count / took.median_s,
            "cpu_us_per_problem": took.cpu_s / case["batch"] * 1e6,
            "first_call_s": first[contestant.name],
        }
        | rows[contestant.name]
        for contestant, took in times.items()
    ]


def transport_solvers(regions: int, batch: int) -> list[Solver]:
    """Ours, with and without gradient, and the peers that are installed and not too slow."""
    rng = np.random.default_rng([regions, batch])
    cases = [instances.transport(rng, regions, 0.7) for _ in range(batch)]
    cost, demand, capacity = (np.stack(part) for part in zip(*cases, strict=True))
    args = tuple(jnp.asarray(x, jnp.float32) for x in (cost, demand, capacity))
    shares = tuple(jnp.asarray(x, jnp.float32) for x in (cost, demand, capacity * 0.7))

    def ours(solve, gradient: bool):
        def value(cost, demand, capacity):
            found = solve(cost, demand, capacity, epsilon=EPSILON)
            return found.value, found.plan

        one = jax.value_and_grad(value, (0, 1, 2), has_aux=True) if gradient else lambda *case: (value(*case), None)
        return partial(jax.jit(jax.vmap(one)), *args)

    def errors(plans, tight: bool = True) -> dict[str, float]:
        """Mass that rows and columns are off by, read from the plans; below its capacity a column may be."""
        plans = np.asarray(plans, float)
        rows = np.abs(plans.sum(axis=2) - demand).sum(axis=1)
        columns = plans.sum(axis=1) - capacity * (0.7 if tight else 1.0)
        off = rows + (np.abs(columns) if tight else np.maximum(columns, 0)).sum(axis=1)
        return {"median_error": float(np.median(off)), "worst_error": float(np.max(off))}

    # As many steps as leave no larger a median error than 100 of ott's iterations. All hand over plans.
    quick = partial(sinkhorn.balanced, scaling_iters=80, newton_iters=0)
    solves = {"balanced, 80 + 0 steps": quick, "balanced": sinkhorn.balanced, "capacitated": sinkhorn.capacitated}
    own = [
        Solver(
            f"{name}{', gradient' * gradient}",
            ours(solve, gradient),
            lambda found, tight=name != "capacitated": errors(found[0][1], tight),
        )
        for name, solve in solves.items()
        for gradient in (False, True)
    ]
    fixed, default = solver_peers.ott(100), solver_peers.ott(None)
    own.append(Solver("ott, 100 iterations", lambda: fixed(*shares), errors))
    own.append(Solver("ott, its defaults", lambda: default(*shares), errors))
    peers = []
    if solver_peers.installed("ot"):
        double = cost, demand, capacity * 0.7
        peers.append(Solver("POT emd", lambda: solver_peers.emd(*double), errors))
        peers.append(Solver("POT batch", lambda: solver_peers.pot_batch(*double), errors))
    return own + affordable(peers, cost.size)


def assignment_solvers(tasks: int, servers: int, load: float, batch: int) -> list[Solver]:
    """Ours, and the peers that are installed and not too slow, on typed values."""
    rng = np.random.default_rng([tasks, servers, int(10 * load), batch])
    cases = [instances.assignment(rng, "typed", tasks, servers, load) for _ in range(batch)]
    whole = tuple(np.stack(part) for part in zip(*cases, strict=True))
    value, room, outside = whole
    best = np.asarray(exact(whole), float)

    def certified(found) -> dict[str, float]:
        gap = (np.asarray(found.dual_value, float) - np.asarray(found.value, float)) / best
        rounds = {"mean_rounds": float(found.rounds.mean()), "worst_rounds": int(found.rounds.max())}
        return (
            gaps(found.value)
            | {"certified_gap": float(gap.max()), "unfinished": int((found.status != 0).sum())}
            | rounds
        )

    def gaps(found) -> dict[str, float]:
        gap = 1 - np.asarray(found, float) / best
        return {"mean_gap": float(gap.mean()), "worst_gap": float(gap.max())}

    def ours(solve, number):
        one = jax.jit(jax.vmap(lambda value, room, outside: solve(value, room, outside=outside)))
        args = jnp.asarray(value, number), jnp.asarray(room), jnp.asarray(outside, number)
        return lambda: one(*args)

    real = jnp.asarray(value, jnp.float32), jnp.asarray(room), jnp.asarray(outside, jnp.float32)
    scan, hungarian = solver_peers.greedy(), solver_peers.hungarian(int(room.sum(axis=1).max()))
    own = [
        Solver("auction", ours(auction.solve, jnp.float32), certified),
        Solver("auction, integers", ours(auction.solve, jnp.int32), certified),
        Solver("soft", ours(soft.solve, jnp.float32), certified),
        Solver("greedy scan", lambda: scan(*real), gaps),
    ]
    peers = [
        Solver("SciPy assignment", lambda: solver_peers.scipy_lsa(*whole), gaps),
        Solver("optax Hungarian", lambda: hungarian(*real), gaps),
    ]
    if solver_peers.installed("ortools"):
        peers.append(Solver("OR-tools flow", lambda: solver_peers.min_cost_flow(*whole), gaps))
    return own + affordable(peers, value.size)


def exact(whole) -> list[float] | list[int]:
    return solver_peers.min_cost_flow(*whole) if solver_peers.installed("ortools") else solver_peers.scipy_lsa(*whole)


def affordable(peers: list[Solver], values: int) -> list[Solver]:
    return [peer for peer in peers if values <= SLOW.get(peer.name, values)]


TABLES = {
    "transport": ("regions", "batch", "solver", "us_per_problem", "median_error", "worst_error", "first_call_s"),
    "assignment": (
        *("tasks", "servers", "load", "batch", "solver", "us_per_problem", "per_s", "mean_gap", "certified_gap"),
        *("mean_rounds", "worst_rounds", "first_call_s"),
    ),
}


def show(document: dict[str, Any]) -> None:
    """Two tables on stdout."""
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    for name in document["missing"]:
        console.print(f"not installed, left out: {name} (experiments/benchmarks/solver_peers.py says how)")
    for title, columns in TABLES.items():
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
        for column in columns:
            table.add_column(column.replace("_", " "), justify="left" if column == "solver" else "right")
        for entry in document[title]:
            table.add_row(*(cell(entry.get(column)) for column in columns))
        console.print(table)


def cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int):
        return f"{value:,}" if isinstance(value, int) else value
    return f"{value:.1e}" if 0 < abs(value) < 0.1 else f"{value:,.1f}"


@style.styled
def picture(document: dict[str, Any]) -> Figure:
    """Time per problem of every solver, in the largest batch of the first size of each table."""
    figure = Figure(figsize=(10, 4.5))
    for axes, (title, entries) in zip(
        figure.subplots(1, 2), ((name, document[name]) for name in ("transport", "assignment")), strict=True
    ):
        size = "regions" if title == "transport" else "tasks"
        first = [entry for entry in entries if entry[size] == entries[0][size]]
        batch = max(entry["batch"] for entry in first)
        shown = [entry for entry in first if entry["batch"] == batch and entry.get("load", 1.0) == 1.0]
        times = [entry["us_per_problem"] for entry in shown]
        rows = range(len(shown))
        axes.plot(times, rows, "o", color="#0072B2")
        for row, time_us in zip(rows, times, strict=True):
            axes.annotate(f"{time_us:,.3g}", (time_us, row), (8, 0), textcoords="offset points", va="center")
        style.horizontal(axes, [entry["solver"] for entry in shown])
        axes.set_xscale("log")
        axes.set_xlim(10 ** np.floor(np.log10(min(times))), 10 ** np.ceil(np.log10(1.2 * max(times))))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("µs per problem")
        shape = f"{shown[0]['regions']} regions" if title == "transport" else f"{shown[0]['tasks']} tasks, load 1"
        axes.set_title(f"{title}: {shape}, batch {batch}")
    return figure


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
