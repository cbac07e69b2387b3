"""The planner that is told the present knows nothing of the future, and imagines what has the law of the worlds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import planner
from torta_jax import schedulers
from torta_jax.learn.worlds import HARD, random_world
from torta_jax.schedulers.learned import CORRECTIONS
from torta_jax.sim import fluid
from torta_jax.sim.state import Physics
from torta_jax.types import numbers
from torta_jax.workload.scenario import random_scenario

REGIONS, SLOTS, NOW = 3, 24, 5
QUIET = HARD.replace(max_surge=1.0, max_price=1.0)


def made(kind, key=5):
    return random_world(jax.random.key(key), kind, REGIONS, 6, SLOTS)


@pytest.fixture(scope="module")
def network():
    return numbers(schedulers.get("torta-learned"))


@pytest.fixture
def small(monkeypatch):
    for name, value in {"HORIZON": 5, "FREE": 4, "SPANS": (4, 2, 1), "JUDGED": 2}.items():
        monkeypatch.setattr(planner, name, value)


def planned(network, moves, since=0):
    return planner.Planned(**vars(network), moves=moves, since=jnp.int32(since))


def test_imagined_rates_begin_with_the_present_ones_and_return_to_the_usual_as_noise_does():
    world = made(QUIET)
    world = world.replace(workload=world.workload.replace(noise_shared=jnp.asarray(0.2)))
    mean, now = np.asarray(planner.usual(world), float), np.asarray(world.prepared.rate[NOW], float)
    keys = jax.random.split(jax.random.key(0), 20_000)
    one = lambda key: planner.imagined(world, QUIET, jnp.asarray(mean, float), jnp.int32(NOW), key)  # noqa: E731
    rates = np.asarray(jax.jit(jax.vmap(lambda key: one(key).prepared.rate))(keys))
    np.testing.assert_allclose(rates[:, NOW], np.broadcast_to(now, rates[:, NOW].shape), rtol=1e-4)
    sigma = float(world.workload.noise_sigma)
    noise = np.log(now / mean[NOW]) + sigma**2 / 2
    for ahead in (1, 6, SLOTS - NOW - 1):
        still = np.exp(-45.0 * ahead / float(world.workload.noise_time_s))
        expected = mean[NOW + ahead] * np.exp(noise * still - sigma**2 * still**2 / 2)
        np.testing.assert_allclose(rates[:, NOW + ahead].mean(axis=0), expected, rtol=0.02)
        spread = np.log(rates[:, NOW + ahead]).std(axis=0)
        np.testing.assert_allclose(spread, sigma * np.sqrt(1 - still**2), rtol=0.03)
    assert np.corrcoef(np.log(rates[:, -1]).T)[0, 1] == pytest.approx(0.2, abs=0.03)


def test_imagined_events_end_and_begin_about_as_often_as_in_the_worlds():
    slots, now, later, many = 160, 80, 12, 20_000
    keys = jax.random.split(jax.random.key(1), 2 * many)
    draw = jax.jit(jax.vmap(lambda key: random_scenario(key, slots, REGIONS, failures=0, max_surge=4.0, max_price=4.0)))
    kind = HARD.replace(max_surge=4.0)
    found = draw(keys[:many])
    found = found.replace(
        rate_factor=jnp.maximum(found.rate_factor, 1.0), price_factor=jnp.maximum(found.price_factor, 1.0)
    )
    onwards = jax.jit(jax.vmap(lambda scenario, key: planner.onwards(scenario, kind, jnp.int32(now), key)))
    supposed = onwards(found, keys[many:])
    for name in ("rate_factor", "price_factor"):
        was, true, imagined = (
            np.asarray(getattr(s, name))[:, t] for s, t in ((found, now), (found, now + later), (supposed, now + later))
        )
        np.testing.assert_array_equal(np.asarray(getattr(supposed, name))[:, now], was)
        for some in (was == 1, was > 1):
            assert (imagined != was)[some].mean() == pytest.approx((true != was)[some].mean(), abs=0.04)
            assert imagined[some].mean() == pytest.approx(true[some].mean(), abs=0.1)


def test_usual_rates_are_those_of_a_world_without_noise_and_surges():
    worlds = [made(kind, 6) for kind in (HARD, QUIET.replace(noise_sigma=(0.0, 0.0)))]
    assert worlds[0].scenario.rate_factor.max() > 1.02
    np.testing.assert_allclose(planner.usual(worlds[0]), worlds[1].prepared.rate, rtol=1e-6)


def with_another_future(world):
    """The same world up to the present slot, another one after it."""
    return world.replace(
        prepared=world.prepared.replace(rate=world.prepared.rate.at[NOW + 1 :].multiply(3.0)),
        scenario=world.scenario.replace(
            rate_factor=world.scenario.rate_factor.at[NOW + 1 :].multiply(3.0),
            price_factor=world.scenario.price_factor.at[NOW + 1 :].multiply(2.0),
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("told", [False, True])
def test_a_plan_minds_the_future_if_it_is_told_and_never_the_luck(told, network, small):
    world, policy = made(HARD), planned(network, jnp.zeros((4, REGIONS, len(CORRECTIONS))))
    step = jax.jit(lambda flows: fluid.run_slot(world, Physics(), policy, flows)[0])
    flows = fluid.reset(world, Physics(), policy)
    for _ in range(NOW):
        flows = step(flows)
    planning = planner.Planner(HARD, told, 2, 0.03, 2)
    plan = jax.jit(lambda world: planning.plan(world, planner.usual(world), policy, flows))
    own = np.asarray(plan(world))
    np.testing.assert_array_equal(plan(world.replace(key=jax.random.key(77))), own)
    other = np.abs(plan(with_another_future(world)) - own).max()
    assert (other > 0.01) == told
    assert other == 0 or told


@pytest.mark.slow
def test_what_is_played_up_to_now_does_not_depend_on_what_is_to_come(network, small):
    play = jax.jit(lambda world: planner.Planner(HARD, False, 1, 0.03, 1).play(world, network, 8))
    (one, moves), (other, _) = play(made(HARD)), play(with_another_future(made(HARD)))
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value[: NOW + 1], getattr(other, name)[: NOW + 1])
    assert one.arrived[NOW + 1 :].sum() < other.arrived[NOW + 1 :].sum()
    assert jnp.abs(moves).max() > 0.01


def test_corrections_are_moved_from_the_slot_of_the_plan_on_as_long_as_there_are_moves(network, small):
    moves = jnp.arange(1.0, 5.0)[:, None, None] * jnp.ones((4, REGIONS, len(CORRECTIONS)))
    world, policy = made(HARD), planned(network, moves, since=NOW)
    seen = fluid.observe(fluid.reset(world, Physics(), policy), world, Physics())
    state = policy.init(world.cluster)
    said = lambda policy, slot: policy.correct(state, state.surprise, seen.replace(slot=jnp.int32(slot)))  # noqa: E731
    for slot, move in ((NOW, 1), (NOW + 3, 4), (NOW + 4, 0), (NOW + 9, 0)):
        np.testing.assert_allclose(said(policy, slot) - said(network, slot), move, atol=1e-5)


def test_a_plan_goes_on_from_the_one_before_it(network, small, monkeypatch):
    monkeypatch.setattr(planner.Planner, "plan", lambda self, world, mean, policy, flows: policy.moves + 1)
    monkeypatch.setattr(
        planner.fluid,
        "run_slot",
        lambda world, physics, policy, flows: (flows.replace(slot=flows.slot + 1), policy.since),
    )
    since, moves = planner.Planner(HARD, True, 0, 0.0, 1).play(made(HARD), network, 6)
    np.testing.assert_array_equal(since, [0, 0, 2, 2, 4, 4])
    np.testing.assert_array_equal(moves[:, :, 0, 0], [[1, 1, 1, 1], [2, 2, 1, 1], [2, 2, 1, 1]])


@pytest.mark.slow
def test_a_planner_that_is_told_costs_less_than_the_network(network):
    world = made(HARD)
    plain = fluid.simulate(world, Physics(), network, SLOTS)[1]
    told = jax.jit(lambda: planner.Planner(HARD, True, 10, 0.03, 6).play(world, network, SLOTS)[0])()
    both = jax.tree.map(lambda *each: jnp.stack(each), plain, told)
    cost, cost_told = planner.generalise.per_world(both)["objective"]
    assert cost_told < 0.99 * cost
