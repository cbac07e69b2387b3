"""Policies: what they forecast, where they send, and what they may know."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.clusters import reference_cluster
from tests.references.observations import REGIONS, SERVERS, outlook, see
from torta_jax import schedulers
from torta_jax.errors import InputError
from torta_jax.evaluate.rollout import numbers
from torta_jax.schedulers.rules import PLANS, UNKNOWN_LOAD, Forecast, Rules, Toll, Transport
from torta_jax.sim.affinity import Offer, Weights, load_factor, score


def test_the_forecast_is_holts_smoothing():
    policy = Rules(forecast=Forecast(level=0.3, trend=0.2, horizon=4.0))
    level, trend = 10.0, 2.0
    state = policy.look_ahead(outlook(level, trend), see(arrivals=(20.0, 20.0, 20.0)))
    new_level = 0.3 * 20 + 0.7 * (level + trend)
    new_trend = 0.2 * (new_level - level) + 0.8 * trend
    np.testing.assert_allclose(state.level, new_level, rtol=1e-6)
    np.testing.assert_allclose(state.trend, new_trend, rtol=1e-6)
    np.testing.assert_allclose(policy.expected(state), new_level + 4 * new_trend, rtol=1e-6)


def test_a_falling_trend_does_not_lower_what_servers_are_kept_for():
    assert (Rules(forecast=Forecast(horizon=4.0)).expected(outlook(10.0, -2.0)) == 10).all()


def test_a_capacitated_plan_keeps_to_the_capacities_in_a_world_that_is_nearly_full():
    policy = Rules(transport=Transport(plan=PLANS.index("capacitated"), utilisation=0.51))
    seen = see(slot=2)
    state, matrix = policy.route(policy.init(seen.cluster), seen)
    assert (policy.expected(state) @ matrix <= 0.51 * seen.capacity() + 1e-4).all()


def test_the_default_forecast_is_the_last_count():
    state = Rules().look_ahead(outlook(99.0, 7.0), see())
    np.testing.assert_array_equal(Rules().expected(state), [4, 8, 6])


def test_before_anything_was_seen_half_of_the_capacity_is_expected_and_the_first_count_sets_the_level():
    policy = Rules(forecast=Forecast(level=0.1, trend=0.5))
    state = policy.look_ahead(policy.init(reference_cluster(REGIONS, SERVERS)), see(slot=0))
    np.testing.assert_allclose(state.level, UNKNOWN_LOAD * 12)
    state = policy.look_ahead(state, see(slot=1))
    np.testing.assert_array_equal(state.level, [4, 8, 6])
    assert (state.trend == 0).all()


@pytest.mark.parametrize("name", schedulers.NAMES)
def test_every_policy_asks_for_a_row_stochastic_matrix(name):
    policy = numbers(schedulers.get(name))
    rng = np.random.default_rng(0)
    for slot in (0, 1, 7):
        arrivals = rng.integers(0, 30, REGIONS).astype(np.float32) * (slot != 7)
        _, matrix = policy.route(outlook(5.0), see(slot, arrivals, alive=(True, slot == 1, True)))
        np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
        assert (matrix >= 0).all()


@pytest.mark.parametrize(
    ("plan", "expected"), [("stay", np.eye(REGIONS)), ("even", np.full((REGIONS, REGIONS), 1 / 3))]
)
def test_fixed_plans_are_fixed(plan, expected):
    policy = Rules(transport=Transport(plan=PLANS.index(plan)))
    np.testing.assert_allclose(policy.route(outlook(5.0), see())[1], expected)


def test_smoothing_is_the_closed_form_of_eq_3_and_starts_after_the_first_slot():
    before = jnp.asarray(np.roll(np.eye(REGIONS), 1, axis=1))
    policy = Rules(transport=Transport(plan=PLANS.index("stay"), smoothing=0.5))
    np.testing.assert_allclose(policy.route(outlook(5.0), see(matrix=before))[1], (np.eye(3) + 0.5 * before) / 1.5)
    np.testing.assert_allclose(policy.route(outlook(5.0), see(slot=0, matrix=before))[1], np.eye(3))


def test_capacitated_prefers_the_cheap_region_and_balanced_cannot():
    transport = Transport(plan=PLANS.index("capacitated"), latency_weight=0.01)
    state, observation = outlook(3.0), see(arrivals=(3.0, 3.0, 3.0))
    policy = Rules(transport=transport, forecast=Forecast())
    to = policy.route(state, observation)[1].sum(axis=0)
    assert to[0] > 2.5
    balanced = policy.replace(transport=transport.replace(plan=PLANS.index("balanced")))
    np.testing.assert_allclose(balanced.route(state, observation)[1].sum(axis=0), 1, atol=0.01)


def test_servers_follow_the_plan_or_without_one_where_tasks_were_last_sent():
    matrix, shares = jnp.eye(REGIONS), jnp.zeros((REGIONS, REGIONS)).at[:, 2].set(1.0)
    state, observation = outlook(jnp.array([4.0, 8.0, 6.0])), see(shares=shares)
    expected = {"stay": [0, 0, 18], "even": [0, 0, 18], "balanced": [4, 8, 6], "capacitated": [4, 8, 6]}
    for plan in PLANS:
        policy = Rules(transport=Transport(plan=PLANS.index(plan)))
        np.testing.assert_allclose(policy.demand(state, observation, matrix), expected[plan], err_msg=plan)


def test_the_score_is_the_weighted_sum_of_the_offer():
    rng = np.random.default_rng(1)
    values: dict[str, Any] = {name: rng.uniform(0, 2, (1, 3)) for name in Offer.__dataclass_fields__}
    values |= {"resident": values["resident"] > 1, "turn": np.array([[0, 1, 2]]), "wait_s": np.array([[0.0, 0.4, 2.0]])}
    o = Offer(**{name: jnp.asarray(value) for name, value in values.items()})
    w = Weights(*np.arange(1.0, 12.0))
    expected = 1 * values["hardware"] + 2 * np.exp(-values["utilisation"] - values["queue"]) + 3 * values["heat"]
    expected = expected + 4 * values["similarity"] - 5 * values["wait_s"] - 6 * values["service_s"]
    expected = expected + 7 * (values["wait_s"] == 0) + 8 * values["idle_s"] + 9 * values["resident"]
    expected = expected + 10 * values["prefix_hit"] - 11 * values["turn"]
    np.testing.assert_allclose(score(w, o), expected, rtol=1e-5)
    np.testing.assert_allclose(load_factor(jnp.asarray(0.5), jnp.asarray(1.5)), np.exp(-2), rtol=1e-6)


def test_a_second_on_a_busy_server_counts_for_more_by_the_square_of_what_it_was_busy_lately():
    policy = Rules(weights=Weights(wait=1.0, service=1.0), toll=Toll(weight=2.0, newest=0.25))
    busy = jnp.linspace(0.0, 1.0, REGIONS * SERVERS).reshape(REGIONS, SERVERS)
    state = policy.init(see().cluster)
    for _ in range(2):
        state = policy.look_ahead(state, see(busy=busy))
    np.testing.assert_allclose(state.busy, (1 - 0.75**2) * busy, rtol=1e-6)
    nothing = dict.fromkeys(Offer.__dataclass_fields__, jnp.zeros((REGIONS, SERVERS)))
    o = Offer(**nothing).replace(wait_s=jnp.asarray(3.0), service_s=jnp.asarray(10.0))
    np.testing.assert_allclose(policy.affinity(state, o), -3 - 10 * (1 + 2 * state.busy**2), rtol=1e-6)
    np.testing.assert_array_equal(policy.replace(toll=Toll()).affinity(state, o), score(policy.weights, o))


def test_policies_are_numbers_so_one_program_runs_them_all():
    trees = [jax.tree.structure(numbers(schedulers.get(name))) for name in schedulers.NAMES]
    assert all(tree == trees[0] for tree in trees)


def test_an_unknown_policy_names_the_nearest():
    with pytest.raises(InputError, match="skylb"):
        schedulers.get("skylbb")
