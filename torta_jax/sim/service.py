"""Lanes, resident models and caches: what a server offers a task, and what taking it changes.

A lane is a FIFO queue: finish = max(lane free, task ready) + lane time. Tasks are decided one after the other
in each region, all regions at once, so every decision sees the queues that earlier ones have left.
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from torta_jax.sim.affinity import Offer
from torta_jax.sim.state import FAR_S, NEVER_S, RESIDENT_S, Physics, Servers
from torta_jax.types import Cluster

UNDECIDED = -2
"""`Batch.forced` of a task whose server the policy chooses."""


class Batch(struct.PyTreeNode):
    """The tasks each region decides on, in the order it does; the arrays of `task` have no leading axis."""

    mask: jax.Array  # [M, R] bool
    arrival_s: jax.Array  # [M, R]
    ready_s: jax.Array  # [M, R] earliest start
    deadline_s: jax.Array  # [M, R]
    kind: jax.Array  # [M, R] int32
    model: jax.Array  # [M, R] int32
    prefill_s: jax.Array  # [M, R]
    decode_s: jax.Array  # [M, R]
    embedding: jax.Array  # [M, R, E]
    started: jax.Array  # [M, R] bool
    forced: jax.Array  # [M, R] int32: the server, -1 for none, UNDECIDED where the policy chooses

    def rows(self, index: jax.Array) -> "Batch":
        """The rows `index` [N, R] of each region."""
        pick = lambda x: jnp.take_along_axis(x, index.reshape(index.shape + (1,) * (x.ndim - 2)), 0)  # noqa: E731
        return jax.tree.map(pick, self)


class Commitment(struct.PyTreeNode):
    """Where and when each task of a batch will run; server -1 where it stays buffered."""

    order: jax.Array  # [M, R] int32, place among the decisions of its region
    server: jax.Array  # [M, R] int32
    start_s: jax.Array  # [M, R]
    finish_s: jax.Array  # [M, R]
    loading_s: jax.Array  # [M, R]


class Fleet(struct.PyTreeNode):
    """What does not change within a slot."""

    cluster: Cluster
    model_gb: jax.Array  # [K]
    physics: Physics
    service_s: jax.Array  # [R] measured lane time per task


def offers(fleet: Fleet, servers: Servers, task: Batch) -> Offer:
    """What each server offers the one task of its region ([R] arrays in `task`)."""
    cluster, physics = fleet.cluster, fleet.physics
    region = jnp.arange(cluster.num_regions)
    ready = task.ready_s[:, None]
    free = jnp.where(cluster.lane_mask, servers.free_s, FAR_S).min(axis=-2)
    resident = servers.used_s[region, task.model] > RESIDENT_S
    size = fleet.model_gb[task.model][:, None]
    fade = jnp.exp(-physics.prefix_decay_per_s * ready)
    similarity = fade * inner(task.embedding, servers.prefix)
    hit = prefix_hit(similarity, fade * servers.recent) * resident
    match = cluster.kind_match[task.kind, region]
    prefill = task.prefill_s[:, None] * (1 - physics.prefix_gain * hit) / cluster.prefill_speed
    compute = (prefill + task.decode_s[:, None] / cluster.decode_speed) / match
    loading = jnp.where(resident, 0.0, cluster.switch_s)
    loading = loading + jnp.where(task.started[:, None], cluster.migrate_in_s, 0.0)
    wait = jnp.maximum(free - ready, 0.0)
    lanes = cluster.lane_mask.sum(axis=-2)
    busy = (cluster.lane_mask & (servers.free_s > ready[:, None])).sum(axis=-2) / jnp.maximum(lanes, 1)
    count = servers.active.shape[-1]
    return Offer(
        usable=servers.active & (servers.warm_s <= ready) & (size <= cluster.memory_gb),
        wait_s=wait,
        loading_s=loading,
        service_s=loading + compute,
        resident=resident,
        hardware=jnp.where(match >= 1, 1.0, 0.5) * jnp.minimum(cluster.decode_speed, 1.0),
        heat=fade * servers.heat[region, task.model],
        similarity=similarity,
        prefix_hit=hit,
        utilisation=busy,
        queue=wait / fleet.service_s[:, None],
        idle_s=jnp.maximum(ready - servers.idle_from_s(cluster), 0.0),
        turn=(jnp.arange(count) - servers.turn[:, None]) % count,
    )


def inner(embedding: jax.Array, prefix: jax.Array) -> jax.Array:
    """[R, S] inner products of [R, E] and [R, E, S].

    Added one after the other: the same bits in a batch of any size, and faster than a reduction, which the compiler
    would repeat for every use of the result.
    """
    result = jnp.zeros((prefix.shape[0], prefix.shape[2]), prefix.dtype)
    for e in range(prefix.shape[1]):
        result = result + embedding[:, e, None] * prefix[:, e]
    return result


def prefix_hit(similarity: jax.Array, recent: jax.Array) -> jax.Array:
    """[R, S] in [0, 1]: mean cosine of the task with the server's recent tasks, both sums decayed alike."""
    return jnp.clip(similarity / jnp.maximum(recent, 1e-6), 0.0, 1.0)


