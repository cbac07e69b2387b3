"""What would not fit in memory is refused before anything is computed."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from torta_jax.cli.options import Compare
from torta_jax.errors import require
from torta_jax.sim.metrics import NUM_BINS, TIMES, SlotMetrics
from torta_jax.types import Drop

LIMIT_GB, TRAINING_GB = 4.0, 8.0
WHOLE_BYTES = 4  # of a count: int32


def per_slot_bytes() -> int:
    """What is kept of each slot of each seed: `SlotMetrics`, one number a field, but dropped tasks by reason."""
    numbers = len(dataclasses.fields(SlotMetrics)) - 1 + len(Drop)
    return numbers * max(WHOLE_BYTES, jnp.zeros(()).dtype.itemsize)


def per_seed_bytes(regions: int) -> int:
    """What is kept of each seed beside its slots: histograms, and counts by origin."""
    return (len(TIMES) * NUM_BINS + 2 * regions) * WHOLE_BYTES


def rates_bytes(slots: int, regions: int) -> int:
    """What is prepared for each seed: its rates, and their running sum."""
    return 2 * slots * regions * jnp.zeros(()).dtype.itemsize


def check(options: Compare, policies: int, slots: int, regions: int) -> None:
    """Every seed's arrivals and every policy's results are held until the end.

    Raises:
        InputError: they are larger than `LIMIT_GB`.
    """
    one_seed = policies * (slots * per_slot_bytes() + per_seed_bytes(regions)) + rates_bytes(slots, regions)
    seeds, most = options.seeds, int(LIMIT_GB * 1e9) // one_seed
    size_gb = seeds * one_seed / 1e9
    require(
        seeds <= most,
        f"{options.place('seeds')} = {seeds} and {options.place('slots')} = {slots}: {size_gb:,.1f} GB of results for "
        f"{policies} policies, {LIMIT_GB:g} GB are allowed: keep seeds × slots within {most * slots:,}",
    )


def check_training(learner: Any) -> None:
    """What has to be held at once is known before training begins.

    Slopes need every slot of the worlds that are at work, and a slope of every world; PPO its environments, and what it
    observes in each step.

    Raises:
        InputError: they are larger than `TRAINING_GB`.
    """
    from torta_jax.cores import cores
    from torta_jax.learn import pathwise
    from torta_jax.sim import fluid

    state = jax.eval_shape(learner.init, jax.random.key(0))
    if isinstance(learner, pathwise.Learner):
        sizes = learner.sizes
        world = jax.eval_shape(lambda key: jax.tree.map(lambda x: x[0], learner.worlds(key, jnp.arange(1))), state.key)
        flows = jax.eval_shape(lambda world: fluid.reset(world, learner.physics, learner.policy), world)
        on_cpu = jax.local_devices()[0].platform == "cpu"
        at_work = min(sizes.num_worlds, pathwise.BLOCK * cores()) if on_cpu else sizes.num_worlds
        size = at_work * (nbytes(world) + sizes.num_slots * nbytes(flows)) + sizes.num_worlds * nbytes(state.parameters)
        told = "--worlds, --slots, --regions and --servers"
    else:
        size, told = nbytes(state) + learner.sizes.num_steps * nbytes(state.observation), "--envs and --steps"
    size_gb = size / 1e9
    require(size_gb <= TRAINING_GB, f"{told}: {size_gb:,.0f} GB at once, {TRAINING_GB:g} GB are allowed")


def nbytes(shapes) -> int:
    """Of the arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes) if hasattr(leaf, "dtype"))
