"""How the tasks of a slot share a region's servers, in expectation: which are chosen, how busy they are, who waits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from torta_jax.sim.affinity import Offer
from torta_jax.sim.slot import World
from torta_jax.types import Cluster

ROUNDS, DAMPING = 8, 0.4
"""In which tasks find out how busy the servers are that all of them prefer."""

MOST_WANTED = 4.0
"""Work that is offered to a server, over what it can do, counts up to this."""

LEAST = 0.01
"""A smaller share of a server counts as none: ratios to it would have slopes without bound."""

# What the task model decides in detail and this one sums up in numbers, fitted to it (`experiments.fluid_gap`).

TEMPERATURE, BLUR = 0.34, 0.08
"""Of the choice among servers, in standard deviations of their scores; more of it for every lane time that tasks wait:
queues of some length vary more."""

ALIKE = 0.1
"""Scores differ by this share of them for reasons of each task's own (models, prefixes), also of like servers."""

LEFT = 0.5
"""Of a lane time: what is left of the task which a busy server is at."""

MISSED = 3.5
"""Power by which a model is missing, until a region's servers can hold each one twice."""

ELSEWHERE, SPREAD = (2.1, 0.8), 1.5
"""Tasks that load a model anew, as the servers that have it are busy or slow: so many, over so many and a power of its
copies."""

WORTH = 4
"""Power of run time over the time to load a model, by which that becomes worth it."""

QUEUE, STEEP = 0.08, 5
"""Of the queue for any lane: a share of what a long one would be, and a power of how busy lanes are."""

HOLDERS, FEW, RUN = 0.85, 0.7, 0.25
"""What tasks wait for one of the servers that have their model, over the time to load it elsewhere; copies squared from
which that falls; a power of lane time over loading time."""

WAIT_FASTER, BUSY = 1.4, 4
"""Of what an always busy fast server saves, a share that tasks wait for it; and a power of how busy it is."""

PATIENCE_SLOTS = 2.0
"""A backlog longer than this is dropped."""


class Served(NamedTuple):
    """What becomes of a slot's tasks."""

    busy: jax.Array  # [R, S] utilisation of the warm lanes
    share: jax.Array  # [R] of the tasks that is done in the slot; the others wait for the next
    service_s: jax.Array  # [R] lane time per task
    loading_s: jax.Array  # [R] of it
    wait_s: jax.Array  # [R] per task that is done, for the servers it prefers


