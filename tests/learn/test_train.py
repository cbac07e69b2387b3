"""Training on the host: what is told and kept, where it stops, and that resuming changes no bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from torta_jax.learn import checkpoint, recipes, train
from torta_jax.sim.env import Objective


class Count(struct.PyTreeNode):
    updates: jax.Array


class Counting:
    """Logs how often it was asked; one update has a value that is none."""

    def __init__(self, bad: int | None = None):
        self.bad = bad

    def update(self, state, numbers):
        value = state.updates + numbers
        value = jnp.where(value == (-1 if self.bad is None else self.bad), jnp.nan, value)
        return Count(state.updates + 1), {"cost": value.astype(float), "rate": jnp.ones(())}


START = Count(jnp.int32(0))


def test_every_update_is_told_and_logged_and_the_end_is_kept():
    told, kept = [], []
    done = train.train(Counting().update, 10, START, 3, keep=kept.append, tell=lambda *row: told.append(row))
    assert [row["cost"] for row in done.log] == [10, 11, 12]
    assert [(n, of) for n, of, _ in told] == [(1, 3), (2, 3), (3, 3)]
    assert kept == [done]


def test_it_goes_on_from_where_the_state_is():
    half = train.train(Counting().update, 0, START, 2)
    whole = train.train(Counting().update, 0, half.state, 5, log=half.log)
    assert [row["update"] for row in whole.log] == [1, 2, 3, 4, 5]
    assert train.train(Counting().update, 0, whole.state, 5, log=whole.log).log == whole.log


def test_a_number_that_is_not_finite_ends_it_with_the_state_before():
    kept = []
    with pytest.raises(train.NotFinite, match="update 3: cost not finite"):
        train.train(Counting(bad=2).update, 0, START, 9, keep=kept.append)
    assert int(kept[-1].state.updates) == 2
    assert len(kept[-1].log) == 2


def test_an_interruption_keeps_what_was_done():
    kept = []

    def tell(done, total, row):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.train(Counting().update, 0, START, 9, keep=kept.append, tell=tell)
    assert int(kept[-1].state.updates) == 4


def test_an_interrupted_training_of_torta_ends_with_the_same_bits(tmp_path):
    recipe = recipes.torta(
        updates=4, worlds=2, slots=14, regions=3, servers=3, kinds=("calm", "hard"), learning_rate=1e-3
    )
    start = recipe.learner.init(jax.random.key(1))
    whole = train.train(recipe.update, recipe.numbers, start, 4)
    keep = train.keep_in(tmp_path, {}, lambda trained: None)
    half = train.train(recipe.update, recipe.numbers, start, 2, keep=keep)
    step, state = checkpoint.restore(tmp_path, start, {})
    assert step == 2
    again = train.train(recipe.update, recipe.numbers, state, 4, log=half.log)
    assert again.log == whole.log
    for one, other in zip(jax.tree.leaves(again.state), jax.tree.leaves(whole.state), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)
    moved = jax.tree.map(lambda new, old: float(jnp.abs(new - old).max()), whole.state.parameters, start.parameters)
    assert max(jax.tree.leaves(moved)) > 0


def test_the_weight_of_starts_is_the_objectives_and_eq_1s_unless_it_is_given():
    made = {
        "updates": 1,
        "worlds": 1,
        "slots": 14,
        "regions": 3,
        "servers": 3,
        "kinds": ["hard"],
        "learning_rate": 1e-3,
    }
    assert recipes.torta(**made).learner.objective == Objective()
    assert recipes.torta(**made, warmup_weight=2.0).learner.objective == Objective(warmup_weight=2.0)
