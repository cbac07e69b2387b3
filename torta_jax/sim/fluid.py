"""One slot in expectation: flows instead of tasks, shares of servers instead of servers, every step differentiable.

For training and for bounds only; policies are judged in the task model (`sim.slot`), and `experiments.fluid_gap`
measures by how much the two differ. A policy is the same object in both, asked by the same methods: what it costs here
can be differentiated in its numbers.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax
from jax.scipy.stats import norm

from torta_jax.sim import activation, dispatch
from torta_jax.sim.energy import J_PER_KWH
from torta_jax.sim.fluid_servers import LEAST, PATIENCE_SLOTS, serve
from torta_jax.sim.observe import Observation
from torta_jax.sim.slot import World, price_now
from torta_jax.sim.state import Physics
from torta_jax.types import Cluster
from torta_jax.workload import draws

COUNTS, LANE_TIMES, INSTANT = 16, 18, 19
"""Streams of random numbers: the arrivals of a slot, how long they took, who is found when it begins."""

DIVERSE = 0.25
"""Squared coefficient of variation of lane times, fitted to how much those measured in the task model change."""

WARMING_SLOTS = 4
"""Slots that the longest warm-up may take (180 s in slots of 45 s)."""

HOPS = 3
"""Times that what is refused looks for room: the nearest region may have too little for all."""

HALF = 0.5
"""A whole number of tasks is at a limit half a task sooner than a normal number is, and limits are rounded up."""

MUCH = 1e3
"""Outstanding tasks per lane where there is no limit."""

NEARNESS = 4.0
"""How much less goes to a region that is farther, by the mean latency."""


class Flows(struct.PyTreeNode):
    """What is carried from slot to slot."""

    slot: jax.Array  # [] int32
    on: jax.Array  # [R, S] share of each server that is switched on
    starts: jax.Array  # [WARMING_SLOTS, R, S] share started in the last slots, the newest first
    backlog: jax.Array  # [R] tasks that wait for any lane
    queue: jax.Array  # [R] the backlog, and tasks that wait for a server they prefer, in the mean over the last slot
    running: jax.Array  # [R] tasks in the mean over it
    busy: jax.Array  # [R, S] utilisation of the last slot
    took: jax.Array  # [R] lane time of its tasks, over the mean
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
    model_load_s: jax.Array
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
        running=nothing,
        busy=jnp.zeros_like(mask),
        took=jnp.ones(regions),
        service_s=jnp.full(regions, physics.service_guess_s, float),
        arrivals=nothing,
        shares=jnp.eye(regions),
        matrix=jnp.eye(regions),
        cooling_s=nothing,
        policy=scheduler.init(world.cluster),
    )


def run_slot(world: World, physics: Physics, scheduler, flows: Flows, matrix=None, *, open_loop: bool = False):
    """Run one slot.

    Args:
        matrix: [R, R] routing to use instead of the scheduler's own.
        open_loop: leave out of all slopes how what the scheduler does depends on what it did before (static), but for
            the matrix in force, of which a calm scheduler keeps a share.

    Returns:
        The next `Flows` and `FlowMetrics`.
    """
    cluster, slot_s = world.cluster, physics.slot_s
    alive = world.scenario.alive[flows.slot]
    known = lax.stop_gradient(flows).replace(matrix=flows.matrix) if open_loop else flows
    seen = observe(known, world, physics)
    policy, own = scheduler.route(known.policy, seen)
    matrix, _ = dispatch.live_matrix(own if matrix is None else matrix, alive)
    on, starts, cooling_s = scale(scheduler, policy, seen, matrix, flows)
    begun = jnp.concatenate([starts[None], flows.starts[:-1]])
    warm = warm_share(cluster, on, begun, slot_s)

    arrivals = counts(world, flows.slot)
    stays = jnp.where(alive, flows.backlog, 0.0)
    sent = overflow(cluster, scheduler.rule, flows, alive, warm, arrivals[:, None] * matrix, slot_s)
    come = sent.sum(axis=0) + (flows.backlog - stays) @ matrix  # who waits in a region that fails is sent again
    affinity = partial(scheduler.affinity, policy)
    served = serve(world, affinity, come + stays, flows.backlog, warm, flows.busy, flows.service_s, slot_s)
    done = (come + stays) * served.share
    left = come + stays - done
    lanes = (warm * cluster.lane_mask.sum(axis=-2)).sum(axis=-1)
    backlog = jnp.minimum(left, PATIENCE_SLOTS * slot_s * lanes / served.service_s)

    standing = 0.5 * (flows.backlog + backlog)  # in the mean over the slot
    wait_s = (standing * slot_s + done * served.wait_s).sum()
    inference_s = (done * served.service_s).sum()
    network_s = (sent * (cluster.latency_s + cluster.latency_s.T)).sum()
    energy_kwh = energy(cluster, on, warm, served.busy, slot_s)
    shares = jnp.where(arrivals[:, None] > 0, sent / jnp.maximum(arrivals, 1e-6)[:, None], flows.shares)
    metrics = FlowMetrics(
        arrived=arrivals.sum(),
        completed=done.sum(),
        dropped=(left - backlog).sum(keepdims=True),
        response_s=wait_s + inference_s + network_s,
        wait_s=wait_s,
        inference_s=inference_s,
        network_s=network_s,
        active_servers=on.sum(),
        energy_kwh=energy_kwh.sum(),
        power_cost_usd=(energy_kwh * seen.price_usd_per_kwh).sum(),
        warmup_s=(starts * cluster.warmup_s).sum(),
        model_load_s=(done * served.loading_s).sum(),
        switching_cost=change(shares, flows.shares, arrivals, flows.arrivals),
    )
    took = lane_times(world, flows.slot, done)
    measured = flows.service_s + physics.service_weight * (took * served.service_s - flows.service_s)
    flows = Flows(
        slot=flows.slot + 1,
        on=on,
        starts=begun,
        backlog=backlog,
        queue=backlog + done * served.wait_s / slot_s,
        running=done * served.service_s / slot_s,
        busy=lax.stop_gradient(served.busy),  # the slope of a choice of servers in that of the last slot explodes
        took=took,
        service_s=jnp.where(come > 0, measured, flows.service_s),
        arrivals=arrivals,
        shares=shares,
        matrix=matrix,
        cooling_s=cooling_s,
        policy=policy,
    )
    return flows, metrics


def observe(flows: Flows, world: World, physics: Physics) -> Observation:
    """The observation at the start of a slot, as a policy has it in the task model: counted, not in expectation."""
    cluster, on = world.cluster, flows.on.sum(axis=-1)
    busy = jnp.minimum(flows.busy * flows.took[:, None], 1.0)
    utilisation = (flows.on * busy).sum(axis=-1) / jnp.maximum(on, 1e-6)
    waiting, running = at_an_instant(world, flows, utilisation)
    return Observation(
        slot=flows.slot,
        slot_s=jnp.asarray(physics.slot_s, float),
        cluster=cluster,
        alive=world.scenario.alive[flows.slot],
        price_usd_per_kwh=price_now(world, flows.slot, physics.slot_s),
        arrivals=flows.arrivals,
        shares=flows.shares,
        matrix=flows.matrix,
        buffered=jnp.zeros_like(flows.backlog),
        waiting=waiting,
        outstanding=waiting + running,
        utilisation=utilisation,
        server_utilisation=busy,
        servers_on=on,
        service_s=flows.service_s,
    )


def luck(world: World, stream: int, slot: jax.Array, number: int = 1) -> jax.Array:
    """[number, R] standard normal numbers of a slot."""
    return draws.normal(draws.words(draws.fold(world.key, stream, slot), number, world.cluster.num_regions))


def at_an_instant(world: World, flows: Flows, utilisation: jax.Array) -> jax.Array:
    """[2, R] tasks that wait, and that run, when a slot begins: normal numbers.

    A Poisson number's variance for those that wait, a binomial one's for those that run: each lane runs one or none.
    """
    mean = jnp.stack([flows.queue, flows.running])
    variance = jnp.stack([flows.queue, flows.running * (1 - utilisation)])
    deviation = variance / jnp.sqrt(variance + LEAST)  # its root, which has no slope at zero
    return jnp.maximum(mean + deviation * luck(world, INSTANT, flows.slot, 2), 0.0)


def lane_times(world: World, slot: jax.Array, done: jax.Array) -> jax.Array:
    """[R] mean lane time of so many tasks [R], over what is expected: few tasks may be long or short ones."""
    return jnp.maximum(1 + jnp.sqrt(DIVERSE / jnp.maximum(done, 1.0)) * luck(world, LANE_TIMES, slot)[0], 0.0)


def counts(world: World, slot: jax.Array) -> jax.Array:
    """[R] arrivals of a slot, which have no slope: Poisson numbers."""
    rate = world.prepared.rate[slot]
    word = draws.words(draws.fold(world.key, COUNTS, slot), 1, rate.shape[0])[0]
    return jax.vmap(draws.poisson)(rate, word).astype(rate.dtype)


def scale(scheduler, policy, seen: Observation, matrix: jax.Array, flows: Flows):
    """Servers on [R, S], those started [R, S], and the cool-down clock [R]: `activation.switch` without rounding."""
    cluster, rule = seen.cluster, scheduler.activation
    mask = cluster.server_mask & seen.alive[:, None]
    most = mask.sum(axis=-1)
    lanes = cluster.lane_mask.sum(axis=(-2, -1)) / jnp.maximum(cluster.server_mask.sum(axis=-1), 1)
    demand = scheduler.demand(policy, seen, matrix)
    demand = jnp.maximum(demand, 1e-6)  # its root has no slope at zero
    wanted = activation.needed(rule, demand, seen.waiting, seen.service_s, lanes, seen.slot_s) + 0.5
    wanted = jnp.where(seen.slot == 0, seen.servers_on, wanted)
    wanted = jnp.clip(wanted, jnp.minimum(1, most), most)
    on = flows.on.sum(axis=-1)
    cooling_s = jnp.where(wanted >= on, 0.0, flows.cooling_s + seen.slot_s)
    more = jnp.clip(wanted - on, 0.0, rule.max_starts)
    fewer = jnp.where(cooling_s > rule.cooldown_s, jnp.clip(on - wanted, 0.0, rule.max_stops), 0.0)
    before = jnp.where(mask, flows.on, 0.0)
    started = first_of(jnp.where(mask, 1 - before, 0.0), rank(cluster), more)
    stopped = first_of(before, place(flows.busy), fewer)
    return before + started - stopped, started, cooling_s


def first_of(shares: jax.Array, order: jax.Array, amount: jax.Array) -> jax.Array:
    """[R, S] of shares of servers [R, S], those that come first in an order [R, S] and make up an amount [R]."""
    earlier = order[:, None, :] < order[:, :, None]
    left = amount[:, None] - jnp.where(earlier, shares[:, None, :], 0.0).sum(axis=-1)
    # Not `clip`, which has half a slope at its ends: whoever is fully on or off is at one, and halves add up.
    return jnp.where(left <= 0, 0.0, jnp.where(left < shares, left, shares))


def place(key: jax.Array) -> jax.Array:
    """[R, S] place of each server when those of a region are sorted by a key [R, S]."""
    return jnp.argsort(jnp.argsort(key, axis=-1, stable=True), axis=-1, stable=True)


def rank(cluster: Cluster) -> jax.Array:
    """[R, S] place of each server in the order of starting, for tasks of all kinds alike; padding comes last."""
    even = jnp.full((cluster.num_regions, 3), 1 / 3)
    score = activation.start_score(cluster, even, jnp.zeros_like(cluster.server_mask))
    return place(jnp.where(cluster.server_mask, -score, jnp.inf))


def warm_share(cluster: Cluster, on, begun, slot_s) -> jax.Array:
    """[R, S] share of each server that is warm, in the mean over the slot."""
    age = jnp.arange(WARMING_SLOTS)[:, None, None]
    cold = 1 - jnp.clip(age + 1 - cluster.warmup_s / slot_s, 0.0, 1.0)
    return jnp.maximum(on - (begun * cold).sum(axis=0), 0.0)


def overflow(cluster: Cluster, rule: dispatch.Rule, flows: Flows, alive, warm, sent, slot_s) -> jax.Array:
    """[R, R] tasks by origin and region, of those `sent` [R, R] by the matrix, after full regions have refused some.

    They go to regions with room, the nearer to their origin the more; what nobody takes stays.
    """
    lanes = (warm * cluster.lane_mask.sum(axis=-2)).sum(axis=-1)
    per_task = flows.service_s / slot_s  # lanes that a task per slot occupies
    acts = jnp.isfinite(rule.keep_below)
    offered = sent.sum(axis=0) * per_task
    limit = jnp.where(acts, rule.keep_below, 0.0) * lanes - flows.backlog
    share = jnp.where(acts & alive, refused(limit + HALF, offered), 0.0)
    limit = jnp.where(jnp.isfinite(rule.room_below), rule.room_below, MUCH) * lanes - flows.backlog
    room = jnp.where(alive, spare(limit + HALF, offered * (1 - share)) / per_task, 0.0)
    near = -NEARNESS * cluster.latency_s * rule.latency_weight / jnp.maximum(cluster.latency_s.mean(), 1e-6)

    def hop(carry, _):
        settled, looking, room = carry
        to = jax.nn.softmax(near + jnp.log(room + LEAST**2), axis=-1)
        come = looking[:, None] * to
        taken = come * jnp.minimum(1.0, room / jnp.maximum(come.sum(axis=0), LEAST))
        return (settled + taken, looking - taken.sum(axis=1), jnp.maximum(room - taken.sum(axis=0), 0.0)), None

    away = sent * share
    begin = (sent - away, away.sum(axis=1), room)
    settled, looking, _ = lax.scan(hop, begin, None, length=HOPS)[0]
    return settled + away * (looking / jnp.maximum(away.sum(axis=1), 1e-6))[:, None]


def refused(limit: jax.Array, offered: jax.Array) -> jax.Array:
    """[R] share of arrivals that find `limit` tasks or more, of a mean of `offered` if none were refused.

    Erlang's loss formula in its normal approximation, which serves limits that are no whole numbers.
    """
    mean = offered + LEAST
    z = jnp.maximum((limit - mean) / jnp.sqrt(mean), -30.0)
    return jnp.minimum(jnp.exp(norm.logpdf(z) - norm.logcdf(z)) / jnp.sqrt(mean), 1.0)


def spare(limit: jax.Array, mean: jax.Array) -> jax.Array:
    """[R] expected number by which a normal number with a Poisson number's variance stays below a limit."""
    deviation = jnp.sqrt(mean + LEAST)
    z = (limit - mean) / deviation
    return deviation * (norm.pdf(z) + z * norm.cdf(z))


