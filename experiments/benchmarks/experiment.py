"""The experiment that is timed: the world of `torta compare` without options."""

from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import jax
import jax.numpy as jnp

from experiments.benchmarks import lanes
from torta_jax import cluster, schedulers, types, workload
from torta_jax.evaluate import rollout
from torta_jax.sim.slot import World, make_world
from torta_jax.sim.state import Physics


@cache
def parts(num_slots: int) -> tuple[types.Cluster, workload.Synthetic, types.Scenario]:
    """Abilene, synthetic arrivals, and nothing that happens."""
    abilene = cluster.build("abilene")
    return abilene, workload.Synthetic.create(), workload.calm(num_slots, abilene.num_regions)


def simulate(policy: str, batch: int, num_slots: int) -> int:
    """Run the experiment from the keys to the metrics on this host; returns how many tasks arrived."""
    episode = rollout.evaluate(*parts(num_slots), {policy: schedulers.get(policy)}, batch, num_slots)[policy]
    return int(episode.slots.arrived.sum())


def physics(num_slots: int) -> Physics:
    """That of `rollout.evaluate`."""
    return rollout.numbers(rollout.roomy(*parts(num_slots)))


def worlds(batch: int, num_slots: int) -> list[World]:
    """Batches of worlds, `batch` in all."""
    return rollout.make_worlds(*parts(num_slots), list(range(batch)), num_slots, physics(num_slots).slot_s)


def arrivals_only(batch: int, num_slots: int) -> int:
    """Draw the same tasks and simulate nothing; returns how many arrived."""
    with ThreadPoolExecutor() as threads:
        drawn = threads.map(lambda world: int(_arrivals(world, num_slots)[1].sum()), worlds(batch, num_slots))
        return sum(drawn)


@partial(jax.jit, static_argnums=1)
def _arrivals(world: World, num_slots: int):
    def one(world):
        def step(used, slot):
            tasks = world.workload.arrivals(world.prepared, world.key, slot)
            return used + sum(x.sum() for x in jax.tree.leaves(tasks)), tasks.mask.sum()  # so that all are drawn

        return jax.lax.scan(step, 0.0, jnp.arange(num_slots))

    return jax.vmap(one, in_axes=(rollout.WORLD_AXES,))(world)


def one_world(num_slots: int) -> tuple[types.Cluster, list[float], list[lanes.Task]]:
    """The first world's cluster, the sizes of its models in GB and its tasks, for a peer to serve."""
    abilene, demand, scenario = parts(num_slots)
    key, slot_s = rollout.world_keys([0])[0], Physics().slot_s
    world = make_world(abilene, demand, scenario, key, num_slots, slot_s)
    slots = jax.jit(jax.vmap(lambda slot: demand.arrivals(world.prepared, key, slot)))(jnp.arange(num_slots))
    return abilene, demand.model_gb.tolist(), lanes.tasks(slots, slot_s)
