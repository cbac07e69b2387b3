"""Tune the numbers beneath a trained network in the task model, on random worlds; the network stays as it is.

    python -m experiments.retune results/train/policy.npz --out results/tuned/policy.npz

What a network learned in the fluid model is held to what tasks do. For a blind one (`torta train torta --blind`) this
tunes `torta` itself: the yardstick of `experiments.generalise`. The worlds are of training's kinds, under keys of their
own; the numbers are those that `experiments.tune` gives `torta`, and the entropy of its plans.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro
from rich.console import Console

from experiments import answer, asked, generalise
from experiments.search import Numbers, minimise
from experiments.tune import SPACES, nested
from torta_jax import schedulers
from torta_jax.errors import require
from torta_jax.files import put, writable
from torta_jax.learn.recipes import KINDS
from torta_jax.schedulers.policy_file import pack, unpack
from torta_jax.schedulers.tuned import with_numbers
from torta_jax.types import numbers

SPACE = SPACES["torta"] | {
    "activation.sigma": (0.0, 24.0),
    "transport.smoothing": (0.0, 48.0),
    "transport.utilisation": (0.4, 0.99),
    "transport.epsilon": (0.025, 0.3),
}
"""A network corrects multiples of the first two: their best values lie beyond the ranges of `torta` alone. At one, it
could not correct the third. The last is how sharp a plan is, which `torta` leaves as it is."""

TUNING = 1_000_004
"""Keys of these worlds are folded from this number."""


@dataclass(frozen=True)
class Options:
    """Size of the search."""

    file: Annotated[Path, tyro.conf.Positional]  # of `torta train torta`
    out: Path  # the policy file to write
    evaluations: int = 100  # of the search
    clusters: int = 16  # of each kind
    slots: int = 90  # of 45 s each
    width: float = 0.08  # of the first steps, in shares of the ranges


def flat(policy: schedulers.Rules) -> Numbers:
    """The numbers a policy has now, by the names of the search."""
    parts = (name.split(".") for name in SPACE)
    return {f"{part}.{leaf}": float(getattr(getattr(policy, part), leaf)) for part, leaf in parts}


def main() -> None:
    options, console = asked(Options, __doc__), Console(stderr=True, highlight=False)
    policy = generalise.of_torta(options.file)
    parameters, facts = unpack(options.file)
    require(not options.out.exists(), f"--out {options.out}: is there already; choose another file")
    writable("--out", options.out)
    size = generalise.Options((), clusters=options.clusters, slots=options.slots, root=TUNING)
    every = [generalise.held_out(size, kind, 12) for kind in KINDS.values()]
    begun = time.perf_counter()

    def costs(found: Numbers) -> np.ndarray:
        made = numbers(with_numbers(policy, nested(found)))
        return np.array([generalise.in_tasks(worlds, made, size)["objective"].mean() for worlds in every])

    start = flat(policy)
    before = costs(start)
    console.print(f"as it was: {', '.join(f'{one:.2f}' for one in before)} s per task in {', '.join(KINDS)} worlds")

    def cost(found: Numbers) -> float:  # every kind counts the same, though a light world costs less
        return float((costs(found) / before).mean())

    search = {name: getattr(options, name) for name in ("evaluations", "clusters", "slots", "width")}

    def tell(found: Numbers, value: float) -> None:
        told = facts | {"numbers": nested(found), "retuned": search}
        put(options.out, pack(jax.device_get(parameters), told))
        console.print(f"{time.perf_counter() - begun:.0f} s: {100 * (value - 1):+.2f} %, wrote {options.out}")

    best, value = minimise(cost, SPACE, options.evaluations, start=start, width=options.width, tell=tell)
    console.print(f"{100 * (value - 1):+.2f} %: {best}")


if __name__ == "__main__":
    answer(main)
