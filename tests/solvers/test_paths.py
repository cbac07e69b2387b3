"""Chains of moves, with hardly a bid before them, against SciPy's assignment; and a batch in lock-step, as on a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.benchmarks.instances import KINDS
from tests.solvers.test_auction import instance, optimum
from torta_jax.solvers import auction
from torta_jax.solvers.matching import assignment, matching

ROUNDS = 2000


def solve(value, room, outside, start):
    problem = assignment(value, room, outside)
    price = start * problem.unit
    state = auction.bid_and_move(problem, price.astype(problem.value.dtype), 1 if problem.exact else 1e-3, ROUNDS)
    return matching(problem, state.server, state.price, state.rounds, ~state.bidding & ~state.idle)


@pytest.fixture
def hardly_a_bid(monkeypatch):
    jax.clear_caches()  # what was compiled has the usual patience
    monkeypatch.setattr(auction, "PATIENCE", 1)
    yield
    jax.clear_caches()


@pytest.mark.usefixtures("hardly_a_bid")
@pytest.mark.parametrize("load", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("number", [jnp.int32, jnp.float32])
def test_chains_of_moves_end_at_the_optimum_from_any_prices(number, load):
    rng = np.random.default_rng(5)
    cases = [instance(kind, rng, load=load) for kind in KINDS for _ in range(8)]
    value, room, outside = (np.stack(part) for part in zip(*cases, strict=True))
    start = rng.uniform(0, 1, room.shape)  # of any height: of both kinds of chains many are needed
    found = jax.jit(jax.vmap(solve))(jnp.asarray(value, number), room, jnp.asarray(outside, number), start)
    best = np.array([optimum(*case) for case in cases])
    assert (found.status == 0).all()
    assert found.rounds.mean() > 5
    if number == jnp.int32:
        np.testing.assert_array_equal(found.value, best)
        np.testing.assert_array_equal(found.dual_value, best)
    else:
        assert (np.asarray(found.value) >= best - 24 * 1e-3 * 1000).all()
        assert (found.dual_value - found.value <= 24 * 1e-3 * 1000 * 1.01).all()


@pytest.mark.usefixtures("hardly_a_bid")
def test_tasks_from_outside_begin_chains_that_fill_idle_servers():
    value = jnp.array([[10, 0], [9, 8]])
    found = jax.jit(solve)(value, jnp.array([1, 1]), jnp.array([0, 0]), jnp.array([1.0, 1.0]))
    np.testing.assert_array_equal(found.server, [0, 1])
    assert int(found.value) == int(found.dual_value) == 18


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(KINDS), st.floats(0.3, 3))
def test_a_batch_in_lock_step_ends_as_one_by_one(seed, kind, load):
    rng = np.random.default_rng(seed)
    cases = [instance(kind, rng, load=load) for _ in range(4)]
    batch = [jnp.asarray(np.stack(part), jnp.int32) for part in zip(*cases, strict=True)]
    together, alone = LOCK_STEP(*batch), jax.lax.map(lambda case: LOCK_STEP(*(x[None] for x in case)), tuple(batch))
    for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
        np.testing.assert_array_equal(a, b[:, 0])


LOCK_STEP = jax.jit(jax.vmap(lambda value, room, outside: solve(value, room, outside, 0.3 * jnp.ones(8))))
