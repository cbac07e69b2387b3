"""One slot in expectation: flows instead of tasks, shares of servers instead of servers, every step differentiable.

For training and for bounds only; policies are judged in the task model (`sim.slot`), and `experiments.fluid_gap`
measures by how much the two differ. A policy is the same object in both, asked by the same methods: what it costs here
can be differentiated in its numbers.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.scipy.stats import norm

from torta_jax.sim import activation, dispatch
from torta_jax.sim.affinity import Offer
from torta_jax.sim.energy import J_PER_KWH
from torta_jax.sim.observe import Observation
from torta_jax.sim.slot import World, price_now
from torta_jax.sim.state import Physics
from torta_jax.types import Cluster
from torta_jax.workload import draws

COUNTS = 16
"""Stream of random numbers: the arrivals of a slot."""

WARMING_SLOTS = 4
"""Slots that the longest warm-up may take (180 s in slots of 45 s)."""

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
    miss: float = 0.065  # share of tasks that load their model
    queue: float = 0.5  # of a lane time that is left of the task which a busy server is at
    patience_slots: float = 3.0  # a backlog longer than this is dropped


class Flows(struct.PyTreeNode):
    """What is carried from slot to slot."""

    slot: jax.Array  # [] int32
    on: jax.Array  # [R, S] share of each server that is switched on
    starts: jax.Array  # [WARMING_SLOTS, R, S] share started in the last slots, the newest first
    backlog: jax.Array  # [R] tasks that wait for capacity
    queue: jax.Array  # [R] tasks that wait, in the mean over the last slot
    outstanding: jax.Array  # [R] tasks in the region, in the mean over the last slot
    busy: jax.Array  # [R, S] utilisation of the last slot
    service_s: jax.Array  # [R] measured lane time per task
    arrivals: jax.Array  # [R] last slot, by origin
    shares: jax.Array  # [R, R] realised routing
    matrix: jax.Array  # [R, R] routing in force
    cooling_s: jax.Array  # [R]
    policy: Any


class FlowMetrics(struct.PyTreeNode):
    """One slot; names and units are those of `metrics.SlotMetrics`, numbers are real."""

    arrived: jax.Array
    completed: jax.Array
    dropped: jax.Array  # [1]
    response_s: jax.Array  # sum over tasks
    wait_s: jax.Array
    inference_s: jax.Array
    network_s: jax.Array
    active_servers: jax.Array
    energy_kwh: jax.Array
    power_cost_usd: jax.Array
    warmup_s: jax.Array
    switching_cost: jax.Array


def reset(world: World, physics: Physics, scheduler) -> Flows:
    """All servers on and warm, nothing observed, as in the task model."""
    mask = world.cluster.server_mask.astype(float)
    regions = mask.shape[0]
    nothing = jnp.zeros(regions)
    return Flows(
        slot=jnp.int32(0),
        on=mask,
        starts=jnp.zeros((WARMING_SLOTS, *mask.shape)),
        backlog=nothing,
        queue=nothing,
        outstanding=nothing,
        busy=jnp.zeros_like(mask),
        service_s=jnp.full(regions, physics.service_guess_s, float),
        arrivals=nothing,
        shares=jnp.eye(regions),
        matrix=jnp.eye(regions),
        cooling_s=nothing,
        policy=scheduler.init(world.cluster),
    )


def run_slot(world: World, physics: Physics, scheduler, flows: Flows, matrix=None, fluid: Fluid = Fluid()):  # noqa: B008
    """Run one slot.

    Args:
        matrix: [R, R] routing to use instead of the scheduler's own.
        fluid: see `Fluid`.

    Returns:
        The next `Flows` and `FlowMetrics`.
    """
    cluster, slot_s = world.cluster, physics.slot_s
    alive = world.scenario.alive[flows.slot]
    seen = observe(flows, cluster, physics, alive, price_now(world, flows.slot, slot_s))
    policy, own = scheduler.route(flows.policy, seen)
    matrix, _ = dispatch.live_matrix(own if matrix is None else matrix, alive)
    on, starts, cooling_s = scale(scheduler, policy, seen, matrix, flows)
    begun = jnp.concatenate([starts[None], flows.starts[:-1]])
    warm = warm_share(cluster, on, begun, slot_s)

    arrivals = counts(world, flows.slot)
    stays = jnp.where(alive, flows.backlog, 0.0)
    sent = overflow(cluster, scheduler.rule, flows, alive, warm, arrivals[:, None] * matrix, slot_s)
    come = sent.sum(axis=0) + (flows.backlog - stays) @ matrix  # who waits in a region that fails is sent again
    busy, share_done, service_s, waits = serve(world, scheduler, policy, flows, warm, come + stays, slot_s, fluid)

    done = (come + stays) * share_done
    left = come + stays - done
    lanes = (warm * cluster.lane_mask.sum(axis=-2)).sum(axis=-1)
    held = fluid.patience_slots * slot_s * lanes / service_s
    dropped = jnp.maximum(left - held, 0.0)
    backlog = left - dropped
    standing = 0.5 * (flows.backlog + backlog)  # in the mean over the slot
    wait_s = (standing * slot_s + done * waits).sum()
    inference_s = (done * service_s).sum()
    network_s = (sent * (cluster.latency_s + cluster.latency_s.T)).sum()

    warming = on - warm
    watts = warm * (cluster.idle_w + busy * (cluster.active_w - cluster.idle_w)) + warming * cluster.warming_w
    energy_kwh = watts.sum(axis=-1) * slot_s / J_PER_KWH
    shares = jnp.where(arrivals[:, None] > 0, sent / jnp.maximum(arrivals, 1e-6)[:, None], flows.shares)
    metrics = FlowMetrics(
        arrived=arrivals.sum(),
        completed=done.sum(),
        dropped=dropped.sum(keepdims=True),
        response_s=wait_s + inference_s + network_s,
        wait_s=wait_s,
        inference_s=inference_s,
        network_s=network_s,
        active_servers=on.sum(),
        energy_kwh=energy_kwh.sum(),
        power_cost_usd=(energy_kwh * seen.price_usd_per_kwh).sum(),
        warmup_s=(starts * cluster.warmup_s).sum(),
        switching_cost=change(shares, flows.shares, arrivals, flows.arrivals),
    )
    measured = flows.service_s + physics.service_weight * (service_s - flows.service_s)
    flows = Flows(
        slot=flows.slot + 1,
        on=on,
        starts=begun,
        backlog=backlog,
        queue=backlog + done * waits / slot_s,
        outstanding=backlog + done * (waits + service_s) / slot_s,
        busy=lax.stop_gradient(busy),  # the slope of a choice among servers in that of the last slot explodes
        service_s=jnp.where(come > 0, measured, flows.service_s),
        arrivals=arrivals,
        shares=shares,
        matrix=matrix,
        cooling_s=cooling_s,
        policy=policy,
    )
    return flows, metrics


def observe(flows: Flows, cluster: Cluster, physics: Physics, alive, price_usd_per_kwh) -> Observation:
    """The observation at the start of a slot, as a policy has it in the task model."""
    on = flows.on.sum(axis=-1)
    return Observation(
        slot=flows.slot,
        slot_s=jnp.asarray(physics.slot_s, float),
        cluster=cluster,
        alive=alive,
        price_usd_per_kwh=price_usd_per_kwh,
        arrivals=flows.arrivals,
        shares=flows.shares,
        matrix=flows.matrix,
        buffered=jnp.zeros_like(flows.backlog),
        waiting=flows.queue,
        outstanding=flows.outstanding,
        utilisation=(flows.on * flows.busy).sum(axis=-1) / jnp.maximum(on, 1e-6),
        server_utilisation=flows.busy,
        servers_on=on,
        service_s=flows.service_s,
    )


def counts(world: World, slot: jax.Array) -> jax.Array:
    """[R] arrivals of a slot: a normal number with a Poisson number's mean and variance."""
    rate = world.prepared.rate[slot]
    word = draws.words(draws.fold(world.key, COUNTS, slot), 1, rate.shape[0])[0]
    return jnp.maximum(rate + jnp.sqrt(rate) * draws.normal(word), 0.0)


