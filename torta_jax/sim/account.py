"""The books of a slot: what became of every task, exact counts, times, energy and overhead."""

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.sim.energy import Usage, load_balance
from torta_jax.sim.metrics import NUM_BINS, TIMES, SlotMetrics, bin_of
from torta_jax.sim.state import Pool
from torta_jax.sim.sums import total, total_of_all
from torta_jax.types import Cluster, Drop, Phase

OUTCOMES = ("completed", "running", "queued", "buffered", "deadline", "overflow", "failure")
"""What became of a task by the end of a slot; the last three are `types.Drop`, in order."""

DROPS = len(OUTCOMES) - len(Drop)
"""Index of the first drop in OUTCOMES."""

KEPT = -1
"""Mark of a task that was not dropped in this slot."""


class Totals(struct.PyTreeNode):
    """Exact counts over an episode."""

    histogram: jax.Array  # [4, NUM_BINS] int32, completed tasks by time, in the order of metrics.TIMES
    arrived: jax.Array  # [R, 3] int32 by origin and kind
    completed: jax.Array  # [R, 3] int32
    dropped: jax.Array  # [3, R, 3] int32 by types.Drop, origin and kind


def no_totals(regions: int) -> Totals:
    """Totals before the first slot."""
    cell = jnp.zeros((regions, 3), jnp.int32)
    return Totals(jnp.zeros((len(TIMES), NUM_BINS), jnp.int32), cell, cell, jnp.zeros((3, regions, 3), jnp.int32))


def outcomes(pool: Pool, lost: jax.Array, slot_s) -> jax.Array:
    """[P] int32 index into OUTCOMES; len(OUTCOMES) for a free row. `lost` is a `types.Drop`, or KEPT."""
    ended = jnp.where(pool.finish_s <= slot_s, 0, jnp.where(pool.start_s <= slot_s, 1, 2))
    held = jnp.where(pool.phase == Phase.BUFFERED, 3, ended)
    held = jnp.where(pool.phase == Phase.EMPTY, len(OUTCOMES), held)
    return jnp.where(lost == KEPT, held, DROPS + lost).astype(jnp.int32)


def count_cells(pool: Pool, mask: jax.Array, regions: int) -> jax.Array:
    """[R, 3] int32 masked tasks by origin and kind."""
    return jnp.zeros((regions, 3), jnp.int32).at[pool.origin, pool.kind].add(mask.astype(jnp.int32))


def count_outcomes(pool: Pool, outcome: jax.Array, regions: int) -> jax.Array:
    """[7, R, 3] int32 tasks by outcome, origin and kind."""
    counts = jnp.zeros((len(OUTCOMES), regions, 3), jnp.int32)
    return counts.at[outcome, pool.origin, pool.kind].add(1, mode="drop")


def task_times(pool: Pool, cluster: Cluster) -> dict[str, jax.Array]:
    """[P] seconds by metrics.TIMES, right for completed tasks; the answer travels back to the origin."""
    back_s = cluster.latency_s[pool.region, pool.origin]
    response = pool.finish_s + back_s - pool.arrival_s
    inference = pool.inference_s + pool.finish_s - pool.start_s
    network = pool.network_s + back_s
    wait = jnp.maximum(response - inference - network, 0.0)  # rounding may leave -1e-6
    return {"response": response, "wait": wait, "inference": inference, "network": network}


def add(totals: Totals, arrived, counts, outcome, times: dict[str, jax.Array]) -> Totals:
    """The totals after one more slot."""
    bins = [jnp.where(outcome == 0, bin_of(times[name]), NUM_BINS) for name in TIMES]
    counted = [old.at[bin_].add(1, mode="drop") for old, bin_ in zip(totals.histogram, bins, strict=True)]
    return Totals(
        histogram=jnp.stack(counted),
        arrived=totals.arrived + arrived,
        completed=totals.completed + counts[0],
        dropped=totals.dropped + counts[DROPS:],
    )


class Effort(struct.PyTreeNode):
    """Operational overhead of a slot: counts and seconds of loads, migrations and starts."""

    model_loads: jax.Array
    model_load_s: jax.Array
    migrations: jax.Array
    migration_s: jax.Array
    server_starts: jax.Array
    warmup_s: jax.Array


def effort(cluster: Cluster, before: Pool, pool: Pool, moved, taken, cold) -> Effort:
    """What it took to serve the slot.

    Args:
        before: the pool at the slot's start, with the servers tasks ran on.
        moved: [P] tasks of `before` that a failure interrupted, but for those whose deadline had passed.
        taken: [P] tasks of `pool` given a lane in this slot.
        cold: [R, S] servers started.
    """
    migrate_in_s = jnp.where(taken & pool.started, cluster.migrate_in_s[pool.region, pool.server], 0.0)
    migrate_out_s = jnp.where(moved, cluster.migrate_out_s[before.region, before.server], 0.0)
    load_s = jnp.where(taken, pool.loading_s - migrate_in_s, 0.0)
    return Effort(
        model_loads=(load_s > 1e-6).sum(),
        model_load_s=total(load_s),
        migrations=(taken & pool.started).sum(),
        migration_s=total(migrate_in_s) + total(migrate_out_s),
        server_starts=cold.sum(),
        warmup_s=total_of_all(jnp.where(cold, cluster.warmup_s, 0.0)),
    )


def measure(
    pool: Pool, outcome, counts, arrived, unmatched, times, used: Usage, work: Effort, utilisation, price, change
):
    """The slot's `SlotMetrics`.

    Args:
        outcome: [P]; counts: [7, R, 3]; arrived: [R, 3]; unmatched: []; times: by metrics.TIMES, [P] each.
        utilisation: [R, S] in this slot; price: [R] USD/kWh; change: squared change of the realised routing.
    """
    done = outcome == 0
    number = counts.sum(axis=(1, 2))
    sums = {f"{name}_s": total(jnp.where(done, times[name], 0.0)) for name in TIMES}
    active = used.on_s > 0
    return SlotMetrics(
        arrived=arrived.sum(),
        completed=number[0],
        late=(done & (pool.finish_s > pool.deadline_s)).sum(),
        dropped=number[DROPS:],
        running=number[1],
        queued=number[2],
        buffered=number[3],
        unmatched=unmatched,
        **sums,
        load_balance=load_balance(utilisation, active),
        utilisation=total_of_all(jnp.where(active, utilisation, 0.0)) / jnp.maximum(active.sum(), 1),
        active_servers=active.sum(),
        energy_kwh=total_of_all(used.energy_kwh),
        power_cost_usd=total(total(used.energy_kwh) * price),
        **{name: getattr(work, name) for name in work.__dataclass_fields__},
        switching_cost=change,
    )
