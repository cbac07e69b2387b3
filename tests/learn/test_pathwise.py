"""Slopes in a network's weights through the whole cost, and one update by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from torta_jax import schedulers
from torta_jax.learn import pathwise
from torta_jax.learn.worlds import CALM, HARD, LIGHT, random_world
from torta_jax.schedulers.learned import Learned
from torta_jax.sim import fluid, fluid_servers
from torta_jax.sim.env import Objective
from torta_jax.sim.state import Physics
from torta_jax.types import numbers

SIZES = pathwise.Sizes(num_worlds=3, num_slots=10, num_regions=3, num_servers=4)


def policy_of(parameters=None) -> Learned:
    return numbers(Learned(**vars(schedulers.get("torta")), parameters=parameters))


@pytest.mark.slow
def test_slopes_in_the_weights_are_those_of_central_differences(monkeypatch):
    """Along random directions, in double precision, through network, Sinkhorn and fluid model.

    Slopes leave out how busy servers were a slot or a round ago: here nothing depends on it.
    """
    monkeypatch.setattr(fluid_servers, "ROUNDS", 1)
    run_slot = fluid.run_slot

    def forgetful(world, physics, policy, flows, **how):
        return run_slot(world, physics, policy, flows.replace(busy=jnp.zeros_like(flows.busy)), **how)

    monkeypatch.setattr(fluid, "run_slot", forgetful)
    with jax.enable_x64(True):
        world = random_world(jax.random.key(3), pathwise.floats(HARD), 3, 4, SIZES.num_slots)
        start = policy_of().fresh(jax.random.key(1))
        start = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), start)

        @jax.jit
        def cost(parameters):
            policy = policy_of(parameters)
            policy = policy.replace(toll=policy.toll.replace(weight=0.0))
            return pathwise.cost(world, Physics(), policy, Objective(), SIZES.num_slots, open_loop=False)

        slope = jax.jit(jax.grad(cost))(start)
        for seed in range(4):
            keys = jax.random.split(jax.random.key(10 + seed), len(jax.tree.leaves(start)))
            keys = jax.tree.unflatten(jax.tree.structure(start), list(keys))
            towards = jax.tree.map(lambda x, key: jax.random.normal(key, x.shape, x.dtype), start, keys)
            step = 1e-6

            def moved(by, towards=towards):
                return jax.tree.map(lambda x, v: x + by * v, start, towards)

            difference = (cost(moved(step)) - cost(moved(-step))) / (2 * step)
            assert optax.tree.vdot(slope, towards) == pytest.approx(float(difference), rel=1e-4, abs=1e-7)


@pytest.mark.slow
def test_slopes_do_not_explode():
    """In 48 worlds of all kinds, over twice as many slots as training has, of the network of the package."""
    learner = pathwise.Learner(policy_of(), pathwise.Sizes(num_slots=120), (CALM, HARD, LIGHT))
    state = jax.jit(learner.init)(jax.random.key(5))
    trained: Any = schedulers.get("torta-learned")
    state = state.replace(parameters=jax.tree.map(lambda x: jnp.asarray(x, float), trained.parameters))
    slopes = jax.jit(learner.slopes)
    blocks = [slopes(state, jnp.arange(first, first + 8))[1] for first in range(0, 48, 8)]
    flat = jnp.concatenate([jax.vmap(lambda x: ravel_pytree(x)[0])(block) for block in blocks])
    norms = jnp.linalg.norm(flat, axis=1)
    assert jnp.median(norms) < 20
    assert norms.max() < 1000


def test_worlds_are_of_their_kinds_in_turn_and_decided_by_the_key():
    kinds = (CALM.replace(load=(0.1, 0.2)), CALM.replace(load=(0.4, 0.5)))
    learner = pathwise.Learner(policy_of(), SIZES, kinds)
    make = jax.jit(lambda key: learner.worlds(key, jnp.arange(SIZES.num_worlds)))
    worlds, again, *others = (make(jax.random.key(seed)) for seed in (0, 0, 1, 2, 3, 4, 5))
    np.testing.assert_array_equal(worlds.prepared.rate, again.prepared.rate)
    assert (worlds.prepared.rate != others[0].prepared.rate).any()
    full = np.array([np.asarray(some.workload.load) > 0.3 for some in (worlds, *others)])
    assert (np.diff(full.astype(int), axis=1) != 0).all()
    assert len(np.unique(full[:, 0])) == 2  # whose turn is first is drawn, too


def test_a_world_whose_slope_is_not_finite_counts_as_flat_and_is_counted():
    learner = pathwise.Learner(policy_of(), SIZES)
    weights = {"w": jnp.ones((2, 2))}
    state = pathwise.Training(weights, pathwise.ADAM.init(weights), jnp.int32(30), jax.random.key(0))
    slopes = {"w": jnp.ones((3, 2, 2)).at[1, 0, 1].set(jnp.inf).at[2, 1, 1].set(jnp.nan)}
    new, log = learner.improve(state, numbers(pathwise.Numbers()), jnp.ones(3), slopes)
    assert log["without_slope"] == 2
    assert (np.asarray(new.parameters["w"]) < 1).all()
    assert np.isfinite(new.parameters["w"]).all()


def test_an_update_by_hand():
    """Of the cost's logarithm, world by world no more than the largest norm; Adam's first step, warm-up and decay."""
    learner, settings = pathwise.Learner(policy_of(), SIZES), numbers(pathwise.Numbers(max_grad_norm=100.0))
    weights = {"w": jnp.ones(2)}
    state = pathwise.Training(weights, pathwise.ADAM.init(weights), jnp.int32(9), jax.random.key(0))
    slopes = {"w": jnp.array([[-200.0, 0.0], [0.0, 10.0]])}
    new, log = learner.improve(state, settings, jnp.array([1.0, 3.0]), slopes)
    mean = np.array([-100.0, 10.0 / 3]) / 2
    np.testing.assert_allclose(new.optimiser.mu["w"], 0.1 * mean, rtol=1e-6)
    rate = 1e-3 * (10 / 20) * 0.5 * (1 + np.cos(np.pi * 9 / 400))
    np.testing.assert_allclose(new.parameters["w"], 1 - rate * np.sign(mean), rtol=1e-6)
    assert log["cost"] == 2
    assert log["gradient_norm"] == pytest.approx((200 + 10 / 3) / 2)
    assert new.updates == 10


class Plain(pathwise.Learner):
    """A learner whose slopes are the numbers of its worlds."""

    def slopes(self, state, which):
        return which.astype(float), which * jnp.ones(())

    def improve(self, state, numbers, values, slopes):
        return state, {"values": values, "slopes": slopes * numbers}


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("worlds", [1, 7, 8, 13, 32])
def test_every_world_is_taken_once_and_in_order_on_any_number_of_cores(monkeypatch, cores, worlds):
    monkeypatch.setattr(pathwise, "cores", lambda: cores)
    update = pathwise.by_cores(Plain(None, SIZES._replace(num_worlds=worlds)))
    _, seen = update(None, 2.0)  # type: ignore[arg-type]
    np.testing.assert_array_equal(seen["values"], np.arange(worlds))
    np.testing.assert_array_equal(seen["slopes"], 2.0 * np.arange(worlds))


@pytest.mark.slow
def test_an_update_has_the_same_bits_on_any_number_of_cores(monkeypatch):
    learner = pathwise.Learner(policy_of(), SIZES._replace(num_worlds=3 * pathwise.BLOCK))
    begin = jax.jit(learner.init)(jax.random.key(0))
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(pathwise, "cores", lambda cores=cores: cores)
        update, state = pathwise.by_cores(learner), begin
        for _ in range(3):
            state, log = update(state, numbers(pathwise.Numbers()))
        found.append((state.parameters, log))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(one, other)