def scale(scheduler, policy, seen: Observation, matrix: jax.Array, flows: Flows):
    """Servers on [R, S], those started [R, S], and the cool-down clock [R]: `activation.switch` without rounding.

    The rank of a server is the order in which the task model starts them.
    """
    cluster, rule = seen.cluster, scheduler.activation
    mask = cluster.server_mask & seen.alive[:, None]
    most = mask.sum(axis=-1)
    lanes = cluster.lane_mask.sum(axis=(-2, -1)) / jnp.maximum(cluster.server_mask.sum(axis=-1), 1)
    demand = scheduler.demand(policy, seen, matrix)
    demand = jnp.maximum(demand, 1e-6)  # its root has no slope at zero
    wanted = activation.needed(rule, demand, seen.waiting, seen.service_s, lanes, seen.slot_s) + 0.5
    wanted = jnp.where(seen.slot == 0, seen.servers_on, wanted)
    wanted = jnp.clip(wanted, jnp.minimum(1, most), most)
    on = seen.servers_on
    cooling_s = jnp.where(wanted >= on, 0.0, flows.cooling_s + seen.slot_s)
    lower = jnp.where(cooling_s > rule.cooldown_s, jnp.maximum(wanted, on - rule.max_stops), on)
    number = jnp.where(wanted > on, jnp.minimum(wanted, on + rule.max_starts), lower)
    now = jnp.where(mask, jnp.clip(number[:, None] - rank(cluster), 0.0, 1.0), 0.0)
    return now, jnp.maximum(now - flows.on, 0.0), cooling_s