def energy(cluster: Cluster, on, warm, busy, slot_s) -> jax.Array:
    """[R] kWh of a slot: servers draw their idle watts, more as they are busy, and those of warming before."""
    watts = warm * (cluster.idle_w + busy * (cluster.active_w - cluster.idle_w)) + (on - warm) * cluster.warming_w
    return watts.sum(axis=-1) * slot_s / J_PER_KWH


def change(shares, last, arrivals, last_arrivals) -> jax.Array:
    """Expected squared change of the realised shares: that of the flows, and the luck of drawing tasks one by one.

    Too large where fewer than three tasks arrive in a slot: who sends none keeps the shares of before.
    """

    def drawing(shares, number):
        return ((1 - (shares**2).sum(axis=-1)) / jnp.maximum(number, 1.0)).sum()

    return (
        ((shares - last) ** 2).sum()
        + drawing(shares, arrivals)
        + jnp.where(last_arrivals.sum() > 0, drawing(last, last_arrivals), 0.0)
    )


def simulate(world: World, physics: Physics, scheduler, num_slots: int):
    """The flows after `num_slots` slots, and `FlowMetrics` of [T]."""

    def step(flows, _):
        return run_slot(world, physics, scheduler, flows)

    return lax.scan(step, reset(world, physics, scheduler), None, length=num_slots)
