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

FULL = 0.98
"""Utilisation beyond which a region serves no more: the rest waits."""

STEEPEST = 0.95
"""Utilisation up to which the wait without a backlog grows: its slope grows as 1 / (1 - utilisation)²."""

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

WAIT_S, WAIT_CHOSEN_S = 0.16, 0.09
"""What tasks wait where lanes are busy half of the time, and besides for a server that is so itself."""

WAIT_FASTER, BUSY = 0.46, 4
"""The share that they wait of what a fast server saves them where it is always busy, and a power of how busy it is."""

PATIENCE_SLOTS = 2.0
"""A backlog longer than this is dropped."""


class Served(NamedTuple):
    """What becomes of a slot's tasks."""

    busy: jax.Array  # [R, S] utilisation of the warm lanes
    share: jax.Array  # [R] of the tasks that finds a lane; the others wait for the next slot
    service_s: jax.Array  # [R] lane time per task
    loading_s: jax.Array  # [R] of it
    wait_s: jax.Array  # [R] per task that finds a lane, in queues that are no backlog


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
    taken, share = poured(work, capacity, least)
    busy = jnp.where(usable, taken / jnp.maximum(capacity, least), 0.0)
    wait_s = queue_wait(busy, taken, capacity, lane_s.mean(axis=0), warm)
    return Served(busy, share, per_task, loading_s, wait_s)


def poured(work: jax.Array, capacity: jax.Array, least) -> tuple[jax.Array, jax.Array]:
    """Lane seconds [R, S] that servers work of those meant for them, and the share [R] that a region works at all.

    What the favourites cannot take goes to whoever has time left.
    """
    total, most = work.sum(axis=-1), capacity.sum(axis=-1)
    share = jnp.minimum(1.0, FULL * most / jnp.maximum(total, least))
    taken = jnp.minimum(work * share[:, None], capacity)
    spare = capacity - taken
    over = total * share - taken.sum(axis=-1)
    return taken + spare * (over / jnp.maximum(spare.sum(axis=-1), least))[:, None], share


def run_times(cluster: Cluster, workload) -> jax.Array:
    """[3, R, S] mean lane time of each kind where nothing is loaded."""
    work_s = 0.5 * (workload.work_low_s + workload.work_high_s)
    per_s = workload.prefill_share / cluster.prefill_speed + (1 - workload.prefill_share) / cluster.decode_speed
    return work_s * per_s / cluster.kind_match


def loading(cluster: Cluster, workload, warm, load, run_s) -> jax.Array:
    """[R] seconds per task for models to load, where `warm` [R, S] servers are used to `load` [R]."""
    models = workload.model_gb.shape[-1]
    holds = jnp.floor(cluster.memory_gb / workload.model_gb.max())
    switch_s = jnp.maximum(mean_warm(cluster.switch_s, warm), LEAST)
    copies = (holds * warm).sum(axis=-1) / models
    return loads(run_s / switch_s, copies, warm.sum(axis=-1), load) * switch_s


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


def queue_wait(busy, taken, capacity, lane_s, warm) -> jax.Array:
    """[R] mean wait of a task that finds room, by who is how busy: fitted, not derived (`experiments.fluid_gap`).

    An M/G/c queue of all lanes would hardly wait: tasks prefer some servers, those with their model and the fast ones
    among them, and queue there while others are free.

    Args:
        busy: [R, S] utilisation of the servers.
        taken: [R, S] lane seconds that they work.
        capacity: [R, S] lane seconds that they have.
        lane_s: [R, S] lane time of a task.
        warm: [R, S] share that is warm.
    """
    tasks = taken / lane_s
    saves = jnp.maximum(mean_warm(lane_s, warm)[:, None] - lane_s, 0.0)
    chosen = WAIT_CHOSEN_S * queue(busy) + WAIT_FASTER * busy**BUSY * saves
    chosen = (tasks * chosen).sum(axis=-1) / jnp.maximum(tasks.sum(axis=-1), LEAST)
    return WAIT_S * queue(taken.sum(axis=-1) / jnp.maximum(capacity.sum(axis=-1), LEAST)) + chosen


def queue(busy):
    """Mean number in an M/M/1 queue by its utilisation."""
    busy = jnp.minimum(busy, STEEPEST)
    return busy / (1 - busy)


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