def choose(score: jax.Array, allowed: jax.Array) -> jax.Array:
    """[R] index of the best allowed server, the first of equals; -1 where none is allowed."""
    score = jnp.where(allowed, score, -jnp.inf)
    best = score.max(axis=-1, keepdims=True)
    count = score.shape[-1]
    first = jnp.where(allowed & (score >= best), jnp.arange(count), count).min(axis=-1)
    return jnp.where(first < count, first, -1).astype(jnp.int32)


def begin(servers: Servers, slot_s) -> tuple[Servers, jax.Array]:
    """The servers at the start of a slot, and the idle lane time in it that is known already [R, L, S]."""
    idle_s = jnp.minimum(servers.spill_s, slot_s)
    return servers.replace(spill_s=servers.spill_s - idle_s), idle_s


def no_commitment(batch: Batch) -> Commitment:
    """Every task stays buffered."""
    zero = jnp.zeros_like(batch.ready_s)
    order = jnp.zeros_like(batch.model)
    return Commitment(order, server=order - 1, start_s=zero, finish_s=zero, loading_s=zero)


def commit(
    fleet: Fleet, servers: Servers, idle_s: jax.Array, order, task: Batch, offer: Offer, server: jax.Array, as_work
):
    """Give each region's task to `server` [R] (-1: to none), as the `order`-th decision; `as_work` as in `serve`.

    Returns the servers, the idle time inside the slot per lane [R, L, S], and a `Commitment` of [R] arrays.
    """
    physics, region = fleet.physics, jnp.arange(server.shape[0])
    taken, at = server >= 0, jnp.maximum(server, 0)

    lanes = jnp.where(fleet.cluster.lane_mask[region, :, at], servers.free_s[region, :, at], FAR_S)
    lane = jnp.argmin(lanes, axis=-1)
    free = jnp.take_along_axis(lanes, lane[:, None], axis=-1)[:, 0]
    start = jnp.maximum(free, jnp.where(as_work, 0.0, task.ready_s))
    finish = start + offer.service_s[region, at]
    inside, beyond = gap(free, start, physics.slot_s)

    def put(array, value):
        old = array[region, lane, at]
        return array.at[region, lane, at].set(jnp.where(taken, value(old), old), unique_indices=True)

    servers = remember(fleet, servers, task, taken, at)
    servers = servers.replace(
        free_s=put(servers.free_s, lambda _: finish),
        spill_s=put(servers.spill_s, lambda old: old + beyond),
        turn=jnp.where(taken, at + 1, servers.turn),
    )
    order = jnp.broadcast_to(jnp.asarray(order, jnp.int32), server.shape)
    commitment = Commitment(order, server, start, finish, offer.loading_s[region, at])
    return servers, put(idle_s, lambda old: old + inside), commitment


def gap(free: jax.Array, start: jax.Array, slot_s) -> tuple[jax.Array, jax.Array]:
    """Idle lane time between two tasks that lies inside the slot, and beyond its end."""
    inside = jnp.clip(start, 0.0, slot_s) - jnp.clip(free, 0.0, slot_s)
    beyond = jnp.maximum(start - slot_s, 0.0) - jnp.maximum(free - slot_s, 0.0)
    return inside, beyond


