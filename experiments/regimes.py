"""Where learning pays: demand noise against the price of switching.

    python -m experiments.regimes [--out results/regimes.png]

In every cell networks, of several seeds, and, by the same method with the same budget, numbers that are the same
everywhere and always (smoothing among them) are trained for that cell's worlds and objective. All are judged on
clusters that none has seen, in the fluid model and in the task model, beside the plan of each slot: `torta`, tuned on
Abilene, without smoothing. The numbers are trained once in a cell; intervals leave their luck out. Negative is better.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import lax
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, drawable, generalise
from experiments.intervals import relative, with_interval
from torta_jax import schedulers
from torta_jax.files import put
from torta_jax.learn import pathwise
from torta_jax.learn.worlds import CALM, Range
from torta_jax.plots.style import render, styled
from torta_jax.schedulers import Learned
from torta_jax.sim.env import Objective
from torta_jax.types import numbers

LEARNED, FIXED, PLAN = "network", "fixed numbers", "plan of each slot"

UNSEEN = 1_000_006
"""Keys of the worlds to judge on are folded from this number."""

Tell = Callable[[str], None]

Found = dict[str, tuple[np.ndarray, np.ndarray]]
"""Objective [trainings, clusters] of each policy in the task and in the fluid model."""


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    noise: tuple[float, ...] = (0.1, 0.3, 0.6)  # standard deviation of the log rate
    switching: tuple[float, ...] = (0.05, 5.0, 50.0)  # seconds per task and unit of ||A_t - A_{t-1}||_F^2
    trainings: int = 10  # of the network
    updates: int = 150  # of every training
    worlds: int = 16  # per update
    clusters: int = 32  # to judge on
    slots: int = 120  # of 45 s each
    out: Path | None = None  # the picture


def kind_of(noise: float) -> Range:
    """Calm worlds with so much noise."""
    return CALM.replace(noise_sigma=(noise, noise))


@partial(jax.jit, static_argnames=("blind", "updates", "worlds"))
def train(kind: Range, objective: Objective, key: jax.Array, *, blind: bool, updates: int, worlds: int) -> Any:
    """Parameters that were trained for worlds of a kind and an objective; one program for all cells."""
    policy = numbers(Learned(**vars(schedulers.get("torta")), blind=blind))
    learner = pathwise.Learner(policy, pathwise.Sizes(num_worlds=worlds), (kind,), objective)
    settings = numbers(pathwise.Numbers(updates=float(updates)))
    begin = learner.init(key)
    return lax.scan(lambda state, _: learner.update(state, settings), begin, None, updates)[0].parameters


def policies(kind: Range, objective: Objective, options: Options, tell: Tell) -> dict[str, list[Any]]:
    """What is compared, and every training of it."""
    size = {"updates": options.updates, "worlds": options.worlds}
    torta = schedulers.get("torta")

    def trained(seed: int, blind: bool) -> Learned:
        learned = train(kind, numbers(objective), jax.random.key(seed), blind=blind, **size)
        jax.block_until_ready(learned)
        tell(f"trained {FIXED if blind else f'{LEARNED} {seed + 1} of {options.trainings}'}")
        return Learned(**vars(torta), parameters=learned, blind=blind)

    return {
        PLAN: [torta.replace(transport=torta.transport.replace(smoothing=0.0))],
        FIXED: [trained(0, blind=True)],
        LEARNED: [trained(seed, blind=False) for seed in range(options.trainings)],
    }


def cell(noise: float, switching: float, options: Options, tell: Tell) -> Found:
    """What every policy costs on unseen clusters with so much noise, where switching costs so much."""
    kind, objective = pathwise.floats(kind_of(noise)), Objective(switching_weight=switching)
    judged = generalise.Options((), clusters=options.clusters, slots=options.slots, root=UNSEEN)
    worlds = generalise.held_out(judged, kind, 12)

    def cost(measured: dict[str, np.ndarray]) -> np.ndarray:
        return measured["objective"] + (switching - Objective().switching_weight) * measured["switching"]

    return {
        name: (
            np.stack([cost(generalise.in_tasks(worlds, numbers(policy), judged)) for policy in trained]),
            np.stack([cost(generalise.in_fluid(worlds, numbers(policy), judged)) for policy in trained]),
        )
        for name, trained in policies(kind, objective, options, tell).items()
    }


def gain(found: Found, new: str, old: str, model: int = 0) -> np.ndarray:
    """[trainings, clusters] by how much one costs more than the other, in per cent of the other's mean."""
    return relative(found[new][model], found[old][model][0])


