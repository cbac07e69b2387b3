"""What the comparison of the two models counts in the task model is what that counts itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.fluid_gap import regions_in_tasks
from torta_jax import schedulers
from torta_jax.learn import pathwise
from torta_jax.learn.worlds import CALM, random_world
from torta_jax.sim.simulate import advance, start
from torta_jax.sim.state import Physics
from torta_jax.types import numbers

SLOTS, BUSY, ROOM = 24, 8, 64


@pytest.fixture(scope="module")
def counted():
    """By region and slot as the experiment counts it, and the model's own metrics; nothing arrives in the end."""
    kind = pathwise.floats(CALM.replace(load=(1.1, 1.1)))
    world = random_world(jax.random.split(jax.random.key(2), 12)[0], kind, 3, 4, SLOTS)
    ended = world.prepared.cumulative_rate.at[BUSY:].set(0.0)
    world = world.replace(
        prepared=world.prepared.replace(cumulative_rate=ended), workload=world.workload.replace(max_tasks=ROOM)
    )
    physics, policy = Physics().sized(world.cluster, ROOM, 4.0), numbers(schedulers.get("torta"))
    begun = start(world, physics, policy)
    metrics = jax.jit(lambda: advance(world, physics, policy, begun, SLOTS)[1])()
    return regions_in_tasks(jax.tree.map(lambda x: x[None], world), physics, policy, SLOTS), metrics


def test_every_wait_is_counted_once_also_over_several_slots(counted):
    by_region, metrics = counted
    assert metrics.arrived.sum() == metrics.completed.sum() > 100
    assert metrics.buffered.max() > 5
    # The way there counts as a wait for the region; the way back comes after it.
    expected = metrics.wait_s.sum() + metrics.network_s.sum() / 2
    np.testing.assert_allclose(by_region["wait_s"].sum(), expected, rtol=1e-5)


def test_lane_time_and_loading_are_those_of_the_model(counted):
    by_region, metrics = counted
    np.testing.assert_allclose(by_region["lane_s"].sum(), metrics.inference_s.sum(), rtol=1e-5)
    assert jnp.all(by_region["loading_s"] <= by_region["lane_s"])
    np.testing.assert_allclose(by_region["loading_s"].sum(), metrics.model_load_s.sum(), rtol=1e-5)
