"""Optimal transport between regions against linear programming, finite differences and ott itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ott.geometry.geometry import Geometry
from ott.solvers.linear import solve as ott_solve

from experiments.benchmarks import instances
from tests.solvers.transport import REGIONS, arrays, instance, linear_program
from torta_jax.errors import InputError
from torta_jax.solvers import rounding
from torta_jax.solvers.sinkhorn import balanced, capacitated
from torta_jax.types import Status

BUFFER = 10.0


@pytest.mark.parametrize("seed", range(6))
def test_capacitated_costs_what_the_linear_program_costs(seed):
    cost, demand, capacity = instance(seed)
    best, plan, price = linear_program(cost, demand, capacity)
    with jax.enable_x64(True):
        found = capacitated(*arrays(cost, demand, capacity), epsilon=0.005)
        assert found.status == Status.CONVERGED
        assert best * (1 - 1e-6) <= (found.plan * cost).sum() <= best * 1.01
        assert found.value == pytest.approx(float((found.plan * cost).sum()), rel=1e-9)
        assert best * 0.99 <= found.lower_bound <= best * (1 + 1e-9)
        assert found.capacity_violation < 1e-8
        np.testing.assert_allclose(found.plan, plan, atol=0.05 * demand.sum())
        np.testing.assert_allclose(found.price, price, atol=0.05 * cost.mean())
        np.testing.assert_allclose(found.plan.sum(axis=1), demand, rtol=1e-6)
    assert (price > 0).any()
    assert (price < 1e-9).any()


@pytest.mark.parametrize("regions", [12, 32])
@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.9])
def test_at_one_percent_entropy_cost_is_within_half_a_percent_of_the_linear_program(regions, load):
    rng = np.random.default_rng([regions, int(100 * load)])
    cases = [instances.transport(rng, regions, load) for _ in range(12)]
    batch = [jnp.asarray(np.stack(part), jnp.float32) for part in zip(*cases, strict=True)]
    found = jax.jit(jax.vmap(lambda *args: capacitated(*args, epsilon=0.01)))(*batch)
    best = np.array([linear_program(*case)[0] for case in cases])
    assert (np.abs(np.asarray(found.value) / best - 1) < 0.005).all()
    assert found.capacity_violation.mean() < 1e-3
    assert (np.asarray(found.lower_bound) <= best * (1 + 1e-5)).all()
    shares = [linear_program(cost, demand, capacity * load, equal=True)[0] for cost, demand, capacity in cases]
    saved, possible = (1 - np.mean(value) / np.mean(shares) for value in (found.value, best))
    assert saved == pytest.approx(possible, abs=0.003)
    assert saved > 0.04


@pytest.mark.parametrize("load", [0.3, 0.7, 0.95])
def test_the_default_budget_converges(load):
    batch = (jnp.asarray(np.stack(part), float) for part in zip(*(instance(i, load) for i in range(64)), strict=True))
    found = jax.jit(jax.vmap(capacitated))(*batch)
    assert (found.status == Status.CONVERGED).all()
    assert (found.capacity_violation < 1e-3).all()


@pytest.mark.parametrize("load", [0.7, 0.95])
@pytest.mark.parametrize("kept", [0.6, 0.4, 0.25])
def test_the_default_budget_converges_where_pairs_are_forbidden(kept, load):
    rng = np.random.default_rng(7)
    cases = [instance(i, load, regions=12) for i in range(200)]
    batch = [jnp.asarray(np.stack(part), float) for part in zip(*cases, strict=True)]
    mask = jnp.asarray(rng.uniform(size=batch[0].shape) < kept)
    found = jax.jit(jax.vmap(lambda *args: capacitated(*args[:3], mask=args[3])))(*batch, mask)
    assert (found.status == Status.BUDGET_SPENT).mean() <= 0.01
    done = found.status != Status.BUDGET_SPENT
    assert (found.capacity_violation[done] <= 1e-3).all()


def test_a_small_violation_of_each_of_many_capacities_is_a_large_one():
    rng = np.random.default_rng(0)
    problem = rng.uniform(size=(4, 2000)), np.full(4, 0.25), np.full(2000, 1.05 / 2000)
    for solve in (capacitated, balanced):
        found = solve(*arrays(*problem), scaling_iters=0, newton_iters=0)
        received = np.asarray(found.plan, float).sum(axis=0)
        excess = np.maximum(received - np.asarray(problem[2]) / (1.05 if solve is balanced else 1), 0).sum()
        assert found.capacity_violation == pytest.approx(excess, rel=1e-3)
        assert found.marginal_error > 0.1
        assert found.status == Status.BUDGET_SPENT


def test_a_plan_that_has_not_converged_says_so_also_in_overload():
    found = capacitated(*arrays(*instance(0, load=1.5)), scaling_iters=0, newton_iters=0)
    assert found.capacity_violation > 0.01
    assert found.status == Status.BUDGET_SPENT


@pytest.mark.parametrize("start", [[1e4, 1e4, 1e4, 0, 0], [1e9, 0, 0, 0, 0], [-5, -5, -5, -5, -5]])
@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_a_start_of_any_prices_leads_to_the_same_plan(solve, start):
    problem = arrays(*instance(3, load=0.9))
    found, there = solve(*problem, init=jnp.asarray(start, float)), solve(*problem)
    assert found.status == Status.CONVERGED
    np.testing.assert_allclose(found.plan, there.plan, atol=1e-3)


def test_a_traced_temperature_gets_steps_enough_for_a_low_one():
    cost, demand, capacity = arrays(*instance(2, load=0.9))
    found = jax.jit(lambda epsilon: capacitated(cost, demand, capacity, epsilon=epsilon))(0.01)
    assert found.status == Status.CONVERGED


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("backend", ["own", "ott"])
def test_balanced_is_the_converged_plan_of_ott(seed, backend):
    cost, demand, capacity = instance(seed)
    with jax.enable_x64(True):
        geometry = Geometry(jnp.asarray(cost / cost.mean()), epsilon=0.05)
        a, b = arrays(demand / demand.sum(), capacity / capacity.sum())
        expected = ott_solve(geometry, a, b, threshold=1e-10, max_iterations=200_000).matrix * demand.sum()
        found = balanced(*arrays(cost, demand, capacity), backend=backend, newton_iters=12)
        atol = 1e-6 if backend == "own" else 0.01
        np.testing.assert_allclose(found.plan, expected, atol=atol * demand.sum())


@pytest.mark.parametrize("seed", range(4))
def test_balanced_costs_what_the_linear_program_with_equal_shares_costs(seed):
    cost, demand, capacity = instance(seed)
    best, *_ = linear_program(cost, demand, capacity * demand.sum() / capacity.sum(), equal=True)
    with jax.enable_x64(True):
        found = balanced(*arrays(cost, demand, capacity), epsilon=0.005)
        assert best * (1 - 1e-6) <= (found.plan * cost).sum() <= best * 1.01
        assert found.lower_bound <= best * (1 + 1e-9)
        shares = capacity / capacity.sum() * demand.sum()
        np.testing.assert_allclose(found.plan.sum(axis=0), shares, rtol=1e-6)


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
        np.testing.assert_allclose(found.plan.sum(axis=1) + found.buffered, args[1], atol=1e-5 * max(args[1].sum(), 1))


@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_nothing_is_sent_where_there_is_no_capacity(solve):
    cost, demand, capacity = instance(1, load=0.4)
    capacity[2] = 0
    found = solve(*arrays(cost, demand, capacity))
    assert found.plan[:, 2].sum() == 0
    assert found.status == Status.CONVERGED


@pytest.mark.parametrize("load", [1.01, 1.5, 4.0])
def test_overload_is_buffered_also_with_the_default_budget(load):
    for seed in range(8):
        cost, demand, capacity = instance(seed, load=load)
        found = capacitated(*arrays(cost, demand, capacity))
        assert found.status == Status.INFEASIBLE
        assert found.buffered.sum() == pytest.approx(demand.sum() - capacity.sum(), abs=1e-3 * demand.sum())
        np.testing.assert_allclose(found.plan.sum(axis=0), capacity, atol=2e-3 * demand.sum())


@pytest.mark.parametrize("seed", range(3))
def test_the_rows_that_are_buffered_are_those_of_the_linear_program(seed):
    cost, demand, capacity = instance(seed, load=1.5)
    with jax.enable_x64(True):
        found = capacitated(*arrays(cost, demand, capacity), epsilon=0.005, buffer_cost=BUFFER)
        assert found.buffered.sum() == pytest.approx(demand.sum() - capacity.sum(), rel=1e-3)
        best, plan, _ = linear_program(cost, demand, capacity, buffer=cost.max() + BUFFER * cost.mean())
        np.testing.assert_allclose(found.buffered, plan[:, -1], atol=0.05 * demand.sum())
        assert found.lower_bound <= best * (1 + 1e-9)
        assert found.value == pytest.approx(best, rel=1e-3)


def test_a_load_within_capacity_is_not_infeasible():
    assert capacitated(*arrays(*instance(0, load=0.99))).status != Status.INFEASIBLE


def test_too_small_a_budget_says_so():
    found = capacitated(*arrays(*instance(0, load=0.95)), epsilon=0.01, scaling_iters=1, newton_iters=0)
    assert found.status == Status.BUDGET_SPENT


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -3.0])
@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_values_that_are_not_allowed_say_so_when_traced(solve, part, wrong):
    problem = instance(0)
    problem[part][(0, 0) if part == 0 else 0] = wrong
    allowed = part == 0 and wrong == -3.0  # a cost may be negative
    found = jax.jit(solve)(*arrays(*problem))
    assert (found.status == Status.NON_FINITE) != allowed
    assert np.isfinite(found.lower_bound) == allowed


def test_costs_that_overflow_say_so():
    cost, demand, capacity = (np.zeros((1, 10), np.float32), np.ones(1), np.zeros(10))
    cost[0, 0], capacity[0] = 3e38, 9.0
    found = capacitated(cost, 5 * demand, capacity)
    assert found.status == Status.NON_FINITE
    assert found.lower_bound == -np.inf


def test_capacity_beyond_all_bounds_is_as_good_as_none():
    cost, demand, _ = arrays(*instance(0))
    found = capacitated(cost, demand, jnp.full(REGIONS, 3e38))
    assert found.status == Status.CONVERGED
    assert found.lower_bound <= found.value


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("load", [0.5, 0.9])
def test_forbidden_pairs_get_nothing_and_the_rest_is_the_linear_program_without_them(seed, load):
    cost, demand, capacity = instance(seed, load)
    mask = np.random.default_rng(seed).uniform(size=cost.shape) < 0.6
    junk = np.where(mask, cost, np.nan)
    best, plan, _ = linear_program(
        cost, demand, capacity, mask=mask, buffer=cost[mask].max() + BUFFER * cost[mask].mean()
    )
    exact = {"epsilon": 0.005, "newton_iters": 60, "buffer_cost": BUFFER}
    with jax.enable_x64(True):
        found = capacitated(*arrays(junk, demand, capacity), mask=jnp.asarray(mask), **exact)
        assert (np.asarray(found.plan)[~mask] == 0).all()
        assert (np.asarray(found.routing)[~mask] == 0).all()
        np.testing.assert_allclose(found.buffered.sum(), plan[:, -1].sum(), atol=1e-3 * demand.sum())
        assert (found.status == Status.INFEASIBLE) == (plan[:, -1].sum() > 1e-3 * demand.sum())
        assert found.capacity_violation < 1e-3
        assert found.lower_bound <= best * (1 + 1e-9)
        assert found.value <= best * 1.01 + 1e-9


def test_a_row_that_may_go_nowhere_is_buffered():
    cost, demand, capacity = instance(0, 0.5)
    mask = np.ones(cost.shape, bool)
    mask[3] = False
    found = capacitated(*arrays(cost, demand, capacity), mask=jnp.asarray(mask))
    assert found.status == Status.INFEASIBLE
    assert found.buffered[3] == pytest.approx(demand[3])
    np.testing.assert_allclose(found.routing.sum(axis=1), [1, 1, 1, 0, 1], atol=1e-6)


@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_padding_changes_nothing(solve):
    cost, demand, capacity = instance(3, 0.8)
    plain = solve(*arrays(cost, demand, capacity))
    wide = np.pad(cost, (0, 3), constant_values=7.0), np.pad(demand, (0, 3)), np.pad(capacity, (0, 3))
    mask = np.pad(np.ones(cost.shape, bool), (0, 3))
    padded = solve(*arrays(*wide), mask=jnp.asarray(mask))
    np.testing.assert_allclose(padded.plan[:REGIONS, :REGIONS], plain.plan, atol=1e-4)
    np.testing.assert_allclose(padded.price[:REGIONS], plain.price, atol=1e-5)
    np.testing.assert_allclose(padded.value, plain.value, rtol=1e-5)
    assert padded.plan[REGIONS:].sum() == padded.plan[:, REGIONS:].sum() == 0


def test_a_price_of_a_region_moves_the_capacitated_plan_but_not_the_balanced_one():
    cost, demand, capacity = instance(2, load=0.5)
    dear = cost + 0.5 * (np.arange(REGIONS) == 0)
    epsilon = 0.05 / cost.mean() * np.array([cost.mean(), cost.mean() ** 2 / dear.mean()])  # the same in units of cost
    moved = []
    for solve in (capacitated, balanced):
        before = solve(*arrays(cost, demand, capacity), epsilon=float(epsilon[0])).plan[:, 0].sum()
        after = solve(*arrays(dear, demand, capacity), epsilon=float(epsilon[1])).plan[:, 0].sum()
        moved.append(abs(after - before) / demand.sum())
    assert moved[0] > 0.01
    assert moved[1] < 1e-4


def test_capacity_has_a_price_only_where_it_is_used_up():
    cost, demand, capacity = instance(3)
    found = capacitated(*arrays(cost, demand, capacity))
    used = np.asarray(found.plan).sum(axis=0) / capacity
    assert (np.asarray(found.price) >= 0).all()
    assert (np.asarray(found.price)[used < 0.99] == 0).all()
    assert (used[np.asarray(found.price) > 1e-3] > 0.99).all()


@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_a_warm_start_needs_fewer_iterations(solve):
    cost, demand, capacity = arrays(*instance(4, load=0.9))
    few = {"scaling_iters": 10, "newton_iters": 0}
    there = solve(cost, demand, capacity).price
    cold = solve(cost, demand, capacity, **few)
    warm = solve(cost * 1.01, demand, capacity, **few, init=there)
    assert warm.marginal_error < 0.1 * cold.marginal_error


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_units_of_cost_and_mass_do_not_matter(solve, factor):
    cost, demand, capacity = instance(5, load=0.8)
    plain = solve(*arrays(cost, demand, capacity))
    costly, many = (
        solve(*arrays(factor * cost, demand, capacity)),
        solve(*arrays(cost, factor * demand, factor * capacity)),
    )
    np.testing.assert_allclose(costly.plan, plain.plan, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(costly.price / factor, plain.price, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(many.plan / factor, plain.plan, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(many.price, plain.price, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("load", [0.5, 0.9, 1.4])
def test_bounds_meet_a_rounded_plan(load):
    """What the certificate says of a plan made feasible: the optimum lies between the two."""
    for seed in range(6):
        cost, demand, capacity = instance(seed, load)
        buffer = cost.max() + BUFFER * cost.mean()
        best, *_ = linear_program(cost, demand, capacity, buffer=buffer)
        found = capacitated(*arrays(cost, demand, capacity), epsilon=0.01)
        exact = np.asarray(rounding.feasible(found.plan, *arrays(demand, capacity)), float)
        spent = (exact * cost).sum() + buffer * (demand - exact.sum(axis=1)).sum()
        assert found.lower_bound <= best * (1 + 1e-5)
        assert best * (1 - 1e-5) <= spent <= best * 1.005 + 1e-3 * demand.sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cost": np.ones(3)}, r"cost: an array \[N, C\] is needed"),
        ({"cost": np.array([[1.0, np.nan], [1.0, 1.0]])}, r"cost\[0, 1\] = nan: a finite number is needed"),
        ({"demand": np.ones(3)}, r"demand: shape \(2,\) is needed \(one number per row of cost\)"),
        ({"demand": np.array([1.0, -2.0])}, r"demand\[1\] = -2.0: a finite number of at least 0 is needed"),
        ({"capacity": np.array([np.inf, 1.0])}, r"capacity\[0\] = inf: a finite number of at least 0 is needed"),
        ({"capacity": np.zeros(2)}, "capacity: no column has any"),
        ({"mask": np.zeros((2, 2), bool)}, "mask: every pair is forbidden"),
        ({"mask": np.ones((2, 3), bool)}, r"mask: shape \(2, 2\) is needed"),
        ({"init": np.zeros(3)}, r"init: shape \(2,\) is needed"),
        ({"epsilon": np.nan}, "epsilon = nan: a finite number above 0 is needed"),
        ({"epsilon": 0.0}, "epsilon = 0.0: a finite number above 0 is needed"),
        ({"epsilon": np.ones(2)}, r"epsilon: shape \(\) is needed"),
        (
            {"cost": np.array([[1.0, 1e300], [1.0, 1.0]])},
            r"cost\[0, 1\] = 1e\+300: a finite number in float32",
        ),
        ({"tolerance": -1.0}, "tolerance = -1.0: a finite number above 0 is needed"),
        ({"newton_iters": -2}, "newton_iters = -2: a whole number of at least 0 is needed"),
        ({"scaling_iters": 2.5}, "scaling_iters = 2.5: a whole number of at least 0 is needed"),
    ],
)
@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_bad_input_is_named(solve, change, message):
    given = {"cost": np.ones((2, 2)), "demand": np.ones(2), "capacity": np.ones(2)} | change
    with pytest.raises(InputError, match=message):
        solve(given.pop("cost"), given.pop("demand"), given.pop("capacity"), **given)


def test_an_unknown_backend_is_named():
    with pytest.raises(InputError, match="unknown backend 'pot'"):
        balanced(*arrays(*instance(0)), backend="pot")
