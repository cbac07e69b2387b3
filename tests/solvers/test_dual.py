"""Gradients through the prices of the dual: against central differences, and finite whatever the problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.solvers.transport import REGIONS, arrays, instance
from torta_jax.solvers.sinkhorn import balanced, capacitated
from torta_jax.types import Status


def random_problem(key, regions):
    """Any scale, a third of rows without demand, columns without capacity, forbidden pairs and padding."""
    keys = jax.random.split(key, 6)
    uniform = lambda i, *shape: jax.random.uniform(keys[i], shape)  # noqa: E731
    scale = 10.0 ** (8 * uniform(0, 3) - 4)
    spread = jnp.exp(scale[2] * 1e-3 * jax.random.normal(keys[1], (regions, regions)))
    demand = uniform(2, regions) * scale[0] * (uniform(3, regions) < 0.7)
    capacity = 3 * uniform(4, regions) * scale[0] * (uniform(5, regions) < 0.8)
    there = jnp.arange(regions) < regions - 2
    mask = (jax.random.uniform(jax.random.fold_in(key, 1), (regions, regions)) < 0.9) & there & there[:, None]
    return jnp.clip(spread, 1e-6, 1e6) * scale[1], demand * there, capacity * there, mask


def finite_in_all(solve, count, batch=1000):
    def cost_of(cost, demand, capacity, mask):
        found = solve(cost, demand, capacity, mask=mask)
        return found.value + (found.routing**2).sum() + (found.price * demand).sum(), found

    @jax.jit
    @jax.vmap
    def one(key):
        (_, found), slopes = jax.value_and_grad(cost_of, (0, 1, 2), has_aux=True)(*random_problem(key, 12))
        return found, slopes

    for i in range(count // batch):
        found, slopes = one(jax.random.split(jax.random.key(i), batch))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found, slopes))), i
        assert (found.status != Status.NON_FINITE).all()


@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_random_instances_of_any_scale_give_finite_plans_and_gradients(solve):
    finite_in_all(solve, 2000)


@pytest.mark.slow  # 100,000 instances each
@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_a_hundred_thousand_random_instances_give_finite_plans_and_gradients(solve):
    finite_in_all(solve, 100_000)


@pytest.mark.parametrize("solve", [capacitated, balanced])
@pytest.mark.parametrize("load", [0.6, 0.95])
def test_gradients_are_those_of_central_differences_on_the_worst_of_many_instances(solve, load):
    with jax.enable_x64(True):
        weight = jnp.asarray(np.random.default_rng(0).normal(size=(REGIONS, REGIONS)))

        def measure(args):
            found = solve(*args, newton_iters=20)
            return (found.plan * weight).sum() / args[1].sum() + (found.price * weight[0]).sum() + found.value / 100

        measure, slope = jax.jit(measure), jax.jit(jax.grad(measure))
        for seed in range(12):
            args = tuple(arrays(*instance(seed, load)))
            found = slope(args)
            for part, index in ((0, (1, 2)), (0, (3, 0)), (1, (2,)), (2, (1,)), (2, (4,))):
                step = 1e-5 * args[part][index]
                shifted = [
                    measure((*args[:part], args[part].at[index].add(sign * step), *args[part + 1 :]))
                    for sign in (1, -1)
                ]
                expected = float(shifted[0] - shifted[1]) / (2 * float(step))
                assert float(found[part][index]) == pytest.approx(expected, rel=1e-5, abs=1e-7), (seed, part)


@pytest.mark.parametrize("solve", [capacitated, balanced])
def test_the_gradient_of_the_objective_is_the_plan_and_its_prices(solve):
    with jax.enable_x64(True):
        cost, demand, capacity = arrays(*instance(1, 0.9))
        unit = cost.mean()

        def objective(cost, demand, capacity):
            return solve(cost, demand, capacity, epsilon=0.05 * unit / jnp.abs(cost).mean(), newton_iters=20).objective

        found = solve(cost, demand, capacity, newton_iters=20)
        by_cost, by_capacity = jax.grad(objective, (0, 2))(cost, demand, capacity)
        np.testing.assert_allclose(by_cost, found.plan, atol=1e-6)
        if solve is capacitated:
            np.testing.assert_allclose(by_capacity, -found.price, atol=1e-6)
        assert objective(cost, demand, capacity) <= found.value
        for part, gradient in ((0, by_cost), (2, by_capacity)):
            args, step = [cost, demand, capacity], 1e-5 * (np.arange(REGIONS) == 2)
            ends = [objective(*(x + sign * step * (i == part) for i, x in enumerate(args))) for sign in (1, -1)]
            slope = gradient[..., 2].sum()
            assert float(slope) == pytest.approx(float(ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-6)
