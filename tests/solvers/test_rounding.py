"""Plans made feasible, by counting."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torta_jax.errors import InputError
from torta_jax.solvers.rounding import feasible

SOLVE = jax.jit(feasible)


def instance(seed, load):
    """A plan that is off by some per cent, its demand and capacity."""
    rng = np.random.default_rng(seed)
    plan = rng.dirichlet(np.full(8, 0.3), 6) * rng.uniform(0, 3, (6, 1))
    demand = plan.sum(axis=1) * rng.uniform(0.9, 1.1, 6)
    capacity = plan.sum(axis=0) * rng.uniform(0.9, 1.1, 8)
    return plan, demand, capacity * demand.sum() / capacity.sum() / load


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 2))
def test_no_bound_is_broken_and_all_that_fits_is_sent(seed, load):
    plan, demand, capacity = instance(seed, load)
    found = np.asarray(SOLVE(*(jnp.asarray(x) for x in (plan, demand, capacity))))
    assert (found >= 0).all()
    assert (found.sum(axis=1) <= demand * (1 + 1e-5) + 1e-6).all()
    assert (found.sum(axis=0) <= capacity * (1 + 1e-5) + 1e-6).all()
    assert found.sum() == pytest.approx(min(demand.sum(), capacity.sum()), rel=1e-5)


def test_both_marginals_are_exact_where_capacity_is_the_demand_and_little_else_changes():
    with jax.enable_x64(True):
        plan, demand, capacity = instance(0, 1.0)
        found = feasible(plan, demand, capacity)
        np.testing.assert_allclose(found.sum(axis=1), demand, rtol=1e-12)
        np.testing.assert_allclose(found.sum(axis=0), capacity, rtol=1e-12)
        off = np.abs(plan.sum(axis=1) - demand).sum() + np.abs(plan.sum(axis=0) - capacity).sum()
        assert np.abs(np.asarray(found) - plan).sum() <= 2 * off


@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_units_do_not_matter(unit):
    plan, demand, capacity = (np.asarray(part, np.float32) for part in instance(3, 0.9))
    plain = feasible(plan, demand, capacity)
    np.testing.assert_allclose(
        feasible(unit * plan, unit * demand, unit * capacity) / unit, plain, rtol=1e-5, atol=1e-6
    )


def test_a_feasible_plan_stays_as_it_is():
    plan, _, capacity = instance(1, 0.5)
    np.testing.assert_allclose(feasible(plan, plan.sum(axis=1), capacity + plan.sum(axis=0)), plan, atol=1e-6)


def test_forbidden_pairs_get_nothing():
    plan, demand, capacity = instance(2, 0.5)
    mask = np.random.default_rng(2).uniform(size=plan.shape) < 0.5
    found = np.asarray(feasible(plan, demand, capacity, mask=mask))
    assert (found[~mask] == 0).all()
    assert (found.sum(axis=1) <= demand * (1 + 1e-5)).all()


@pytest.mark.parametrize("demand", [[0.0, 4.0, 3.0], [0.0, 0.0, 0.0]])
def test_gradients_are_finite_also_where_there_is_no_demand(demand):
    plan = jnp.asarray(demand)[:, None] / 4 * jnp.ones(2)
    cost = lambda plan, demand: (feasible(plan, demand, jnp.array([3.0, 2.0])) * jnp.array([1.0, 2.0])).sum()  # noqa: E731
    for gradient in jax.grad(cost, (0, 1))(plan, jnp.asarray(demand)):
        assert jnp.isfinite(gradient).all()


def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"demand: shape \(2,\) is needed"):
        feasible(np.ones((2, 2)), np.ones(3), np.ones(2))