def serve(world: World, affinity, tasks, ahead, warm, busy, service_s, slot_s) -> Served:
    """Share the tasks [R] of a slot among the servers.

    Args:
        affinity: score of an `Offer`, the policy's.
        ahead: [R] of the tasks, those that have waited since the last slot.
        warm: [R, S] share of each server that is warm.
        busy: [R, S] utilisation in the last slot.
        service_s: [R] lane time per task where no server is warm.
    """
    cluster, workload = world.cluster, world.workload
    kinds = workload.kind_share / workload.kind_share.sum()
    lane_s = run_times(cluster, workload)
    capacity = warm * cluster.lane_mask.sum(axis=-2) * slot_s  # [R, S] lane seconds
    least = LEAST * slot_s
    usable = capacity > least
    load = tasks[None, :, None] * kinds[:, None, None]
    per_lane = ahead * slot_s / jnp.maximum(capacity.sum(axis=-1), least)

    def split(busy):
        # A server that all would like has a queue, until others are as good.
        wait = LEFT * lane_s.mean(axis=0) * busy * (1 + busy)
        offers = jax.vmap(lambda s, match: offer(cluster, s, match, wait, busy))(lane_s, cluster.kind_match)
        score = jax.vmap(affinity)(offers)
        queued = mean_warm(wait / lane_s.mean(axis=0), warm) + per_lane
        scale = (TEMPERATURE + BLUR * queued[:, None]) * deviation(score, usable)
        logit = score / scale + jnp.log(jnp.maximum(warm, LEAST))
        return jnp.where(usable, jax.nn.softmax(jnp.where(usable, logit, -1e9), axis=-1), 0.0)

    def again(busy, _):
        used = (load * split(busy) * lane_s).sum(axis=0) / jnp.maximum(capacity, least)
        return (1 - DAMPING) * busy + DAMPING * jnp.minimum(used, MOST_WANTED), None

    # Slopes go through the last round: those of all, back and forth between servers, grow without bound.
    busy, _ = lax.scan(again, busy, None, length=ROUNDS - 1)
    chosen = split(again(lax.stop_gradient(busy), None)[0])
    work = (load * chosen * lane_s).sum(axis=0)  # [R, S] lane seconds
    warmed = usable.any(axis=-1)
    run_s = jnp.where(warmed, (kinds[:, None, None] * chosen * lane_s).sum(axis=(0, 2)), service_s)
    capacity = jnp.where(usable, capacity, 0.0)
    used = work.sum(axis=-1) / jnp.maximum(capacity.sum(axis=-1), least)
    # Where none is warm, what was measured has loading in.
    loading_s = jnp.where(warmed, loading(cluster, workload, warm, used, run_s), 0.0)
    per_task = run_s + loading_s
    work = work * (per_task / run_s)[:, None]
    taken, share = poured(work, capacity, per_task / slot_s)
    share = jnp.where(warmed, share, 0.0)
    busy = jnp.where(usable, taken / jnp.maximum(capacity, least), 0.0)
    wait_s = holders_wait(cluster, workload, warm, jnp.minimum(used, 1.0), run_s)
    wait_s = wait_s + faster_wait(busy, taken, lane_s.mean(axis=0), warm)
    return Served(busy, share, per_task, loading_s, wait_s)


def poured(work: jax.Array, capacity: jax.Array, task_slots) -> tuple[jax.Array, jax.Array]:
    """Lane seconds [R, S] that servers work of those meant for them, and the share [R] that a region works at all.

    What the favourites cannot take goes to whoever has time left.

    Args:
        task_slots: [R] lane time of a task, in slots.
    """
    total = work.sum(axis=-1)
    share = worked(total / jnp.maximum(capacity.sum(axis=-1), LEAST), task_slots)
    taken = jnp.minimum(work * share[:, None], capacity)
    spare = capacity - taken
    over = total * share - taken.sum(axis=-1)
    return taken + spare * (over / jnp.maximum(spare.sum(axis=-1), LEAST))[:, None], share


def worked(load: jax.Array, task_slots: jax.Array) -> jax.Array:
    """Share that lanes work in a slot of a load that has what waited already in it; the rest waits for the next slot.

    That of the utilisation u at which the queue that is left would last, with a wait of `QUEUE` u / (1 - u) lane times
    where lanes are busy (pointwise stationary fluid flow approximation: Wang, Tipper and Banerjee 1996; stepped
    backwards). Without that queue lanes work everything up to a load of one, and then all the time.
    """
    queue = QUEUE * task_slots * jnp.minimum(load, 1.0) ** STEEP
    return jnp.minimum(2 / (1 + load + jnp.sqrt((1 - load) ** 2 + 4 * queue * load)), 1.0)


def run_times(cluster: Cluster, workload) -> jax.Array:
    """[3, R, S] mean lane time of each kind where nothing is loaded."""
    work_s = 0.5 * (workload.work_low_s + workload.work_high_s)
    per_s = workload.prefill_share / cluster.prefill_speed + (1 - workload.prefill_share) / cluster.decode_speed
    return work_s * per_s / cluster.kind_match


def loading(cluster: Cluster, workload, warm, load, run_s) -> jax.Array:
    """[R] seconds per task for models to load, where `warm` [R, S] servers are used to `load` [R]."""
    switch_s = jnp.maximum(mean_warm(cluster.switch_s, warm), LEAST)
    return loads(run_s / switch_s, copies(cluster, workload, warm), warm.sum(axis=-1), load) * switch_s


def copies(cluster: Cluster, workload, warm) -> jax.Array:
    """[R] of every model that a region's warm servers can hold."""
    holds = jnp.floor(cluster.memory_gb / workload.model_gb.max())
    return (holds * warm).sum(axis=-1) / workload.model_gb.shape[-1]