def rank(cluster: Cluster) -> jax.Array:
    """[R, S] place of each server in the order of starting, for tasks of all kinds alike; padding comes last."""
    even = jnp.full((cluster.num_regions, 3), 1 / 3)
    score = activation.start_score(cluster, even, jnp.zeros_like(cluster.server_mask))
    order = jnp.argsort(jnp.where(cluster.server_mask, -score, jnp.inf), axis=-1, stable=True)
    return jnp.argsort(order, axis=-1, stable=True)


def warm_share(cluster: Cluster, on, begun, slot_s) -> jax.Array:
    """[R, S] share of each server that is warm, in the mean over the slot."""
    age = jnp.arange(WARMING_SLOTS)[:, None, None]
    cold = 1 - jnp.clip(age + 1 - cluster.warmup_s / slot_s, 0.0, 1.0)
    return jnp.clip(on - (begun * cold).sum(axis=0), 0.0, 1.0)


def overflow(cluster: Cluster, rule: dispatch.Rule, flows: Flows, alive, warm, sent, slot_s) -> jax.Array:
    """[R, R] tasks by origin and region after full regions have sent some on.

    The number outstanding is taken to be normal with a Poisson number's variance; what is above the limit goes to
    regions with room, the nearer the more.
    """
    lanes = (warm * cluster.lane_mask.sum(axis=-2)).sum(axis=-1)
    per_task = flows.service_s / slot_s
    outstanding = (sent.sum(axis=0) + flows.backlog) * per_task
    spread = jnp.sqrt(outstanding + 1.0)
    acts = jnp.isfinite(rule.keep_below)
    limit = jnp.where(acts, rule.keep_below, 0.0) * lanes
    z = (limit - outstanding) / spread
    excess = spread * (norm.pdf(z) - z * norm.cdf(-z))
    most = jnp.where(jnp.isfinite(rule.room_below), rule.room_below, 1e3) * lanes
    room = jnp.where(alive, jax.nn.softplus((most - outstanding) / spread) * spread, 0.0)
    near = -cluster.latency_s * rule.latency_weight / jnp.maximum(cluster.latency_s.mean(), 1e-6)
    near = jnp.where(jnp.eye(lanes.shape[0], dtype=bool), -1e9, 4 * near) + jnp.log(room + LEAST**2)
    to = jax.nn.softmax(near, axis=-1)
    moving = excess * jnp.minimum(1.0, room.sum() / jnp.maximum(excess.sum(), LEAST))
    share = jnp.where(acts, jnp.minimum(moving / jnp.maximum(outstanding, LEAST), 1.0), 0.0)
    return sent * (1 - share) + (sent * share) @ to


