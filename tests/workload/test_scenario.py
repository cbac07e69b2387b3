from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax.errors import InputError
from torta_jax.workload import Failure, PriceShock, Surge, calm, random_scenario, scenario

NAMES = ["Seattle", "Denver", "Atlanta"]


def test_events_change_their_slots_and_regions_and_nothing_else():
    events = [
        Surge(1, 3, 2.0, ["Denver"]),
        Surge(2, 1, 3.0),
        Failure(4, 2, [0]),
        PriceShock(0, 99, 1.5, ["Atlanta", "Atlanta"]),
    ]
    world = scenario.compile(events, 6, NAMES)
    rate = np.ones((6, 3))
    rate[1:4, 1] *= 2
    rate[2] *= 3
    alive = np.ones((6, 3), bool)
    alive[4:6, 0] = False
    np.testing.assert_array_equal(world.rate_factor, rate)
    np.testing.assert_array_equal(world.alive, alive)
    np.testing.assert_array_equal(world.price_factor, np.where(np.arange(3) == 2, 1.5, np.ones((6, 3))))


def test_no_events_make_a_calm_world():
    for a, b in zip(jax.tree.leaves(scenario.compile([], 5, 3)), jax.tree.leaves(calm(5, 3)), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (Surge(0, 1, 2.0, ["Denwer"]), r"^surge 1: unknown region 'Denwer'; did you mean 'Denver'"),
        (Failure(0, 1, [3]), "region 3, allowed are 0 to 2"),
        (Failure(0, 1, []), "no region named"),
        (Failure(10, 1), "start_slot = 10, allowed are 0 to 9"),
        (Failure(-1, 1), "start_slot = -1"),
        (Failure(0, 0), "num_slots = 0, at least 1"),
        (Surge(0, 1, -2.0), "factor = -2.0"),
        (PriceShock(0, 1, float("nan")), "factor = nan"),
        (PriceShock(0, 1, float("inf")), "factor = inf"),
    ],
)
def test_a_wrong_event_is_named(event, message):
    with pytest.raises(InputError, match=message):
        scenario.compile([event], 10, NAMES)


def test_events_are_numbered_among_their_own_kind_as_in_a_file():
    events = [Surge(0, 1, 2.0), Failure(0, 1), Failure(0, 1, ["Denver", "Denwer"])]
    with pytest.raises(InputError, match=r"^failure 2: unknown region 'Denwer'"):
        scenario.compile(events, 10, NAMES)


def test_random_worlds_stay_in_range_and_never_lose_all_regions():
    keys = jax.random.split(jax.random.key(0), 2000)
    world = jax.jit(jax.vmap(lambda key: random_scenario(key, 40, 3, failures=5, max_surge=5.0)))(keys)
    assert world.alive.dtype == bool
    assert world.alive.any(-1).all()
    assert (world.rate_factor >= 1.25**2 * 0.999).mean() < 0.5
    assert (world.rate_factor > 0).all()
    assert (world.rate_factor <= 25 * 1.001).all()
    assert (world.price_factor <= 16 * 1.001).all()
    down = ~np.asarray(world.alive)
    assert down.any(1).mean() == pytest.approx(2 / 3)
    assert (down.sum(1) <= 10).all(), "a failure lasts at most a quarter of the horizon"
    repaired = (np.diff(down.astype(int), axis=1) == -1).any((1, 2))
    assert repaired.mean() > 0.5
    surged = np.asarray(world.rate_factor != 1).any((1, 2))
    assert surged.all()


def test_random_worlds_of_one_region_never_fail():
    world = random_scenario(jax.random.key(3), 12, 1)
    assert world.alive.all()
    assert world.rate_factor.shape == (12, 1)


def test_random_worlds_depend_on_their_key_alone(bits):
    keys = jax.random.split(jax.random.key(5), 7)
    make = jax.jit(jax.vmap(partial(random_scenario, num_slots=9, num_regions=4)))
    batch = make(keys)
    for lane in range(7):
        alone = make(keys[lane : lane + 1])
        for a, b in zip(jax.tree.leaves(batch), jax.tree.leaves(alone), strict=True):
            assert bits(a[lane]) == bits(b[0])
    assert jnp.unique(batch.rate_factor).size > 7
