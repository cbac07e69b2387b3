"""The network that is told the rates sees those of the slots that are about to come."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import foretold
from torta_jax import schedulers
from torta_jax.learn import pathwise
from torta_jax.learn.worlds import HARD, random_world
from torta_jax.schedulers.features import NUM_FEATURES
from torta_jax.sim import fluid
from torta_jax.sim.state import Physics
from torta_jax.types import numbers

SLOTS = 6


@pytest.mark.parametrize("slot", [0, 2, SLOTS - 2])
def test_the_rates_that_are_told_begin_with_the_coming_slots_and_end_with_the_last(slot, monkeypatch):
    world = random_world(jax.random.key(5), pathwise.floats(HARD), 3, 4, SLOTS)
    monkeypatch.setattr(foretold.NETWORK.__class__, "apply", lambda self, parameters, seen: seen)
    policy = foretold.informed(numbers(foretold.Told(**vars(schedulers.get("torta")))), world)
    flows = fluid.reset(world, Physics(), policy)
    observation = fluid.observe(flows, world, Physics()).replace(slot=jnp.int32(slot))
    state = policy.init(world.cluster)
    seen = np.asarray(policy.correct(state, state.surprise, observation))
    coming = np.minimum(slot + np.arange(foretold.AHEAD), SLOTS - 1)
    expected = np.asarray(world.prepared.rate)[coming].T / np.asarray(observation.capacity())[:, None]
    np.testing.assert_allclose(seen[:, NUM_FEATURES:], expected, rtol=1e-5)