def tabulate(found: dict[tuple[float, float], Found]) -> Table:
    """One row per cell; differences with 95 % intervals over clusters and trainings of the network."""
    shown = Table(title="where learning pays: objective, % (95 % over clusters and trainings of the network)")
    for column in (
        "noise",
        "switching",
        "plan s",
        "fixed / plan",
        "network / fixed",
        "network / plan",
        "in flows: network / fixed",
    ):
        shown.add_column(column, justify="right")
    for (noise, switching), by_name in found.items():
        pairs = ((FIXED, PLAN), (LEARNED, FIXED), (LEARNED, PLAN))
        cells = (with_interval(gain(by_name, new, old), "+.1f") for new, old in pairs)
        flows = gain(by_name, LEARNED, FIXED, model=1).mean()
        shown.add_row(f"{noise:g}", f"{switching:g}", f"{by_name[PLAN][0].mean():.1f}", *cells, f"{flows:+.1f}")
    return shown


@styled
def draw(found: dict[tuple[float, float], Found], options: Options) -> Figure:
    """A map of what fixed numbers gain over the plan, and of what a network gains over those; empty where not done."""
    figure = Figure(figsize=(8.4, 3.4))
    for index, (new, old) in enumerate(((FIXED, PLAN), (LEARNED, FIXED))):
        values = np.full((len(options.noise), len(options.switching)), np.nan)
        for (noise, switching), by_name in found.items():
            at = options.noise.index(noise), options.switching.index(switching)
            values[at] = gain(by_name, new, old).mean()
        axes = figure.add_subplot(1, 2, index + 1)
        most = max(1.0, float(np.nanmax(np.abs(values))))
        axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, origin="lower", aspect="auto")
        for row, column in np.argwhere(np.isfinite(values)):
            value, where = values[row, column], (options.noise[row], options.switching[column])
            text = with_interval(gain(found[where], new, old), "+.1f").replace(" [", " %\n[")
            axes.text(column, row, text, ha="center", va="center", color="white" if abs(value) > most / 2 else "black")
        axes.set_xticks(range(len(options.switching)), [f"{s:g}" for s in options.switching])
        axes.set_yticks(range(len(options.noise)), [f"{n:g}" for n in options.noise])
        axes.grid(visible=False)
        axes.set_xlabel("price of switching (s per unit)")
        axes.set_ylabel("demand noise (σ of the log rate)")
        axes.set_title(f"{new} against the {old}")
    return figure


def told(console: Console, begun: float, where: str, what: str) -> None:
    """One line of progress."""
    console.print(f"{where}: {what}, {time.perf_counter() - begun:.0f} s")


def main() -> None:
    options, console = asked(Options, __doc__), Console(stderr=True, highlight=False)
    if options.out is not None:
        drawable(options.out)
    cells, found = list(product(options.noise, options.switching)), dict[tuple[float, float], Found]()
    console.print(f"{len(cells)} cells, each with {options.trainings + 1} trainings; compiling first")
    try:
        for noise, switching in cells:
            number = f"{len(found) + 1} of {len(cells)}, noise {noise:g} and switching {switching:g}"
            tell = partial(told, console, time.perf_counter(), number)
            found[noise, switching] = cell(noise, switching, options, tell)
            tell("done")
    finally:  # an interruption does not cost the cells that are done, each of many minutes
        if found:
            Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(tabulate(found))
            if options.out is not None:
                put(options.out, render(draw(found, options), "png"))
                console.print(f"wrote {options.out}")


if __name__ == "__main__":
    answer(main)
