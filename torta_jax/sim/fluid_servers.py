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

FEW = 5.0
"""Servers; with fewer, models are not loaded more often, until one is alone."""

TAKEN_AS_IT_COMES = 6
"""Power of utilisation by which servers without the model take tasks."""

ALIKE = 0.1
"""Scores differ by this share of them for reasons of each task's own (models, prefixes), also of like servers."""

LEAST = 0.01
"""A smaller share of a server counts as none: ratios to it would have slopes without bound."""


class Fluid(struct.PyTreeNode):
    """What the task model decides in detail and this one sums up in a number."""

    temperature: float = 0.34  # of the choice among servers, in standard deviations of their scores
    blur: float = 0.08  # more of it for every lane time that tasks wait: queues of some length vary more
    queue: float = 0.5  # of a lane time that is left of the task which a busy server is at
    # Share of the time that tasks run, added for models to load: the less the shorter they run (who would run for a
    # short time only, waits for a server with the model), the more the fewer servers and the fuller these are.
    loading: float = 0.02
    loading_few: float = 0.48  # over the number of servers
    loading_full: float = 0.065
    loads_alone: float = 0.22  # models loaded per task where a region has one server for all models
    # What tasks wait for a server that is busy half of the time: so many seconds and such a share of a lane time.
    wait_s: float = 0.12
    wait_share: float = 0.03
    patience_slots: float = 2.0  # a backlog longer than this is dropped


class Served(NamedTuple):
    """What becomes of a slot's tasks."""

    busy: jax.Array  # [R, S] utilisation of the warm lanes
    share: jax.Array  # [R] of the tasks that finds a lane; the others wait for the next slot
    service_s: jax.Array  # [R] lane time per task
    loading_s: jax.Array  # [R] of it
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
    lane_s = run_times(cluster, workload)
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

    # Slopes go through the last round: those of all, back and forth between servers, grow without bound.
    busy, _ = lax.scan(again, busy, None, length=ROUNDS - 1)
    chosen = split(again(lax.stop_gradient(busy), None)[0])
    work = (load * chosen * lane_s).sum(axis=0)  # [R, S] lane seconds
    warmed = usable.any(axis=-1)
    run_s = jnp.where(warmed, (kinds[:, None, None] * chosen * lane_s).sum(axis=(0, 2)), service_s)
    capacity = jnp.where(usable, capacity, 0.0)
    used = work.sum(axis=-1) / jnp.maximum(capacity.sum(axis=-1), least)
    loading_s = loading(run_s, mean_warm(cluster.switch_s, warm), warm.sum(axis=-1), used, fluid)
    loading_s = jnp.where(warmed, loading_s, 0.0)  # what was measured has it in
    per_task = run_s + loading_s
    work = work * (per_task / run_s)[:, None]
    taken, share = poured(work, capacity, least)
    busy = jnp.where(usable, taken / jnp.maximum(capacity, least), 0.0)
    wait_s = queue_wait(busy, taken, per_task, fluid)
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


def loading(run_s, switch_s, servers, load, fluid: Fluid) -> jax.Array:
    """[R] seconds per task for models to load: measured, not derived (`experiments.fluid_gap`).

    Args:
        run_s: [R] lane time per task without.
        switch_s: [R] of a region's servers, to load a model.
        servers: [R] that are warm.
        load: [R] their utilisation.
    """
    share = (fluid.loading + fluid.loading_few / jnp.maximum(servers, FEW)) * run_s / (run_s + switch_s)
    share = share + fluid.loading_full * jnp.minimum(load, 1.0) ** TAKEN_AS_IT_COMES
    alone = jnp.clip(2 - servers, 0.0, 1.0)
    return share * run_s + fluid.loads_alone * alone * switch_s


def queue_wait(busy, taken, service_s, fluid: Fluid) -> jax.Array:
    """[R] mean wait of a task that finds room, by who is how busy: fitted, not derived (`experiments.fluid_gap`).

    An M/G/c queue of all lanes would hardly wait: tasks prefer some servers, those with their model and the fast ones
    among them, and queue there while others are free.

    Args:
        busy: [R, S] utilisation of the servers.
        taken: [R, S] lane seconds that they work.
        service_s: [R] lane time per task.
    """
    busy = jnp.minimum(busy, STEEPEST)
    ratio = (taken * busy / (1 - busy)).sum(axis=-1) / jnp.maximum(taken.sum(axis=-1), LEAST)
    return (fluid.wait_share * service_s + fluid.wait_s) * ratio


def mean_warm(x, warm) -> jax.Array:
    """[R] mean of x [R, S] over the warm servers."""
    return (x * warm).sum(axis=-1) / jnp.maximum(warm.sum(axis=-1), LEAST)


def deviation(score, usable) -> jax.Array:
    """[3, R, 1] standard deviation of the scores [3, R, S] of a region's usable servers, `ALIKE` of them at least."""
    count = jnp.maximum(usable.sum(axis=-1, keepdims=True), 1)
    mean = jnp.where(usable, score, 0.0).sum(axis=-1, keepdims=True) / count
    square = jnp.where(usable, (score - mean) ** 2, 0.0).sum(axis=-1, keepdims=True) / count
    return jnp.sqrt(square + (ALIKE * mean) ** 2 + 1e-6)


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
