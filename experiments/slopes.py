"""Does the slope that trains point downhill? Slopes of the mean cost in six constants, against differences.

    python -m experiments.slopes [--file results/blind/policy.npz]

The constants are the corrections of `torta-learned`, the same everywhere and always, from what a blind policy says or
from a point of this script's own. What slopes leave out (`torta_jax.sim.fluid`) and where the model has steps, single
worlds differ; the mean over worlds is what training goes by.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, generalise
from torta_jax import schedulers
from torta_jax.errors import require
from torta_jax.learn import clairvoyant, pathwise
from torta_jax.learn.recipes import KINDS
from torta_jax.schedulers.features import NUM_FEATURES
from torta_jax.schedulers.learned import CORRECTIONS, NETWORK, Learned
from torta_jax.sim.env import Objective
from torta_jax.sim.state import Physics
from torta_jax.types import numbers

START = (0.3, 0.2, -0.3, 0.2, -0.3, -0.2)
"""By the order of `CORRECTIONS`."""

SLOPES = {"open loop": True, "all of it": False}


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    file: Path | None = None
    kinds: tuple[generalise.Kind, ...] = ("calm", "hard")  # of random worlds
    clusters: int = 48  # of each kind
    slots: int = 60  # of 45 s each
    step: float = 0.1  # of the central difference


def constants(file: Path | None) -> jax.Array:
    """The corrections of a blind policy before they are limited, or `START`."""
    if file is None:
        return jnp.asarray(START)
    policy = schedulers.load(file)
    require(isinstance(policy, Learned) and policy.blind, f"--file: {file} is no policy of `torta train torta --blind`")
    assert isinstance(policy, Learned)
    return jnp.asarray(NETWORK.apply(policy.parameters, jnp.ones((1, NUM_FEATURES))))[0]


def main() -> None:
    options = asked(Options, __doc__)
    require(options.clusters > 1, f"--clusters = {options.clusters}: 2 or more are needed for a standard error")
    size = generalise.Options((), clusters=options.clusters, slots=options.slots, root=generalise.DEVELOP)
    base, at = numbers(schedulers.get("torta")), constants(options.file)

    def cost(constant, world, open_loop):
        script = jnp.broadcast_to(constant, (options.slots, world.cluster.num_regions, len(CORRECTIONS)))
        policy = clairvoyant.Script(**vars(base), script=script)
        return pathwise.cost(world, Physics(), policy, Objective(), options.slots, open_loop=open_loop)

    shown = Table(title="seconds per task and unit of a correction, mean over worlds and its standard error")
    for column in ("kind", "", *CORRECTIONS):
        shown.add_column(column, justify="left" if column in ("kind", "") else "right")
    for kind in options.kinds:
        worlds = generalise.held_out(size, KINDS[kind], 12)
        value = jax.jit(lambda constant, worlds=worlds: jax.vmap(partial(cost, constant, open_loop=True))(worlds))
        steps = options.step * jnp.eye(len(CORRECTIONS))
        ends = [np.asarray(value(at + step)) - np.asarray(value(at - step)) for step in steps]
        found = {"difference": np.stack(ends, axis=1) / (2 * options.step)}
        for name, open_loop in SLOPES.items():
            slope = jax.grad(partial(cost, open_loop=open_loop))
            found[name] = np.asarray(jax.jit(jax.vmap(slope, (None, 0)))(at, worlds))
        for name, each in found.items():
            error = each.std(axis=0, ddof=1) / len(each) ** 0.5
            shown.add_row(kind, name, *(f"{a:+.3f} ± {b:.3f}" for a, b in zip(each.mean(axis=0), error, strict=True)))
        shown.add_section()
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(shown)


if __name__ == "__main__":
    answer(main)
