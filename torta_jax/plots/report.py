"""The pictures of a comparison."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from torta_jax.evaluate.compare import intervals
from torta_jax.evaluate.episode import Episode, measures
from torta_jax.plots.bars import cost_and_overhead, stacked_times
from torta_jax.plots.density import response_density
from torta_jax.plots.distribution import load_balance_cdf
from torta_jax.plots.timeline import queue_and_servers
from torta_jax.sim.metrics import TIMES


def figures(episodes: Mapping[str, Episode], slot_s: float) -> dict[str, Figure]:
    """Every picture of a comparison by the name of its file.

    Args:
        episodes: policy -> Episode, at least one.
        slot_s: seconds in a slot.
    """
    by_policy = {name: intervals(measures(episode)) for name, episode in episodes.items()}

    def metric(key: str):
        return {name: measured[key] for name, measured in by_policy.items()}

    def per_slot(value):
        return {name: np.asarray(value(episode.slots), np.float64) for name, episode in episodes.items()}

    balances, busy = per_slot(lambda slots: slots.load_balance), per_slot(lambda slots: slots.utilisation)
    waiting = per_slot(lambda slots: slots.queued + slots.buffered)
    active = per_slot(lambda slots: slots.active_servers)
    response = TIMES.index("response")
    times = {part: {k: v.mean for k, v in metric(f"{part}_s").items()} for part in ("wait", "inference", "network")}
    return {
        "response_density": response_density(
            {name: np.asarray(episode.histogram)[:, response].sum(axis=0) for name, episode in episodes.items()}
        ),
        "cost_and_overhead": cost_and_overhead(metric("power_cost_usd"), metric("overhead_s_per_task")),
        "load_balance": load_balance_cdf({name: balance[busy[name] > 0] for name, balance in balances.items()}),
        "wait_and_inference": stacked_times(times),
        "queue_and_servers": queue_and_servers(_over_seeds(waiting), _over_seeds(active), slot_s),
    }


def _over_seeds(values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.mean(axis=0) for name, array in values.items()}