def remember(fleet: Fleet, servers: Servers, task: Batch, taken: jax.Array, at: jax.Array) -> Servers:
    """Load the task's model, and count the task into the server's recent past.

    The least recently used models go until it fits; of equals the last of the catalogue. It stays itself, also where a
    task decided earlier was ready later.
    """
    region = jnp.arange(at.shape[0])
    models = jnp.arange(fleet.model_gb.shape[0])
    old = servers.used_s[region, :, at]
    loaded = models == task.model[:, None]
    used = jnp.where(loaded, task.ready_s[:, None], old)
    rank = jnp.where(loaded, FAR_S, used)
    resident_gb = jnp.where(used > RESIDENT_S, fleet.model_gb, 0.0)
    needed = jnp.zeros_like(rank)  # GB of the models that are used later, or the model itself
    for k in range(rank.shape[1]):
        stays = (rank[:, k, None] > rank) | ((rank[:, k, None] == rank) & (k <= models))
        needed = needed + jnp.where(stays, resident_gb[:, k, None], 0.0)
    fits = needed <= fleet.cluster.memory_gb[region, at][:, None]
    used = jnp.where(taken[:, None], jnp.where(fits, used, NEVER_S), old)

    growth = jnp.exp(fleet.physics.prefix_decay_per_s * task.ready_s) * taken
    heat = servers.heat[region, task.model, at] + growth
    recent = servers.recent[region, at] + growth
    prefix = servers.prefix[region, :, at] + growth[:, None] * task.embedding
    return servers.replace(
        used_s=servers.used_s.at[region, :, at].set(used, unique_indices=True),
        heat=servers.heat.at[region, task.model, at].set(heat, unique_indices=True),
        recent=servers.recent.at[region, at].set(recent, unique_indices=True),
        prefix=servers.prefix.at[region, :, at].set(prefix, unique_indices=True),
    )


def serve(
    fleet: Fleet,
    scheduler,
    policy,
    servers: Servers,
    idle_s: jax.Array,
    batch: Batch,
    count: jax.Array,
    axis_name=None,
    *,
    first: jax.Array | int = 0,
    as_work: jax.Array | bool = False,
):
    """Decide and start each region's tasks one after the other.

    Args:
        idle_s: [R, L, S] idle lane time inside the slot so far, as `begin` gives it.
        batch: [M, R] tasks.
        count: [R] int32 tasks per region; the loop runs to the largest.
        axis_name: the name of an enclosing `vmap` axis. Its clusters then share one loop bound, which
            spares the loop a select over its whole state; the result is the same without it.
        first: [] int32, decisions of the slot before these.
        as_work: [] bool, queues hold work from the slot's start on, whenever it arrives: an estimate for tasks that
            are decided in another order than that of arrival.

    Returns:
        The servers, idle lane time inside the slot [R, L, S] and a `Commitment` of [M, R] arrays.
    """
    rows = batch.mask.shape[0]
    steps = jnp.minimum(count.max(), rows)
    steps = steps if axis_name is None else lax.pmax(steps, axis_name)

    def step(k, carry):
        servers, idle_s, commitments = carry
        task = jax.tree.map(lambda x: lax.dynamic_index_in_dim(x, k, 0, keepdims=False), batch)
        offer = offers(fleet, servers, task)
        server = choose(scheduler.affinity(policy, offer), allowed(scheduler, offer))
        server = jnp.where(task.forced == UNDECIDED, server, task.forced)
        server = jnp.where(task.mask, server, -1)
        servers, idle_s, commitment = commit(fleet, servers, idle_s, first + k, task, offer, server, as_work)
        write = lambda all_, one: lax.dynamic_update_index_in_dim(all_, one, k, 0)  # noqa: E731
        return servers, idle_s, jax.tree.map(write, commitments, commitment)

    return lax.fori_loop(0, steps, step, (servers, idle_s, no_commitment(batch)))


def allowed(scheduler, offer: Offer) -> jax.Array:
    """[R, S] bool: the servers that may take the task."""
    return offer.usable & (offer.wait_s <= scheduler.max_wait_s)
