"""What one policy did in one world, and its measures per seed."""

from collections.abc import Mapping

import jax
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from torta_jax.sim import metrics
from torta_jax.sim.env import Objective
from torta_jax.types import Drop


class Episode(struct.PyTreeNode):
    """One policy, one world, every seed. NumPy arrays, n seeds, T slots, R regions."""

    slots: metrics.SlotMetrics  # [n, T]; dropped [n, T, 3]
    histogram: np.ndarray  # [n, 4, NUM_BINS] int, completed tasks by time, in the order of metrics.TIMES
    arrived_by_origin: np.ndarray  # [n, R] int
    dropped_by_origin: np.ndarray  # [n, R] int, whatever the reason

    @property
    def num_seeds(self) -> int:
        return self.slots.arrived.shape[0]


def counts(episode: Episode) -> dict[str, np.ndarray]:
    """Where the tasks of each seed ended, [n] int64 each: `arrived` is the sum of the other five."""
    slots = episode.slots
    return {
        "arrived": _total(slots.arrived),
        "completed": _total(slots.completed),
        "running": np.asarray(slots.running, np.int64)[:, -1],
        "queued": np.asarray(slots.queued, np.int64)[:, -1],
        "buffered": np.asarray(slots.buffered, np.int64)[:, -1],
        "dropped": np.asarray(slots.dropped, np.int64).sum(axis=(1, 2)),
    }


def measures(episode: Episode) -> dict[str, np.ndarray]:
    """Every measure of `compare.METRICS` for each seed, [n] float64 each.

    Times are means, medians and 99th percentiles over completed tasks (NaN where none completed), costs,
    starts and drops are sums over the episode, load balance and switching cost means over its slots (load balance over
    those in which a server worked; NaN without any). The objective is Eq 1 of the whole episode per task that arrived
    (`sim.env.Objective`): tasks that had not ended are charged nothing yet.
    """
    slots = episode.slots
    completed = _total(slots.completed)
    measured: dict[str, np.ndarray] = {}
    for index, name in enumerate(metrics.TIMES):
        measured[f"{name}_s"] = _ratio(_sum(getattr(slots, f"{name}_s")), completed)
        measured[f"{name}_p50_s"] = metrics.quantile(episode.histogram[:, index], 0.50)
        measured[f"{name}_p99_s"] = metrics.quantile(episode.histogram[:, index], 0.99)
    overhead_s = _sum(slots.model_load_s) + _sum(slots.migration_s) + _sum(slots.warmup_s)
    return measured | {
        "objective_s_per_task": _objective(slots),
        "load_balance": _mean_where(slots.load_balance, np.asarray(slots.utilisation) > 0),
        "power_cost_usd": _sum(slots.power_cost_usd),
        "energy_kwh": _sum(slots.energy_kwh),
        "overhead_s_per_task": _ratio(overhead_s, completed),
        "switching_cost": np.asarray(slots.switching_cost, np.float64).mean(axis=1),
        "server_starts": _sum(slots.server_starts),
        "dropped": counts(episode)["dropped"].astype(np.float64),
        "worst_region_drop_fraction": _worst_region(episode),
    }


def shortages(episodes: Mapping[str, Episode]) -> list[str]:
    """What the padding cost is never silent: tasks counted as dropped, and slots that tasks had to wait."""
    notes = []
    for name, episode in episodes.items():
        lost, late = int(episode.slots.dropped[..., Drop.OVERFLOW].sum()), int(episode.slots.unmatched.sum())
        if lost:
            notes.append(f"policy {name}: tasks dropped because the simulator had no room for them: {lost:,}")
        if late:
            notes.append(f"policy {name}: times a task waited a slot for lack of room in its region: {late:,}")
    return notes


def _objective(slots: metrics.SlotMetrics) -> np.ndarray:
    """[n] Eq 1 per task."""
    whole = jax.tree.map(lambda x: np.asarray(x, np.float64).sum(axis=1), slots)
    whole = whole.replace(switching_cost=np.asarray(slots.switching_cost, np.float64).mean(axis=1))
    return np.asarray(Objective().cost(whole), np.float64)


def _worst_region(episode: Episode) -> np.ndarray:
    """[n] largest share of a region's own arrivals that was dropped; a region without arrivals loses none."""
    arrived = np.maximum(np.asarray(episode.arrived_by_origin, np.float64), 1.0)
    return (np.asarray(episode.dropped_by_origin, np.float64) / arrived).max(axis=1)


def _mean_where(per_slot: ArrayLike, counted: np.ndarray) -> np.ndarray:
    return _ratio(np.where(counted, np.asarray(per_slot, np.float64), 0.0).sum(axis=1), counted.sum(axis=1))


def _sum(per_slot: ArrayLike) -> np.ndarray:
    return np.asarray(per_slot, np.float64).sum(axis=1)


def _total(per_slot: ArrayLike) -> np.ndarray:
    return np.asarray(per_slot, np.int64).sum(axis=1)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
