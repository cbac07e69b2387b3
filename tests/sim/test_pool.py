"""Bookkeeping of tasks: ranks, packing, overflow and compaction, for any pool."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torta_jax.sim.pool import compact, excess, pack, rank_within
from torta_jax.sim.state import Physics, empty_pool
from torta_jax.types import Phase

ROWS, REGIONS = 11, 3
POOLS = st.lists(st.tuples(st.sampled_from(list(Phase)), st.integers(0, REGIONS - 1)), min_size=ROWS, max_size=ROWS)


def make(rows):
    """A pool whose tasks carry their row as prefill time."""
    phase, region = np.array(rows).T
    pool = empty_pool(ROWS, 2)
    return pool.replace(
        phase=jnp.asarray(phase, jnp.int32), region=jnp.asarray(region, jnp.int32), prefill_s=jnp.arange(float(ROWS))
    )


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 100, 1300])
def test_rank_within_counts_earlier_rows_of_the_group(rows):
    rng = np.random.default_rng(rows)
    group, mask = rng.integers(0, 5, rows), rng.uniform(size=rows) < 0.7
    rank, sizes = rank_within(jnp.asarray(group), jnp.asarray(mask), 5)
    expected = [(mask[:i] & (group[:i] == group[i])).sum() for i in range(rows)]
    np.testing.assert_array_equal(np.asarray(rank)[mask], np.array(expected)[mask])
    np.testing.assert_array_equal(sizes, np.bincount(group[mask], minlength=5))


@settings(deadline=None, max_examples=60)
@given(POOLS, st.sampled_from([1, 3]))
def test_pack_holds_the_first_waiting_tasks_of_each_region_in_order(rows, size):
    pool = make(rows)
    batch, count, place = pack(pool, REGIONS, Physics(region_tasks=size))
    phase, region = np.array(rows).T
    for r in range(REGIONS):
        waiting = np.flatnonzero((phase == Phase.BUFFERED) & (region == r))
        assert count[r] == len(waiting)
        np.testing.assert_array_equal(np.asarray(batch.prefill_s)[np.asarray(batch.mask)[:, r], r], waiting[:size])
        np.testing.assert_array_equal(np.asarray(place)[waiting], np.arange(len(waiting)))
    assert (np.asarray(place)[phase != Phase.BUFFERED] >= size).all()


@settings(deadline=None, max_examples=100)
@given(POOLS, st.lists(st.booleans(), min_size=ROWS, max_size=ROWS), st.integers(0, ROWS))
def test_excess_is_what_does_not_fit_the_newest_waiting_first(rows, done, room):
    phase, done = np.array(rows)[:, 0], np.array(done)
    placed = np.flatnonzero((phase == Phase.COMMITTED) & ~done)
    waiting = np.flatnonzero(phase == Phase.BUFFERED)
    found = np.flatnonzero(excess(make(rows), jnp.asarray(done), room))
    np.testing.assert_array_equal(found, np.sort([*placed, *waiting][room:]))


@settings(deadline=None, max_examples=60)
@given(POOLS)
def test_compact_keeps_every_held_task_in_order(rows):
    phase = np.array(rows)[:, 0]
    held = np.flatnonzero(phase != Phase.EMPTY)
    found = compact(make(rows), ROWS + 2)
    np.testing.assert_array_equal(np.asarray(found.prefill_s)[: len(held)], held)
    np.testing.assert_array_equal(np.asarray(found.phase), [*phase[held], *[Phase.EMPTY] * (ROWS + 2 - len(held))])
