"""One slot of a cluster: arrivals and failures, macro, dispatch, micro, accounts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from torta_jax.errors import require
from torta_jax.sim import account, activation, dispatch, energy
from torta_jax.sim import pool as pools
from torta_jax.sim.account import DROPS, KEPT, Totals
from torta_jax.sim.matching import match
from torta_jax.sim.observe import Observation, learn, observe
from torta_jax.sim.service import Fleet
from torta_jax.sim.state import FAR_S, Physics, Pool, Servers, State, initial_state
from torta_jax.sim.sums import total_of_all
from torta_jax.types import Cluster, Drop, Phase, Scenario, Tasks

LEAST_SHARE = 1e-6
"""What a share that is none may be below zero by rounding."""


class World(struct.PyTreeNode):
    """Everything a policy cannot change."""

    cluster: Cluster
    workload: Any  # a workload.Workload
    scenario: Scenario
    prepared: Any  # the workload's own, made once from the key
    key: jax.Array


class SlotRecord(NamedTuple):
    """One slot in full, for tests and for looking closely; costs nothing where it is not used."""

    arrived: jax.Array  # [R, 3] int32 by origin and kind
    counts: jax.Array  # [7, R, 3] int32 by account.OUTCOMES, origin and kind
    outcome: jax.Array  # [P] int32 index into account.OUTCOMES
    pool: Pool  # all tasks at the end of the slot, times from its start
    order: jax.Array  # [P] int32, place among the decisions of its region, -1 where a task got no lane in this slot
    servers: Servers  # after the slot, times from its start
    usage: energy.Usage


def make_world(cluster: Cluster, workload, scenario: Scenario, key: jax.Array, num_slots: int, slot_s=45.0) -> World:
    """A world of `num_slots` slots; one key gives the same arrivals to every policy.

    Raises:
        InputError: the scenario is of other regions.
    """
    regions, those = cluster.num_regions, scenario.alive.shape[-1]
    require(those == regions, f"scenario: of {those} regions, the cluster has {regions}")
    prepared = workload.prepare(cluster, scenario, key, num_slots, slot_s)
    return World(cluster, workload, scenario, prepared, key)


def reset(world: World, physics: Physics, scheduler) -> tuple[State, Totals]:
    """The state before the first slot, and empty totals.

    Raises:
        InputError: this is no policy.
    """
    check_policy(scheduler, "scheduler", world.cluster.num_regions)
    models, width = world.workload.model_gb.shape[-1], world.workload.embedding_dim
    state = initial_state(world.cluster, physics, scheduler, models, width)
    return state, account.no_totals(world.cluster.num_regions)


def check_policy(scheduler, where: str, regions: int) -> None:
    """Raise `InputError` unless this is a policy, and one for so many regions."""
    what = type(scheduler).__name__
    right = hasattr(scheduler, "route") and not isinstance(scheduler, type)
    require(right, f"{where}: a policy is needed, as of schedulers.get('torta'), not {what}")
    made_for = getattr(scheduler, "num_regions", None)  # of a network for one topology
    require(made_for in (None, regions), f"{where}: made for {made_for} regions, the world has {regions}")


def run_slot(world: World, physics: Physics, scheduler, state: State, totals: Totals, matrix=None, axis_name=None):
    """Run one slot.

    Args:
        matrix: [R, R] routing to use instead of the scheduler's own, for an agent that acts from outside.
        axis_name: see `service.serve`.

    Returns:
        The next state, totals, `SlotMetrics` and a `SlotRecord`.
    """
    cluster, regions, slot_s = world.cluster, world.cluster.num_regions, physics.slot_s
    alive = world.scenario.alive[state.slot]
    tasks = world.workload.arrivals(world.prepared, world.key, state.slot)
    state, was_running = fail(cluster, state, alive)
    pool, new, lost = admit(physics, state, tasks, was_running)

    observation = observe(state, cluster, physics, alive, price_now(world, state.slot, slot_s))
    policy, own = scheduler.route(state.policy, observation)
    # The routing in force; servers and the memory of the plan follow it, not shares of regions that are down.
    asked = own if matrix is None else matrix
    shape, who = (regions, regions), f"{type(scheduler).__name__}.route" if matrix is None else "matrix"
    require(np.shape(asked) == shape, f"{who}: a matrix {shape} is needed, its shape is {np.shape(asked)}")
    matrix, astray = dispatch.live_matrix(asked, alive)
    servers, cold, cooling_s = scale(scheduler, policy, observation, matrix, state)

    moving = routed(pool, new, alive)
    pool = send(scheduler.rule, observation, servers, pool, moving, matrix, astray, state.dispatched, axis_name)
    shares = dispatch.realised_shares(pool.origin, pool.region, new, state.observed.shares)

    fleet = Fleet(cluster, world.workload.model_gb, physics, observation.service_s)
    pool, servers, idle_s, order, unmatched = match(fleet, scheduler, policy, servers, pool, axis_name)
    taken = order >= 0

    moved = was_running & (lost[: was_running.shape[0]] == KEPT)  # also what the padding loses later in the slot
    overflow = pools.excess(pool, pool.finish_s <= slot_s, physics.carry_tasks)
    lost = jnp.where(overflow, Drop.OVERFLOW, lost)
    used = energy.usage(cluster, servers, idle_s, slot_s)
    outcome = account.outcomes(pool, lost, slot_s)
    counts = account.count_outcomes(pool, outcome, regions).at[DROPS + Drop.OVERFLOW].add(tasks.overflow)
    drawn = account.count_cells(pool, new, regions)
    arrived = drawn + tasks.overflow
    times = account.task_times(pool, cluster)
    work = account.effort(cluster, state.pool, pool, moved, taken, cold)
    utilisation = used.utilisation(jnp.maximum(cluster.lane_mask.sum(axis=-2), 1))
    lawful = (jnp.isfinite(asked) & (asked >= -LEAST_SHARE)).all()
    change = jnp.where(lawful, total_of_all((shares - state.observed.shares) ** 2), jnp.nan)
    price = observation.price_usd_per_kwh
    metrics = account.measure(pool, outcome, counts, arrived, unmatched, times, used, work, utilisation, price, change)
    totals = account.add(totals, arrived, counts, outcome, times)
    record = SlotRecord(arrived, counts, outcome, pool, order, servers, used)

    kept = pool.replace(phase=jnp.where((outcome > 0) & (outcome < DROPS), pool.phase, Phase.EMPTY))
    state = State(
        slot=state.slot + 1,
        pool=pools.compact(kept, physics.carry_tasks).shifted(slot_s),
        servers=servers.replace(utilisation=utilisation).faded(physics, slot_s).shifted(slot_s),
        observed=learn(state.observed, physics, pool, drawn.sum(axis=-1), shares, taken, cooling_s),
        alive=alive,
        matrix=matrix,
        dispatched=state.dispatched + moving.sum(dtype=jnp.int32),
        policy=policy,
    )
    return state, totals, metrics, record


def price_now(world: World, slot_index: jax.Array, slot_s) -> jax.Array:
    """[R] USD/kWh in a slot: the hour's price times the scenario's factor."""
    hour = (world.workload.start_hour_utc + slot_index * slot_s / 3600) % 24
    price = world.cluster.price_usd_per_kwh
    at = jnp.clip(hour.astype(jnp.int32), 0, price.shape[-1] - 1)
    return price[:, at] * world.scenario.price_factor[slot_index]


def fail(cluster: Cluster, state: State, alive: jax.Array) -> tuple[State, jax.Array]:
    """Switch off regions that have just failed and buffer their unfinished tasks; says which were running [C]."""
    failing = state.alive & ~alive
    pool, was_running = pools.fail(state.pool, cluster, failing)
    servers, down = state.servers, failing[:, None]
    servers = servers.replace(
        active=servers.active & ~down,
        warm_s=jnp.where(down, FAR_S, servers.warm_s),
        free_s=jnp.where(down[:, None], 0.0, servers.free_s),
        spill_s=jnp.where(down[:, None], 0.0, servers.spill_s),
    )
    return state.replace(pool=pool, servers=servers), was_running


def admit(physics: Physics, state: State, tasks: Tasks, was_running: jax.Array):
    """Let the arrivals in, drop what a failure or a deadline has cost.

    Returns the pool [P], the new tasks [P] bool and the drops [P] int32 (`types.Drop` or KEPT).
    """
    pool = pools.arrive(state.pool, tasks)
    held = state.pool.phase.shape[0]
    new = (jnp.arange(pool.phase.shape[0]) >= held) & (pool.phase == Phase.BUFFERED)
    failed = jnp.pad(was_running, (0, tasks.mask.shape[0])) & jnp.asarray(physics.lose_running)
    expired = (pool.phase == Phase.BUFFERED) & (pool.deadline_s <= 0)
    lost = jnp.where(failed, Drop.FAILURE, jnp.where(expired, Drop.DEADLINE, KEPT)).astype(jnp.int32)
    return pool.replace(phase=jnp.where(lost == KEPT, pool.phase, Phase.EMPTY)), new, lost


def scale(scheduler, policy, observation: Observation, matrix: jax.Array, state: State):
    """Move each region towards the servers its expected demand needs (Eq 6); nothing is known before slot 0."""
    cluster, servers, seen = observation.cluster, state.servers, state.observed
    lanes = cluster.lane_mask.sum(axis=(-2, -1)) / jnp.maximum(cluster.server_mask.sum(axis=-1), 1)
    demand = scheduler.demand(policy, observation, matrix)
    wanted = activation.target(
        scheduler.activation, demand, observation.waiting, seen.service_s, lanes, observation.slot_s
    )
    wanted = jnp.where(state.slot == 0, observation.servers_on, wanted)
    return activation.switch(
        cluster,
        scheduler.activation,
        servers,
        wanted,
        observation.alive,
        seen.kind_share,
        seen.cooling_s,
        observation.slot_s,
    )


def routed(pool: Pool, new: jax.Array, alive: jax.Array) -> jax.Array:
    """[P] bool: tasks to route in this slot, the new ones and buffered ones that cannot stay."""
    return (pool.phase == Phase.BUFFERED) & (new | ~alive[pool.region])


def send(rule, observation: Observation, servers: Servers, pool: Pool, moving, live, astray, dispatched, axis_name):
    """Route the tasks `moving` [P] by the matrix and the lost rows of `live_matrix`, and forward them."""
    cluster, alive = observation.cluster, observation.alive
    turn = dispatched + jnp.cumsum(moving) - 1
    choice = dispatch.first_choice(live, rule, pool.region, pool.draw, turn)
    on = servers.active & (servers.warm_s <= 0)
    lanes = jnp.where(on[:, None], cluster.lane_mask, False).sum(axis=(-2, -1))
    load = dispatch.RegionLoad(observation.outstanding, lanes, observation.service_s)
    time_s = jnp.maximum(pool.arrival_s, 0.0)
    region = dispatch.overflow(cluster, rule, load, alive, time_s, pool.region, choice, moving, astray, axis_name)
    return pools.send(pool, cluster, jnp.where(alive.any(), region, pool.region), moving)
