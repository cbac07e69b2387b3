"""Bookkeeping of the tasks in a cluster: they arrive, wait, are matched, leave, and none is lost silently."""

import jax
import jax.numpy as jnp
from jax import lax

from torta_jax.sim.service import UNDECIDED, Batch, Commitment
from torta_jax.sim.state import Physics, Pool
from torta_jax.types import Cluster, Phase, Tasks

GOLDEN = 0.6180339887498949
"""Step of the fresh uniform that a buffered task gets in each slot (a rotation keeps it uniform)."""

WORD = 32
"""Bits of the words in which `rank_within` counts."""


def arrive(pool: Pool, tasks: Tasks) -> Pool:
    """The held tasks followed by the slot's arrivals, so that the pool stays in order of arrival."""
    real = jnp.zeros_like(tasks.arrival_s)
    whole = jnp.zeros_like(tasks.origin)
    new = Pool(
        phase=jnp.where(tasks.mask, Phase.BUFFERED, Phase.EMPTY).astype(jnp.int32),
        origin=tasks.origin,
        region=tasks.origin,
        kind=tasks.kind,
        model=tasks.model,
        prefill_s=tasks.prefill_s,
        decode_s=tasks.decode_s,
        arrival_s=tasks.arrival_s,
        deadline_s=tasks.arrival_s + tasks.patience_s,
        ready_s=tasks.arrival_s,
        network_s=real,
        inference_s=real,
        draw=tasks.draw,
        embedding=tasks.embedding,
        started=jnp.zeros_like(tasks.mask),
        server=whole,
        start_s=real,
        finish_s=real,
        loading_s=real,
    )
    return jax.tree.map(lambda old, young: jnp.concatenate([old, young.astype(old.dtype)]), pool, new)


def fail(pool: Pool, cluster: Cluster, failing: jax.Array) -> tuple[Pool, jax.Array]:
    """Return the unfinished tasks of failing regions [R] to the buffer.

    A task that had started keeps its progress and will pay the migration stages at both ends. Returns the pool and
    the tasks that were running [P] bool.
    """
    hit = (pool.phase == Phase.COMMITTED) & failing[pool.region]
    running = hit & (pool.start_s < 0)
    compute_s = jnp.maximum(pool.finish_s - pool.start_s - pool.loading_s, 1e-9)
    left = jnp.where(running, jnp.minimum(pool.finish_s / compute_s, 1.0), 1.0)
    serialise_s = cluster.migrate_out_s[pool.region, pool.server]
    pool = pool.replace(
        phase=jnp.where(hit, Phase.BUFFERED, pool.phase),
        prefill_s=pool.prefill_s * left,
        decode_s=pool.decode_s * left,
        ready_s=jnp.where(running, serialise_s, jnp.where(hit, jnp.maximum(pool.ready_s, 0.0), pool.ready_s)),
        inference_s=pool.inference_s + jnp.where(running, -pool.start_s, 0.0),
        started=pool.started | running,
    )
    return pool, running


def send(pool: Pool, cluster: Cluster, region: jax.Array, moved: jax.Array) -> Pool:
    """Forward the tasks `moved` [P] from where they are to `region` [P], at the network's price."""
    latency_s = jnp.where(moved, cluster.latency_s[pool.region, region], 0.0)
    now_or_ready = jnp.maximum(pool.ready_s, 0.0)
    return pool.replace(
        region=jnp.where(moved, region, pool.region),
        ready_s=jnp.where(moved, now_or_ready + latency_s, pool.ready_s),
        network_s=pool.network_s + latency_s,
    )


def rank_within(group: jax.Array, mask: jax.Array, groups: int) -> tuple[jax.Array, jax.Array]:
    """Place of each masked row among the earlier masked rows of its group, without a sort.

    Args:
        group: [P] int in [0, groups).
        mask: [P] bool.

    Returns:
        rank [P] int32 and the group sizes [groups] int32. A word per group and block of 32 rows has a bit for each row
        of the group: bits are counted inside a block, then blocks are added up.
    """
    rows = group.shape[0]
    group = jnp.pad(jnp.where(mask, group, groups), (0, -rows % WORD), constant_values=groups).reshape(-1, WORD)
    bit = jnp.uint32(1) << jnp.arange(WORD, dtype=jnp.uint32)
    member = group == jnp.arange(groups)[:, None, None]
    word = jnp.where(member, bit, 0).sum(axis=-1, dtype=jnp.uint32)
    size = lax.population_count(word).astype(jnp.int32)
    upto = jnp.cumsum(size, axis=-1)
    earlier = (upto - size)[..., None] + lax.population_count(word[..., None] & (bit - 1)).astype(jnp.int32)
    rank = jnp.where(member, earlier, 0).sum(axis=0)
    return rank.reshape(-1)[:rows], upto[:, -1]


