"""What trainings are worth on topologies, and on a trace, that none of them has seen: the worlds of `torta compare`.

    python -m experiments.transfer results/{blind,blind?,seed?}/policy.npz [--trace FILE]

The first file of `torta train torta --blind` is the reference, the tuned numbers. Two tables for each world, of the
task model: what every policy costs, against the reference and against `torta`; and against SkyLB what the paper
compares. Intervals are over seeds and, for the mean of several trainings, over trainings, too; the reference is one.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments import answer, asked
from experiments.compared import compared
from experiments.generalise import loaded, parted
from experiments.intervals import relative, with_interval
from torta_jax.cli.world import World as Compared
from torta_jax.evaluate.episode import counts, measures
from torta_jax.evaluate.rollout import evaluate
from torta_jax.schedulers import Learned
from torta_jax.schedulers.trained import TOPOLOGIES

OTHERS = ("skylb", "skylb-engineered", "torta")
"""Policies of the package that are judged, too."""

ROOM = 4.0
"""Slots of waiting tasks that the simulator has room for, as in `experiments.robustness`; for a trace as many as in
`torta compare`."""

Measured = dict[str, dict[str, np.ndarray]]
"""[trainings, seeds] of every measure, by policy."""


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    # of `torta train torta`, before all options; the first blind one is the reference
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    topologies: tuple[str, ...] = TOPOLOGIES  # of the paper
    trace: Path | None = None  # a CSV file, replayed on Abilene
    seeds: int = 8  # worlds, the same for every policy
    slots: int | None = None  # default: those of `torta compare`


def measured(built: Compared, files: dict[str, Learned], trainings: Sequence[str]) -> Measured:
    """Every policy in the worlds of a comparison, and the mean of several trainings."""
    episodes = evaluate(
        built.cluster,
        built.workload,
        built.scenario,
        built.policies | files,
        built.options.seeds,
        built.facts["slots"],
        physics=built.physics,
    )
    found = {}
    for name, episode in episodes.items():
        each = measures(episode)
        each["dropped"] = 100 * each["dropped"] / counts(episode)["arrived"]
        found[name] = {key: x[None] for key, x in each.items()}
    if len(trainings) > 1:
        every = [found[name] for name in trainings]
        mean = {key: np.concatenate([one[key] for one in every]) for key in every[0]}
        found[f"mean of {len(trainings)} trainings"] = mean
    return found


def costs(title: str, found: Measured, reference: str) -> Table:
    """Eq 1 and what it is made of; differences to the tuned numbers and to `torta`."""
    shown = Table("policy", title=f"{title}: task model, per task")
    against = (reference, "torta")
    names = ("Eq 1 s", *(f"against {name}, s" for name in against), "response s", "cost $", "overhead s", "drops %")
    for column in names:
        shown.add_column(column, justify="right")
    for name, values in found.items():
        differences = (values["objective_s_per_task"] - found[other]["objective_s_per_task"][0] for other in against)
        shown.add_row(
            *(name, f"{values['objective_s_per_task'].mean():.2f}", *map(with_interval, differences)),
            *(f"{values[key].mean():.2f}" for key in ("response_s", "power_cost_usd", "overhead_s_per_task")),
            f"{values['dropped'].mean():.3f}",
        )
    return shown


def against_skylb(title: str, found: Measured) -> Table:
    """What the paper compares: in per cent of SkyLB's, load balance by how much; and the drops themselves."""
    shown = Table("policy", title=f"{title}: difference to SkyLB")
    names = {"response_s": "response, %", "power_cost_usd": "cost, %", "overhead_s_per_task": "overhead, %"}
    for column in (*names.values(), "load balance, points", "drops, % of tasks"):
        shown.add_column(column, justify="right")
    for name, values in found.items():
        cells = (with_interval(relative(values[key], found["skylb"][key][0]), "+.1f") for key in names)
        balance = with_interval(values["load_balance"] - found["skylb"]["load_balance"][0])
        shown.add_row(name, *cells, balance, f"{values['dropped'].mean():.3f}")
    return shown


def main() -> None:
    options, console = asked(Options, __doc__, ("topologies", "files")), Console(stderr=True, highlight=False)
    files = loaded(options.files)
    reference, trainings = parted(files)
    size = {"seeds": options.seeds, "slots": options.slots}
    built = compared(options.topologies, options.trace, policies=OTHERS, room=ROOM, **size)
    out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for title, world in built.items():
        begun = time.perf_counter()
        found = measured(world, files, trainings)
        console.print(f"{title}: {time.perf_counter() - begun:.0f} s")
        out.print(costs(title, found, reference))
        out.print(against_skylb(title, found))


if __name__ == "__main__":
    answer(main)