def serve(world: World, scheduler, policy, flows: Flows, warm, tasks, slot_s, fluid: Fluid):
    """Share the tasks [R] of a slot among the servers.

    Returns:
        Utilisation [R, S], the share of the tasks that is served [R], lane time per task [R], and the wait per task in
        queues that are no backlog [R].
    """
    cluster, workload = world.cluster, world.workload
    kinds = workload.kind_share / workload.kind_share.sum()
    lane_s = service_times(cluster, workload, fluid)
    capacity = warm * cluster.lane_mask.sum(axis=-2) * slot_s  # [R, S] lane seconds
    least = LEAST * slot_s
    usable = capacity > least
    load = tasks[None, :, None] * kinds[:, None, None]
    ahead = flows.backlog * slot_s / jnp.maximum(capacity.sum(axis=-1), least)  # tasks per lane

    def split(busy):
        # A server that all would like has a queue, until others are as good.
        wait = fluid.queue * lane_s.mean(axis=0) * busy * (1 + busy)
        offers = jax.vmap(lambda s, match: offer(cluster, s, match, wait, busy, fluid))(lane_s, cluster.kind_match)
        score = jax.vmap(lambda one: scheduler.affinity(policy, one))(offers)
        queued = mean_warm(wait / lane_s.mean(axis=0), warm) + ahead
        scale = (fluid.temperature + fluid.blur * queued[:, None]) * deviation(score, usable)
        logit = score / scale + jnp.log(jnp.maximum(warm, LEAST))
        return jnp.where(usable, jax.nn.softmax(jnp.where(usable, logit, -1e9), axis=-1), 0.0)

    def again(busy):
        used = (load * split(busy) * lane_s).sum(axis=0) / jnp.maximum(capacity, least)
        return (1 - DAMPING) * busy + DAMPING * jnp.minimum(used, MOST_WANTED)

    busy = flows.busy
    for _ in range(ROUNDS):
        busy = again(busy)
    chosen = split(busy)
    work = (load * chosen * lane_s).sum(axis=0)  # [R, S] lane seconds
    per_task = (kinds[:, None, None] * chosen * lane_s).sum(axis=(0, 2))
    per_task = jnp.where(usable.any(axis=-1), per_task, flows.service_s)
    capacity = jnp.where(usable, capacity, 0.0)
    taken, share = poured(work, capacity, least)
    busy = jnp.where(usable, taken / jnp.maximum(capacity, least), 0.0)
    queues = queue_wait(work.sum(axis=-1) * share, capacity.sum(axis=-1), slot_s, per_task, spread(workload))
    return busy, share, per_task, queues


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
    """[3, R, S] mean lane time of each kind, loading included."""
    work_s = 0.5 * (workload.work_low_s + workload.work_high_s)
    per_s = workload.prefill_share / cluster.prefill_speed + (1 - workload.prefill_share) / cluster.decode_speed
    return work_s * per_s / cluster.kind_match + fluid.miss * cluster.switch_s


def spread(workload) -> jax.Array:
    """Squared coefficient of variation of a task's work, uniform between its ends."""
    low, high = workload.work_low_s, workload.work_high_s
    return ((high - low) ** 2 / 12) / jnp.maximum((0.5 * (low + high)) ** 2, 1e-9)


def queue_wait(work, most, slot_s, per_task, scv) -> jax.Array:
    """[R] mean wait in M/G/c after Sakasegawa (Ann. Inst. Stat. Math. 29, 1977), c the warm lanes, one at least."""
    lanes = jnp.maximum(most / slot_s, 1.0)
    load = jnp.clip(work / jnp.maximum(lanes * slot_s, 1e-6), 0.0, STEEPEST)
    power = jnp.sqrt(2 * (lanes + 1)) - 1
    return 0.5 * (1 + scv) * per_task / lanes * jnp.maximum(load, 1e-6) ** power / (1 - load)


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
        loading_s=fluid.miss * cluster.switch_s,
        service_s=service_s,
        resident=zero + 1 - fluid.miss,
        hardware=jnp.where(match >= 1, 1.0, 0.5) * jnp.minimum(cluster.decode_speed, 1.0),
        heat=zero,
        similarity=zero,
        prefix_hit=zero,
        utilisation=busy,
        queue=busy / jnp.maximum(1 - busy, 0.1),
        idle_s=zero,
        turn=jnp.zeros(service_s.shape, jnp.int32),
    )


def change(shares, last, arrivals, last_arrivals) -> jax.Array:
    """Expected squared change of the realised shares: that of the flows, and the luck of drawing tasks one by one."""

    def luck(shares, number):
        return ((1 - (shares**2).sum(axis=-1)) / jnp.maximum(number, 1.0)).sum()

    return (
        ((shares - last) ** 2).sum()
        + luck(shares, arrivals)
        + jnp.where(last_arrivals.sum() > 0, luck(last, last_arrivals), 0.0)
    )


def simulate(world: World, physics: Physics, scheduler, num_slots: int, fluid: Fluid = Fluid()):  # noqa: B008
    """The flows after `num_slots` slots, and `FlowMetrics` of [T]."""

    def step(flows, _):
        return run_slot(world, physics, scheduler, flows, fluid=fluid)

    return lax.scan(step, reset(world, physics, scheduler), None, length=num_slots)
