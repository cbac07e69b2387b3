"""Optimal transport between regions against linear programming and against ott itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ott.geometry.geometry import Geometry
from ott.solvers.linear import solve as ott_solve
from scipy.optimize import linprog

from torta_jax.solvers.sinkhorn import balanced, capacitated
from torta_jax.types import Status

REGIONS = 5
FINE = {"epsilon": 0.005, "num_iters": 20_000, "relaxation": 1.0}
BUFFER = 10.0


def instance(seed, load=0.7):
    """Cost, demand and capacity; some capacities bind."""
    rng = np.random.default_rng(seed)
    cost, demand, capacity = rng.uniform(0.1, 2, (REGIONS, REGIONS)), *rng.uniform(5, 60, (2, REGIONS))
    return cost, demand, capacity * demand.sum() / capacity.sum() / load


def linear_program(cost, demand, capacity, *, equal=False, buffer=None):
    """Least <cost, P> with P·1 = demand and Pᵀ·1 at most (or equal to) capacity; prices of capacity beside it."""
    n = len(demand)
    if buffer is not None:
        cost, capacity = np.column_stack([cost, np.full(n, buffer)]), np.append(capacity, demand.sum())
    width = cost.shape[1]
    rows, columns = np.kron(np.eye(n), np.ones(width)), np.kron(np.ones(n), np.eye(width))
    if equal:
        both = np.append(demand, capacity)
        result = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=both, method="highs")
        return result.fun, result.x.reshape(n, width), np.full(n, np.nan)
    result = linprog(cost.ravel(), A_eq=rows, b_eq=demand, A_ub=columns, b_ub=capacity, method="highs")
    return result.fun, result.x.reshape(n, width), -result.ineqlin.marginals[:n]


def arrays(*values):
    return [jnp.asarray(value, float) for value in values]


@pytest.mark.parametrize("seed", range(6))
def test_capacitated_costs_what_the_linear_program_costs(seed):
    cost, demand, capacity = instance(seed)
    best, plan, price = linear_program(cost, demand, capacity)
    with jax.enable_x64(True):
        found = capacitated(*arrays(cost, demand, capacity), **FINE)
        assert found.status == Status.CONVERGED
        assert best * (1 - 1e-3) <= (found.plan * cost).sum() <= best * 1.01
        assert found.capacity_violation < 1e-3
        np.testing.assert_allclose(found.plan, plan, atol=0.05 * demand.sum())
        np.testing.assert_allclose(found.price, price, atol=0.05 * cost.mean())
        np.testing.assert_allclose(found.plan.sum(axis=1), demand, rtol=1e-6)
    assert (price > 0).any()
    assert (price < 1e-9).any()


@pytest.mark.parametrize("seed", range(4))
def test_the_default_budget_keeps_within_one_percent_of_capacity_and_a_larger_one_converges(seed):
    cost, demand, capacity = instance(seed)
    found = capacitated(*arrays(cost, demand, capacity))
    assert (np.asarray(found.plan).sum(axis=0) <= capacity + 0.01 * demand.sum()).all()
    assert found.capacity_violation < 0.01
    assert capacitated(*arrays(cost, demand, capacity), num_iters=1000).status == Status.CONVERGED


@pytest.mark.parametrize("seed", range(4))
def test_balanced_is_the_converged_plan_of_ott(seed):
    cost, demand, capacity = instance(seed)
    with jax.enable_x64(True):
        geometry = Geometry(jnp.asarray(cost / cost.mean()), epsilon=0.05)
        a, b = arrays(demand / demand.sum(), capacity / capacity.sum())
        expected = ott_solve(geometry, a, b, threshold=1e-10, max_iterations=200_000).matrix * demand.sum()
        found = balanced(*arrays(cost, demand, capacity), num_iters=20_000)
        np.testing.assert_allclose(found.plan, expected, atol=1e-6 * demand.sum())
        assert found.status == Status.CONVERGED
        short = balanced(*arrays(cost, demand, capacity))
        np.testing.assert_allclose(short.plan, expected, atol=0.01 * demand.sum())


@pytest.mark.parametrize("seed", range(4))
def test_balanced_costs_what_the_linear_program_with_equal_shares_costs(seed):
    cost, demand, capacity = instance(seed)
    best, *_ = linear_program(cost, demand, capacity * demand.sum() / capacity.sum(), equal=True)
    with jax.enable_x64(True):
        found = balanced(*arrays(cost, demand, capacity), epsilon=0.005, num_iters=20_000)
        assert best * (1 - 1e-3) <= (found.plan * cost).sum() <= best * 1.01
        shares = capacity / capacity.sum() * demand.sum()
        np.testing.assert_allclose(found.plan.sum(axis=0), shares, rtol=1e-3)


def sixteen(change=lambda *x: x):
    rng = np.random.default_rng(5)
    for seed in range(16):
        yield change(rng, *instance(seed, load=rng.uniform(0.2, 0.9)))


def no_demand(rng, cost, demand, capacity):
    return cost, demand * (rng.uniform(size=REGIONS) < 0.5), capacity


def no_capacity(rng, cost, demand, capacity):
    return cost, demand, capacity * (np.arange(REGIONS) != rng.integers(REGIONS))


def nothing(rng, cost, demand, capacity):
    return cost, 0 * demand, capacity


@pytest.mark.parametrize("change", [lambda rng, *x: x, no_demand, no_capacity, nothing])
@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_routing_is_row_stochastic_also_without_demand_or_capacity(solve, change):
    for args in sixteen(change):
        found = solve(*arrays(*args))
        np.testing.assert_allclose(found.routing.sum(axis=1), 1, atol=1e-5)
        assert (found.routing >= 0).all()
        np.testing.assert_allclose(found.plan.sum(axis=1) + found.buffered, args[1], atol=2e-3 * max(args[1].sum(), 1))


def test_capacitated_sends_nothing_where_there_is_no_capacity():
    cost, demand, capacity = instance(1, load=0.4)
    capacity[2] = 0
    found = capacitated(*arrays(cost, demand, capacity), num_iters=500)
    assert found.plan[:, 2].sum() < 2e-3 * demand.sum()
    assert found.status == Status.CONVERGED


@pytest.mark.parametrize("load", [1.01, 1.5, 4.0])
def test_overload_is_buffered_also_with_the_default_budget(load):
    for seed in range(8):
        cost, demand, capacity = instance(seed, load=load)
        found = capacitated(*arrays(cost, demand, capacity))
        assert found.status == Status.INFEASIBLE
        assert found.buffered.sum() == pytest.approx(demand.sum() - capacity.sum(), abs=2e-3 * demand.sum())
        np.testing.assert_allclose(found.plan.sum(axis=0), capacity, atol=5e-3 * demand.sum())


@pytest.mark.parametrize("seed", range(3))
def test_overload_is_buffered_and_infeasible(seed):
    cost, demand, capacity = instance(seed, load=1.5)
    with jax.enable_x64(True):
        found = capacitated(*arrays(cost, demand, capacity), **FINE, buffer_cost=BUFFER)
        assert found.status == Status.INFEASIBLE
        assert found.buffered.sum() == pytest.approx(demand.sum() - capacity.sum(), rel=0.01)
        np.testing.assert_allclose(found.plan.sum(axis=0), capacity, rtol=0.01)
        _, plan, _ = linear_program(cost, demand, capacity, buffer=BUFFER * cost.mean())
        np.testing.assert_allclose(found.buffered, plan[:, -1], atol=0.05 * demand.sum())


def test_a_load_within_capacity_is_not_infeasible():
    assert capacitated(*arrays(*instance(0, load=0.99)), num_iters=2000).status != Status.INFEASIBLE


def test_too_small_a_budget_says_so():
    assert capacitated(*arrays(*instance(0, load=0.95)), epsilon=0.01, num_iters=2).status == Status.BUDGET_SPENT


def test_values_that_are_not_finite_say_so():
    cost, demand, capacity = instance(0)
    cost[0, 0] = np.nan
    assert capacitated(*arrays(cost, demand, capacity)).status == Status.NON_FINITE


def test_a_price_of_a_region_moves_the_capacitated_plan_but_not_the_balanced_one():
    cost, demand, capacity = instance(2, load=0.5)
    dear = cost + 0.5 * (np.arange(REGIONS) == 0)
    epsilon = 0.05 / cost.mean() * np.array([cost.mean(), cost.mean() ** 2 / dear.mean()])  # the same in units of cost
    moved = []
    for solve in (capacitated, balanced):
        kwargs = {"num_iters": 3000}
        before = solve(*arrays(cost, demand, capacity), epsilon=epsilon[0], **kwargs).plan[:, 0].sum()
        after = solve(*arrays(dear, demand, capacity), epsilon=epsilon[1], **kwargs).plan[:, 0].sum()
        moved.append(abs(after - before) / demand.sum())
    assert moved[0] > 0.01
    assert moved[1] < 1e-4


def test_capacity_has_a_price_only_where_it_is_used_up():
    cost, demand, capacity = instance(3)
    found = capacitated(*arrays(cost, demand, capacity), num_iters=2000)
    used = np.asarray(found.plan).sum(axis=0) / capacity
    assert (np.asarray(found.price) >= 0).all()
    assert (np.asarray(found.price)[used < 0.99] == 0).all()
    assert (used[np.asarray(found.price) > 1e-3] > 0.99).all()


def test_a_warm_start_needs_fewer_iterations():
    cost, demand, capacity = arrays(*instance(4, load=0.9))
    there = capacitated(cost, demand, capacity, num_iters=2000).potential
    cold = capacitated(cost, demand, capacity, num_iters=3)
    warm = capacitated(cost, demand, capacity, num_iters=3, init=there)
    assert warm.marginal_error < 0.1 * cold.marginal_error


@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_random_instances_of_any_scale_give_finite_plans(solve):
    @jax.jit
    @jax.vmap
    def one(key):
        u = jax.random.uniform(key, (3, REGIONS, REGIONS))
        scale = 10.0 ** (6 * u[2, 0, :2] - 3)
        demand = u[1, 0] * scale[0] * (u[2, 1] < 0.8)
        capacity = u[1, 1] * scale[0] * (u[2, 2] < 0.8) * 3
        return solve(u[0] * scale[1], demand, capacity)

    found = one(jax.random.split(jax.random.key(0), 500))
    for name in ("routing", "plan", "buffered", "price", "potential", "marginal_error"):
        assert np.isfinite(getattr(found, name)).all(), name
    assert (found.status != Status.NON_FINITE).all()


def test_gradients_through_the_capacitated_plan_are_finite_and_right():
    cost, demand, capacity = instance(0)

    def spent(bias):
        return (capacitated(*arrays(cost + bias, demand, capacity), num_iters=300).routing * cost).sum()

    with jax.enable_x64(True):
        bias = jnp.zeros((REGIONS, REGIONS))
        slope = jax.grad(spent)(bias)
        step = bias.at[1, 2].set(1e-5)
        assert float(slope[1, 2]) == pytest.approx(float((spent(step) - spent(-step)) / 2e-5), rel=1e-3, abs=1e-6)
        assert np.isfinite(slope).all()
