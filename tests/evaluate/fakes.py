"""Invented episodes with the shape and the bookkeeping of real ones."""

from typing import Any

import numpy as np

from torta_jax.evaluate.episode import Episode
from torta_jax.sim.metrics import BIN_EDGES_S, TIMES, SlotMetrics

POLICIES = {
    "round-robin": (3.5, 18.5),
    "skylb": (2.2, 15.6),
    "sdib": (1.0, 17.0),
    "reactive-ot": (1.3, 15.4),
    "reactive-hysteresis": (0.6, 15.4),
    "torta-paper": (0.7, 15.4),
    "torta": (0.9, 14.6),
}
"""Mean wait and inference in seconds."""


def episode(policy: str = "torta", *, seeds: int = 4, slots: int = 12, regions: int = 3, key: int = 0) -> Episode:
    """A seeded invention: tasks are conserved exactly and sums agree with the histograms up to binning."""
    wait_s, inference_s = POLICIES.get(policy, (1.0, 16.0))
    rng = np.random.default_rng([key, sum(map(ord, policy))])
    shape = (seeds, slots)
    arrived = rng.poisson(500 + 150 * np.sin(np.arange(slots) / max(slots, 1) * 6.3), size=shape)
    dropped = rng.poisson(0.3, size=(*shape, 3))
    held = np.minimum(rng.poisson(150, size=shape), np.cumsum(arrived - dropped.sum(-1), axis=1))
    completed = arrived - dropped.sum(-1) - np.diff(held, axis=1, prepend=0)
    queued, buffered = held // 4, held // 10
    histogram, sums = _times(rng, completed, wait_s, inference_s)
    by_origin = np.array([rng.multinomial(n, np.full(regions, 1 / regions)) for n in arrived.sum(1)])
    lost = np.array([rng.multinomial(n, np.full(regions, 1 / regions)) for n in dropped.sum((1, 2))])
    starts = rng.poisson(wait_s, size=shape)
    power = 0.012 * inference_s * (1 + 0.1 * rng.normal(size=shape))
    fields: dict[str, Any] = dict(
        arrived=arrived,
        completed=completed,
        late=rng.binomial(np.maximum(completed, 0), 0.01),
        dropped=dropped,
        running=held - queued - buffered,
        queued=queued,
        buffered=buffered,
        unmatched=np.zeros(shape, int),
        load_balance=np.clip(0.76 - 0.02 * wait_s + 0.03 * rng.normal(size=shape), 0, 1),
        utilisation=rng.uniform(0.5, 0.7, size=shape),
        active_servers=180 + 40 * np.sin(np.arange(slots) / max(slots, 1) * 6.3 - 0.4) + rng.normal(size=shape),
        energy_kwh=8 * power,
        power_cost_usd=power,
        model_loads=rng.poisson(60 * wait_s, size=shape),
        model_load_s=rng.gamma(20, 30 * wait_s, size=shape),
        migrations=starts // 2,
        migration_s=starts * 10.0,
        server_starts=starts,
        warmup_s=starts * 100.0,
        switching_cost=rng.gamma(2, 0.05 * wait_s, size=shape),
        **sums,
    )
    return Episode(SlotMetrics(**fields), histogram, by_origin, lost)


def episodes(policies=tuple(POLICIES), **shape) -> dict[str, Episode]:
    """An invented episode for every policy."""
    return {policy: episode(policy, **shape) for policy in policies}


def _times(rng, completed, wait_s, inference_s):
    seeds = completed.shape[0]
    histogram = np.zeros((seeds, len(TIMES), len(BIN_EDGES_S) - 1), np.int64)
    sums = {f"{name}_s": np.zeros(completed.shape) for name in TIMES}
    for seed in range(seeds):
        number = int(completed[seed].sum())
        slot = np.repeat(np.arange(completed.shape[1]), completed[seed])
        drawn = {
            "wait": rng.gamma(0.4, wait_s / 0.4, size=number),
            "inference": rng.gamma(16, inference_s / 16, size=number),
            "network": rng.gamma(2, 0.02, size=number),
        }
        drawn["response"] = drawn["wait"] + drawn["inference"] + drawn["network"]
        for index, name in enumerate(TIMES):
            histogram[seed, index] = np.histogram(drawn[name], bins=BIN_EDGES_S)[0]
            sums[f"{name}_s"][seed] = np.bincount(slot, drawn[name], minlength=completed.shape[1])
    return histogram, sums
