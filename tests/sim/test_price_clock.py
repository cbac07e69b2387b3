"""The price of electricity changes on the hour of the day, UTC, in single precision too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.clusters import reference_cluster
from torta_jax.sim.slot import World, price_now
from torta_jax.workload import Synthetic, calm

SLOTS = 2000
WORKLOAD, SCENARIO = Synthetic.create(max_tasks=1), calm(SLOTS, 2)
BY_HOUR = np.arange(48).reshape(2, 24)


@jax.jit
def prices(start_hour, slot_s, price_factor):
    """[SLOTS, R]"""
    world = World(
        reference_cluster(2, 1).replace(price_usd_per_kwh=jnp.asarray(BY_HOUR, float)),
        WORKLOAD.replace(start_hour_utc=start_hour),
        SCENARIO.replace(price_factor=price_factor),
        prepared=None,
        key=jax.random.key(0),
    )
    return jax.vmap(lambda slot: price_now(world, slot, slot_s))(jnp.arange(SLOTS))


@pytest.mark.parametrize("slot_s", [45, 30, 7, 60])
@pytest.mark.parametrize("start_hour", [15, 0, 23])
def test_the_price_is_that_of_the_hour_in_which_the_slot_begins(start_hour, slot_s):
    factor = np.ones((SLOTS, 2))
    factor[7, 1] = 3
    found = prices(jnp.asarray(start_hour, float), jnp.asarray(slot_s, float), jnp.asarray(factor, float))
    hour = (start_hour * 3600 + np.arange(SLOTS) * slot_s) // 3600 % 24
    np.testing.assert_array_equal(found, BY_HOUR[:, hour].T * factor)
