"""What a policy observes, in the fluid model and in the task model: means, and how much luck is in it.

Every world is run with many keys, whose spread is that of luck alone: arrivals, lane times, who is found in a region
when a slot begins. Training in a model with too little of it makes a policy that runs after noise.

    python -m experiments.observed
"""

import sys
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, generalise
from experiments.fluid_gap import RANDOM
from torta_jax import schedulers
from torta_jax.learn.recipes import KINDS
from torta_jax.sim import fluid, slot
from torta_jax.sim.observe import Observation, observe
from torta_jax.sim.slot import World
from torta_jax.sim.state import Physics
from torta_jax.types import numbers
from torta_jax.workload import draws

SHOWN = ("waiting", "outstanding", "utilisation", "service_s")


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    clusters: int = 4  # of each kind
    seeds: int = 16  # worlds, the same for every policy
    slots: int = 100  # of 45 s each
    skipped: int = 24  # slots at the beginning, when every server is on


def shown(seen: Observation) -> dict[str, jax.Array]:
    """The observations compared."""
    return {name: jnp.asarray(getattr(seen, name), float) for name in SHOWN}


def of_tasks(world: World, physics: Physics, policy, slots: int) -> dict[str, jax.Array]:
    """[T, R] each, in the task model."""

    def step(carry, _):
        state, totals = carry
        alive, price = world.scenario.alive[state.slot], slot.price_now(world, state.slot, physics.slot_s)
        seen = observe(state, world.cluster, physics, alive, price)
        return slot.run_slot(world, physics, policy, state, totals, axis_name="seeds")[:2], shown(seen)

    return jax.lax.scan(step, slot.reset(world, physics, policy), None, length=slots)[1]


def of_flows(world: World, policy, slots: int) -> dict[str, jax.Array]:
    """[T, R] each, in the fluid model."""

    def step(flows, _):
        seen = fluid.observe(flows, world, Physics())
        return fluid.run_slot(world, Physics(), policy, flows)[0], shown(seen)

    return jax.lax.scan(step, fluid.reset(world, Physics(), policy), None, length=slots)[1]


def main() -> None:
    options = asked(Options, __doc__, ("skipped",))
    size, policy = generalise.Options((), clusters=options.clusters, root=RANDOM), numbers(schedulers.get("torta"))
    table = Table(title="`torta` observes, fluid / task model: mean, and standard deviation over seeds")
    for column in ("kind", *SHOWN):
        table.add_column(column.replace("_", " "), justify="left" if column == "kind" else "right")
    for kind, ends in KINDS.items():
        worlds = generalise.held_out(size, ends, 12)
        one = jax.tree.map(lambda x: x[0], worlds.cluster)
        physics = Physics().sized(one, worlds.workload.max_tasks, generalise.ROOM_SLOTS)
        flows = jax.jit(jax.vmap(lambda world: of_flows(world, policy, options.slots)))
        tasks = jax.jit(
            jax.vmap(lambda world, physics=physics: of_tasks(world, physics, policy, options.slots), axis_name="seeds")
        )
        found = []
        for i in range(options.clusters):
            world = jax.tree.map(lambda x: x[i], worlds)  # noqa: B023
            keys = draws.fold_each(world.key, jnp.arange(options.seeds))
            many = jax.vmap(lambda key, world=world: world.replace(key=key))(keys)
            found.append((flows(many), tasks(many)))
        cells = []
        for name in SHOWN:
            both = [np.stack([each[k][name] for each in found])[:, :, options.skipped :] for k in (0, 1)]
            means = [values.mean() for values in both]
            spread = [values.var(axis=1, ddof=1).mean() ** 0.5 for values in both]
            cells.append(f"{means[0]:.3g} / {means[1]:.3g}, {spread[0]:.2g} / {spread[1]:.2g}")
        table.add_row(kind, *cells)
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)


if __name__ == "__main__":
    answer(main)
