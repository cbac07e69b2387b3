"""A whole experiment as one compiled scan over slots."""

from typing import Any

import jax
from flax import struct
from jax import lax

from torta_jax.sim.account import Totals
from torta_jax.sim.slot import World, make_world, reset, run_slot
from torta_jax.sim.state import Physics, State
from torta_jax.types import Cluster, Scenario


class Run(struct.PyTreeNode):
    """An experiment so far."""

    state: State
    totals: Totals


def start(world: World, physics: Physics, scheduler) -> Run:
    """A run before its first slot."""
    return Run(*reset(world, physics, scheduler))


def advance(
    world: World, physics: Physics, scheduler, run: Run, num_slots: int, axis_name=None, keep=None
) -> tuple[Run, Any]:
    """Run `num_slots` further slots.

    Args:
        axis_name: name of an enclosing `vmap` axis over clusters (see `service.serve`).
        keep: function of a `SlotRecord` whose result is stacked over slots beside the metrics.

    Returns:
        The run, and `SlotMetrics` with a leading axis [num_slots]; with `keep`, a pair of the metrics and its results.
    """

    def step(run, _):
        state, totals, metrics, record = run_slot(world, physics, scheduler, run.state, run.totals, axis_name=axis_name)
        return Run(state, totals), metrics if keep is None else (metrics, keep(record))

    return lax.scan(step, run, None, length=num_slots)


def simulate(
    cluster: Cluster,
    workload,
    scheduler,
    key: jax.Array,
    *,
    scenario: Scenario,
    physics: Physics | None = None,
    keep=None,
):
    """Simulate one cluster from an empty start to the end of its scenario.

    Pure: jit it, vmap it over clusters, workloads, schedulers or keys.

    Args:
        cluster: regions, servers, network and prices (`cluster.build`, `cluster.random_cluster`).
        workload: what arrives (`workload.Synthetic`, `workload.Trace`, or any `workload.base.Workload`).
        scheduler: the policy (`schedulers.get`, or any `schedulers.base.Scheduler`).
        key: typed key of the world; one key gives one world, whatever the policy.
        scenario: its number of slots T is the length of the experiment.
        physics: default: room for this fleet and workload in calm times; with surges or failures take
            `Physics().sized(cluster, workload.max_tasks, 4.0)`.

    Returns:
        The final `Run` (its `totals` are exact counts) and `SlotMetrics` of [T] arrays; with `keep` as in `advance`.

        Where the policy asks for shares that are negative or not finite, the slot's `switching_cost` is NaN.

    Raises:
        InputError: the scenario is of other regions, or this is no policy.
    """
    physics = physics or Physics().sized(cluster, workload.max_tasks)
    num_slots = scenario.alive.shape[0]
    world = make_world(cluster, workload, scenario, key, num_slots, physics.slot_s)
    return advance(world, physics, scheduler, start(world, physics, scheduler), num_slots, keep=keep)
