"""How the tasks of a slot share a region's servers, in expectation: which are chosen, how busy they are, who waits."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
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


class Fluid(struct.PyTreeNode):
    """What the task model decides in detail and this one sums up in a number."""

    temperature: float = 0.4  # of the choice among servers, in standard deviations of their scores
    blur: float = 0.08  # more of it for every lane time that tasks wait: queues of some length vary more
    loading: float = 0.035  # share of lane time in which models are loaded
    queue: float = 0.5  # of a lane time that is left of the task which a busy server is at
    # What tasks wait, times utilisation over what is left of it:
    wait_share: float = 0.03  # of a lane time,
    wait_s: float = 0.4  # and so many seconds
    patience_slots: float = 3.0  # a backlog longer than this is dropped


class Served(NamedTuple):
    """What becomes of a slot's tasks."""

    busy: jax.Array  # [R, S] utilisation of the warm lanes
    share: jax.Array  # [R] of the tasks that finds a lane; the others wait for the next slot
    service_s: jax.Array  # [R] lane time per task
    wait_s: jax.Array  # [R] per task that finds a lane, in queues that are no backlog


def serve(world: World, affinity, tasks, ahead, warm, busy, service_s, slot_s, fluid: Fluid) -> Served:
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
    lane_s = service_times(cluster, workload, fluid)
    capacity = warm * cluster.lane_mask.sum(axis=-2) * slot_s  # [R, S] lane seconds
    least = LEAST * slot_s
    usable = capacity > least
    load = tasks[None, :, None] * kinds[:, None, None]
    per_lane = ahead * slot_s / jnp.maximum(capacity.sum(axis=-1), least)

    def split(busy):
        # A server that all would like has a queue, until others are as good.
        wait = fluid.queue * lane_s.mean(axis=0) * busy * (1 + busy)
        offers = jax.vmap(lambda s, match: offer(cluster, s, match, wait, busy, fluid))(lane_s, cluster.kind_match)
        score = jax.vmap(affinity)(offers)
        queued = mean_warm(wait / lane_s.mean(axis=0), warm) + per_lane
        scale = (fluid.temperature + fluid.blur * queued[:, None]) * deviation(score, usable)
        logit = score / scale + jnp.log(jnp.maximum(warm, LEAST))
        return jnp.where(usable, jax.nn.softmax(jnp.where(usable, logit, -1e9), axis=-1), 0.0)

    def again(busy, _):
        used = (load * split(busy) * lane_s).sum(axis=0) / jnp.maximum(capacity, least)
        return (1 - DAMPING) * busy + DAMPING * jnp.minimum(used, MOST_WANTED), None

    chosen = split(lax.scan(again, busy, None, length=ROUNDS)[0])
    work = (load * chosen * lane_s).sum(axis=0)  # [R, S] lane seconds
    per_task = (kinds[:, None, None] * chosen * lane_s).sum(axis=(0, 2))
    per_task = jnp.where(usable.any(axis=-1), per_task, service_s)
    capacity = jnp.where(usable, capacity, 0.0)
    taken, share = poured(work, capacity, least)
    busy = jnp.where(usable, taken / jnp.maximum(capacity, least), 0.0)
    wait_s = queue_wait(work.sum(axis=-1) * share, capacity.sum(axis=-1), per_task, fluid)
    return Served(busy, share, per_task, wait_s)


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


def service_times(cluster: Cluster, workload, fluid: Fluid) -> jax.Array:
    """[3, R, S] mean lane time of each kind, loading included.

    Who would run for a short time only, waits for a server with the model rather than to load it.
    """
    work_s = 0.5 * (workload.work_low_s + workload.work_high_s)
    per_s = workload.prefill_share / cluster.prefill_speed + (1 - workload.prefill_share) / cluster.decode_speed
    return work_s * per_s / cluster.kind_match / (1 - fluid.loading)


def queue_wait(work, most, per_task, fluid: Fluid) -> jax.Array:
    """[R] mean wait of a task that finds room: measured, not derived (`experiments.fluid_gap`).

    An M/G/c queue of all lanes would hardly wait: tasks prefer some servers, those with their model among them, and
    queue there while others are free. So it is the utilisation that counts, and hardly the number of lanes.
    """
    load = jnp.minimum(work / jnp.maximum(most, 1e-6), STEEPEST)
    return (fluid.wait_share * per_task + fluid.wait_s) * load / (1 - load)


def mean_warm(x, warm) -> jax.Array:
    """[R] mean of x [R, S] over the warm servers."""
    return (x * warm).sum(axis=-1) / jnp.maximum(warm.sum(axis=-1), LEAST)


def deviation(score, usable) -> jax.Array:
    """[3, R, 1] standard deviation of the scores [3, R, S] of a region's usable servers."""
    count = jnp.maximum(usable.sum(axis=-1, keepdims=True), 1)
    mean = jnp.where(usable, score, 0.0).sum(axis=-1, keepdims=True) / count
    square = jnp.where(usable, (score - mean) ** 2, 0.0).sum(axis=-1, keepdims=True) / count
    return jnp.sqrt(square + 1e-6)


def offer(cluster: Cluster, service_s, match, wait_s, busy, fluid: Fluid) -> Offer:
    """What servers offer in the mean to a task of one kind, [R, S] each; nothing is known of models and prefixes."""
    zero = jnp.zeros_like(service_s)
    return Offer(
        usable=cluster.server_mask,
        wait_s=wait_s,
        loading_s=fluid.loading * service_s,
        service_s=service_s,
        resident=jnp.clip(1 - fluid.loading * service_s / jnp.maximum(cluster.switch_s, 1e-6), 0.0, 1.0),
        hardware=jnp.where(match >= 1, 1.0, 0.5) * jnp.minimum(cluster.decode_speed, 1.0),
        heat=zero,
        similarity=zero,
        prefix_hit=zero,
        utilisation=busy,
        queue=busy / jnp.maximum(1 - busy, 0.1),
        idle_s=zero,
        turn=jnp.zeros(service_s.shape, jnp.int32),
    )