def loads(run, copies, servers, load) -> jax.Array:
    """[R] models loaded per task: measured, not derived (`experiments.fluid_gap`).

    Args:
        run: [R] lane time per task without loading, in times that loading a model takes.
        copies: [R] of every model that a region's servers can hold.
        servers: [R] that are warm.
        load: [R] their utilisation.
    """
    missing = jnp.clip(1 - copies / 2, 0.0, 1.0) ** MISSED
    others = jnp.clip(servers - 1, 0.0, 1.0)
    worth = run**WORTH / (1 + run**WORTH)
    busy = load / (1 + load)
    elsewhere = others * worth * busy * ELSEWHERE[0] / (ELSEWHERE[1] + copies**SPREAD)
    return jnp.minimum(missing + (1 - missing) * elsewhere, 1.0)


def holders_wait(cluster: Cluster, workload, warm, load, run_s) -> jax.Array:
    """[R] mean wait for servers that have the task's model, others being free or not: fitted (`experiments.fluid_gap`).

    It hardly pays to wait longer than to load the model elsewhere. The more copies, the sooner one is free; where not
    even every model has one, most tasks load theirs anyway. Arguments are those of `loading`.
    """
    switch_s = jnp.maximum(mean_warm(cluster.switch_s, warm), LEAST)
    number = copies(cluster, workload, warm)
    longest_s = HOLDERS * switch_s * (run_s / switch_s) ** RUN
    return longest_s * load * number / (FEW + number**2)


def faster_wait(busy, taken, lane_s, warm) -> jax.Array:
    """[R] mean wait for the fast among a region's servers: fitted, too.

    For what is less than a task's time hardly anyone can wait: what runs there takes longer than it would save.

    Args:
        busy: [R, S] utilisation of the servers.
        taken: [R, S] lane seconds that they work.
        lane_s: [R, S] lane time of a task.
        warm: [R, S] share that is warm.
    """
    saves = jnp.maximum(mean_warm(lane_s, warm)[:, None] - lane_s, 0.0)
    share = jnp.minimum(WAIT_FASTER * (saves / (saves + lane_s)) ** 2, 1.0)
    tasks = taken / lane_s
    return (tasks * busy**BUSY * share * saves).sum(axis=-1) / jnp.maximum(tasks.sum(axis=-1), LEAST)


def mean_warm(x, warm) -> jax.Array:
    """[R] mean of x [R, S] over the warm servers."""
    return (x * warm).sum(axis=-1) / jnp.maximum(warm.sum(axis=-1), LEAST)


def deviation(score, usable) -> jax.Array:
    """[3, R, 1] standard deviation of the scores [3, R, S] of a region's usable servers, `ALIKE` of them at least."""
    count = jnp.maximum(usable.sum(axis=-1, keepdims=True), 1)
    mean = jnp.where(usable, score, 0.0).sum(axis=-1, keepdims=True) / count
    square = jnp.where(usable, (score - mean) ** 2, 0.0).sum(axis=-1, keepdims=True) / count
    return jnp.sqrt(square + (ALIKE * mean) ** 2 + 1e-6)


def offer(cluster: Cluster, service_s, match, wait_s, busy) -> Offer:
    """What servers offer in the mean to a task of one kind, [R, S] each; nothing is known of models and prefixes."""
    zero = jnp.zeros_like(service_s)
    return Offer(
        usable=cluster.server_mask,
        wait_s=wait_s,
        loading_s=zero,
        service_s=service_s,
        resident=jnp.ones_like(service_s),
        hardware=jnp.where(match >= 1, 1.0, 0.5) * jnp.minimum(cluster.decode_speed, 1.0),
        heat=zero,
        similarity=zero,
        prefix_hit=zero,
        utilisation=busy,
        queue=busy / jnp.maximum(1 - busy, 0.1),
        idle_s=zero,
        turn=jnp.zeros(service_s.shape, jnp.int32),
    )
