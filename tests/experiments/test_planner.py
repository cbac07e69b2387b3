"""The planner that is not told the future knows nothing of it, and imagines what has the workload's law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import planner
from torta_jax import schedulers
from torta_jax.learn import pathwise
from torta_jax.learn.worlds import HARD, random_world
from torta_jax.sim import fluid
from torta_jax.sim.state import Physics
from torta_jax.types import numbers

REGIONS, SLOTS, NOW = 3, 24, 5


@pytest.fixture(scope="module")
def world():
    return random_world(jax.random.key(5), pathwise.floats(HARD), REGIONS, 6, SLOTS)


@pytest.fixture(scope="module")
def network():
    return numbers(schedulers.get("torta-learned"))


@pytest.fixture
def small(monkeypatch):
    small = {"HORIZON": 5, "FREE": 4, "SPANS": (4, 2, 1), "STEPS": 2, "DRAWS": 2}
    for name, value in small.items():
        monkeypatch.setattr(planner, name, value)


def test_imagined_rates_begin_with_the_level_and_return_to_the_usual_ones_as_noise_does(world):
    mean, level = planner.usual(world, SLOTS), jnp.array([3.0, 20.0, 80.0])
    keys = jax.random.split(jax.random.key(0), 20_000)
    rates = np.asarray(
        jax.jit(jax.vmap(lambda key: planner.imagined(world, mean, level, jnp.int32(NOW), key).prepared.rate))(keys)
    )
    np.testing.assert_allclose(rates[:, NOW], np.broadcast_to(level, rates[:, NOW].shape), rtol=1e-4)
    sigma, base = float(world.workload.noise_sigma), np.asarray(mean, float)
    keep = np.exp(-45.0 / float(world.workload.noise_time_s))
    for ahead in (1, 6, SLOTS - NOW - 1):
        still = keep**ahead
        deviation = np.log(np.asarray(level) / base[NOW]) + sigma**2 / 2
        expected = base[NOW + ahead] * np.exp(deviation * still - sigma**2 / 2 + sigma**2 * (1 - still**2) / 2)
        np.testing.assert_allclose(rates[:, NOW + ahead].mean(axis=0), expected, rtol=0.02)
        spread = np.log(rates[:, NOW + ahead]).std(axis=0)
        np.testing.assert_allclose(spread, sigma * np.sqrt(1 - still**2), rtol=0.03)
    together = np.corrcoef(np.log(rates[:, -1]).T)[0, 1]
    assert together == pytest.approx(float(world.workload.noise_shared), abs=0.03)


def test_usual_rates_are_those_of_a_world_without_noise_and_surges(world):
    calm = pathwise.floats(HARD.replace(noise_sigma=(0.0, 0.0), max_surge=1.0))
    plain = random_world(jax.random.key(5), calm, REGIONS, 6, SLOTS)
    np.testing.assert_allclose(planner.usual(world, SLOTS), plain.prepared.rate, rtol=1e-6)


def future(world):
    """The same world up to now, another one from now on."""
    rate, price = world.prepared.rate, world.scenario.price_factor
    return world.replace(
        prepared=world.prepared.replace(rate=rate.at[NOW:].multiply(3.0)),
        scenario=world.scenario.replace(price_factor=price.at[NOW + 1 :].multiply(2.0)),
    )


def moves(world, network, told):
    policy = planner.Planned(**vars(network), moves=jnp.zeros((4, REGIONS, 6)), since=jnp.int32(0))

    @jax.jit
    def both(world):
        flows = fluid.reset(world, Physics(), policy)
        step = lambda flows, _: fluid.run_slot(world, Physics(), policy, flows)  # noqa: E731
        flows, _ = jax.lax.scan(step, flows, None, NOW)
        return planner.plan(world, planner.usual(world, SLOTS), policy, flows, told)

    return [np.asarray(both(each)) for each in (world, future(world))]


def test_a_planner_that_is_not_told_does_the_same_whatever_is_to_come(world, network, small):
    one, other = moves(world, network, told=False)
    np.testing.assert_array_equal(one, other)
    assert np.abs(one).max() > 0.01


@pytest.mark.slow
def test_a_planner_that_is_told_does_something_else(world, network, small):
    one, other = moves(world, network, told=True)
    assert np.abs(one - other).max() > 0.01


@pytest.mark.slow
def test_a_planner_that_is_told_costs_less_than_the_network(world, network):
    plain = fluid.simulate(world, Physics(), network, SLOTS)[1]
    told = jax.jit(lambda: planner.played(world, network, SLOTS, told=True))()
    both = jax.tree.map(lambda *each: jnp.stack(each), plain, told)
    cost, cost_told = planner.generalise.per_world(both)["objective"]
    assert cost_told < 0.99 * cost
