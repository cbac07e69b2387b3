"""Tune the numbers beneath a trained network in the task model, on random worlds; the network stays as it is.

    python -m experiments.retune results/train/policy.npz --out results/tuned/policy.npz

What a network learned in the fluid model is held to what tasks do. For a blind one (`torta train torta --blind`) this
tunes `torta` itself: the yardstick of `experiments.generalise`. The worlds are of training's kinds, under keys of their
own; the numbers are those that `experiments.tune` gives `torta`.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console

from experiments import generalise
from experiments.search import Numbers, minimise
from experiments.tune import SPACES, nested
from torta_jax import schedulers
from torta_jax.learn.recipes import KINDS
from torta_jax.schedulers.policy_file import pack, unpack
from torta_jax.schedulers.tuned import with_numbers
from torta_jax.types import numbers

TUNING = 1_000_004
"""Keys of these worlds are folded from this number."""


@dataclass(frozen=True)
class Options:
    """Size of the search."""

    file: Annotated[Path, tyro.conf.Positional]
    out: Path
    evaluations: int = 150
    clusters: int = 16  # of each kind
    slots: int = 120
    width: float = 0.08  # of the first steps, in shares of the ranges


def flat(policy: schedulers.Rules) -> Numbers:
    """The numbers a policy has now, by the names of the search."""
    parts = (name.split(".") for name in SPACES["torta"])
    return {f"{part}.{leaf}": float(getattr(getattr(policy, part), leaf)) for part, leaf in parts}


def main() -> None:
    options, console = tyro.cli(Options, description=__doc__), Console(stderr=True, highlight=False)
    policy = schedulers.load(options.file)
    size = generalise.Options((), clusters=options.clusters, slots=options.slots)
    every = [generalise.held_out(size, kind, 12, TUNING) for kind in KINDS.values()]
    begun = time.perf_counter()

    def cost(found: Numbers) -> float:
        made = numbers(with_numbers(policy, nested(found)))
        return float(np.mean([generalise.in_tasks(worlds, made, size)["objective"] for worlds in every]))

    def tell(found: Numbers, value: float) -> None:
        console.print(f"{time.perf_counter() - begun:.0f} s: {value:.3f} s per task")

    start = flat(policy)
    console.print(f"as it was: {cost(start):.3f} s per task")
    best, value = minimise(cost, SPACES["torta"], options.evaluations, start=start, width=options.width, tell=tell)
    parameters, facts = unpack(options.file)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(pack(jax.device_get(parameters), facts | {"numbers": nested(best)}))
    console.print(f"{value:.3f} s per task: {best}; wrote {options.out}")


if __name__ == "__main__":
    main()