def pack(pool: Pool, regions: int, physics: Physics) -> tuple[Batch, jax.Array, jax.Array]:
    """The buffered tasks of each region in order of arrival, as [M, R] arrays.

    Returns the batch, the tasks per region [R] and each row's place [P] in its region (M or more: waits this slot).
    """
    waiting = pool.phase == Phase.BUFFERED
    place, count = rank_within(pool.region, waiting, regions)
    size = physics.region_tasks
    row = jnp.full((size + 1, regions), pool.phase.shape[0], jnp.int32)
    at = jnp.where(waiting, jnp.minimum(place, size), size)
    row = row.at[at, pool.region].set(jnp.arange(pool.phase.shape[0], dtype=jnp.int32))[:size]
    mask = jnp.arange(size)[:, None] < count
    row = jnp.where(mask, row, 0)
    batch = Batch(
        mask=mask,
        arrival_s=pool.arrival_s[row],
        ready_s=jnp.maximum(pool.ready_s[row], 0.0),
        deadline_s=pool.deadline_s[row],
        kind=pool.kind[row],
        model=pool.model[row],
        prefill_s=pool.prefill_s[row],
        decode_s=pool.decode_s[row],
        embedding=pool.embedding[row],
        started=pool.started[row],
        forced=jnp.full((size, regions), UNDECIDED, jnp.int32),
    )
    return batch, count, jnp.where(waiting, place, size)


def settle(pool: Pool, commitment: Commitment, place: jax.Array) -> tuple[Pool, jax.Array]:
    """Write the batch's commitments back to the pool.

    Returns the pool, and each task's place among the decisions of its region [P] int32, -1 where it got no lane.
    """
    size = commitment.server.shape[0]
    at = jnp.minimum(place, size - 1)
    server = jnp.where(place < size, commitment.server[at, pool.region], -1)
    taken = server >= 0

    def given(name):
        return jnp.where(taken, getattr(commitment, name)[at, pool.region], getattr(pool, name))

    pool = pool.replace(
        phase=jnp.where(taken, Phase.COMMITTED, pool.phase).astype(jnp.int32),
        server=jnp.where(taken, server, pool.server),
        start_s=given("start_s"),
        finish_s=given("finish_s"),
        loading_s=given("loading_s"),
    )
    return pool, jnp.where(taken, commitment.order[at, pool.region], -1)


def excess(pool: Pool, done: jax.Array, rows: int) -> jax.Array:
    """[P] bool: the tasks that do not fit into `rows` rows; buffered ones go first, the newest first.

    Committed tasks that are `done` [P] by the end of the slot leave and take no room.
    """
    buffered = pool.phase == Phase.BUFFERED
    committed = (pool.phase == Phase.COMMITTED) & ~done
    # How many tasks of each sort are as new as this one, or newer.
    newer = jnp.cumsum(jnp.stack([buffered, committed])[:, ::-1], axis=-1)[:, ::-1]
    too_many = newer[:, 0].sum() - rows
    return (buffered & (newer[0] <= too_many)) | (committed & (newer[1] <= too_many - newer[0, 0]))


def compact(pool: Pool, rows: int) -> Pool:
    """The held tasks in the first rows of a pool of `rows` rows, in order; the rest must be empty or dropped."""
    held = pool.phase != Phase.EMPTY
    place = jnp.where(held, jnp.cumsum(held) - 1, rows)
    row = jnp.zeros(rows, jnp.int32).at[place].set(jnp.arange(held.shape[0], dtype=jnp.int32), mode="drop")
    taken = jnp.arange(rows) < held.sum()
    pool = jax.tree.map(lambda x: x[row], pool)
    draw = (pool.draw + GOLDEN) % 1.0
    return pool.replace(phase=jnp.where(taken, pool.phase, Phase.EMPTY).astype(jnp.int32), draw=draw)
