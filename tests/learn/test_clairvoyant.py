"""Foresight: a script replays a policy, and optimising it only makes it cheaper."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax import schedulers
from torta_jax.errors import InputError
from torta_jax.learn import clairvoyant, pathwise
from torta_jax.learn.worlds import HARD, random_world
from torta_jax.sim.env import Objective
from torta_jax.sim.state import Physics
from torta_jax.types import numbers

SLOTS = 24


@pytest.fixture(scope="module")
def world():
    return random_world(jax.random.key(5), pathwise.floats(HARD), 3, 4, SLOTS)


@pytest.fixture(scope="module")
def policy():
    return numbers(schedulers.get("torta-learned"))


@pytest.fixture(scope="module")
def start(world, policy):
    """[T, R, n] what the policy does, written down."""
    return jax.jit(lambda: clairvoyant.script_of(world, Physics(), policy, SLOTS).script)()


@pytest.fixture(scope="module")
def found(world, policy):
    """The policy's cost, the best script and the costs of all that were tried, its own, and the first script."""

    @jax.jit
    def run():
        own = pathwise.cost(world, Physics(), policy, Objective(), SLOTS)
        best, costs = clairvoyant.optimise(world, policy, SLOTS, steps=15, rate=0.1)
        again = pathwise.cost(world, Physics(), best, Objective(), SLOTS)
        return own, best.script, costs, again, clairvoyant.script_of(world, Physics(), policy, SLOTS).script

    return run()


def test_the_first_script_costs_what_the_policy_does(found):
    own, _, costs, _, _ = found
    assert costs[0] == pytest.approx(float(own), rel=1e-4)


def test_foresight_is_cheaper_and_the_best_script_is_the_one_returned(found):
    own, _, costs, again, _ = found
    assert costs.min() < 0.9998 * own
    assert again == pytest.approx(float(costs.min()), rel=1e-4)


def test_the_last_slots_stay_as_they_were(found):
    """So that nothing is saved by running the fleet down before the end."""
    _, script, _, _, first = found
    changed = np.abs(np.asarray(script - first)).max(axis=(1, 2))
    assert (changed[: -clairvoyant.LAST] > 0.01).all()
    np.testing.assert_allclose(changed[-clairvoyant.LAST :], 0, atol=1e-4)  # programs differ in last bits
    assert jnp.isfinite(script).all()


def test_too_few_slots_for_anything_to_be_free_are_refused(world, policy):
    with pytest.raises(InputError, match="num_slots = 8: more than 8 are needed"):
        clairvoyant.optimise(world, policy, 8)


def test_moves_of_every_length_add_up_and_the_end_stays():
    begun = jnp.ones((130, 1, 1))
    still = [jnp.zeros((-(-130 // span), 1, 1)) for span in clairvoyant.SPANS]
    single = still[3].at[jnp.array([72, 129])].set(1000.0)
    moves = [still[0] + 1, still[1].at[1].set(10.0), still[2].at[9].set(100.0), single]
    script = clairvoyant.moved(begun, moves)[:, 0, 0]
    expected = np.full(130, 2.0)
    expected[64:128] += 10
    expected[72:80] += 100
    expected[72] += 1000
    expected[-clairvoyant.LAST :] = 1
    np.testing.assert_array_equal(script, expected)


def test_a_script_whose_cost_is_not_a_number_does_not_hide_a_better_one(world, policy, start, monkeypatch):
    def cost(world, physics, policy, objective, num_slots):
        moved = policy.script[0, 0, 0] - start[0, 0, 0]
        return jnp.square(policy.script - start - 1).mean() + jnp.where((moved > 0.01) & (moved < 0.15), jnp.nan, 0.0)

    monkeypatch.setattr(pathwise, "cost", cost)
    best, costs = clairvoyant.optimise(world, policy, SLOTS, steps=12, rate=0.02)
    assert np.isnan(costs).any()
    found = cost(world, Physics(), best, Objective(), SLOTS)
    assert found == pytest.approx(float(np.nanmin(costs)), rel=1e-4)
    assert found < costs[0]
    assert np.nanargmin(costs) > np.flatnonzero(np.isnan(costs)).max()


@pytest.mark.slow
def test_without_its_luck_the_script_is_cheaper_in_other_draws_of_it(world, policy):
    luck = jax.random.split(jax.random.key(6), 8)

    @jax.jit
    def run():
        found, costs = clairvoyant.optimise(world, policy, SLOTS, steps=15, rate=0.1, luck=False)
        cost = lambda key, policy: pathwise.cost(  # noqa: E731
            world.replace(key=key), Physics(), policy, Objective(), SLOTS
        )
        first, _ = clairvoyant.optimise(world, policy, SLOTS, steps=15, rate=0.0, luck=False)
        return costs, jax.vmap(cost, (0, None))(luck, found), jax.vmap(cost, (0, None))(luck, first)

    costs, after, before = run()
    assert after.mean() < 0.98 * before.mean()
    assert np.diff(costs).max() > 0.02 * costs[0]  # of a world of its own for every step


def test_a_slope_that_is_not_finite_does_not_end_the_search(world, policy, start, monkeypatch):
    """The second and the third script tried have one: the root of zero."""

    def cost(world, physics, policy, objective, num_slots):
        moved = policy.script[0, 0, 0] - start[0, 0, 0]
        root = jnp.where((moved > 0.01) & (moved < 0.15), 0.0, 1.0) + moved - jax.lax.stop_gradient(moved)
        return jnp.square(policy.script - start - 1).mean() + 1e-9 * jnp.sqrt(root)

    monkeypatch.setattr(pathwise, "cost", cost)
    _, costs = clairvoyant.optimise(world, policy, SLOTS, steps=12, rate=0.02)
    assert jnp.isfinite(costs).all()
    assert costs[-1] < 0.9 * costs[3]
