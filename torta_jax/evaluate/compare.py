"""Paired statistics: policies that met the same worlds, compared seed by seed."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit

from torta_jax.errors import unknown
from torta_jax.evaluate.episode import Episode, counts, measures
from torta_jax.sim.metrics import TIMES

REFERENCE = "skylb"
RESAMPLES = 10_000
CONFIDENCE = 0.95

_TIME_METRICS = {f"{time}{statistic}_s": -1 for time in TIMES for statistic in ("", "_p50", "_p99")}

METRICS: dict[str, int] = _TIME_METRICS | {
    "objective_s_per_task": -1,
    "load_balance": +1,
    "power_cost_usd": -1,
    "energy_kwh": -1,
    "overhead_s_per_task": -1,
    "switching_cost": -1,
    "server_starts": -1,
    "dropped": -1,
    "worst_region_drop_fraction": -1,
}
"""Every compared measure: +1 where more is better, -1 where less is."""


class Interval(NamedTuple):
    """A mean over seeds and its 95 % interval (NaN for a single seed)."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """Policy minus reference over paired seeds; its interval; the share of seeds in which it is better."""

    difference: float
    low: float
    high: float
    probability_of_improvement: float


def bootstrap_mean(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """95 % t-scaled bootstrap interval of the mean over the first axis.

    A percentile interval is too narrow for few seeds: it divides by n, not n − 1, and knows no Student t. So its ends
    are moved away from the mean by √(n / (n − 1)) · t / z, after Hesterberg, "What Teachers Should Know About the
    Bootstrap", The American Statistician 69 (4), 2015, who moves the percentiles' levels by the same factor. For skewed
    values the interval still covers the mean a little less often than it says.

    All columns share their resamples, so intervals of one table belong to the same redrawn seeds.

    Args:
        values: [n, ...], one row per seed.
        resamples: how often the seeds are drawn anew, with replacement.
        seed: of the draws; the same input gives the same interval.

    Returns:
        low and high, [...] each; NaN with fewer than two seeds and in columns that hold a NaN.
    """
    values = np.asarray(values, np.float64)
    n = values.shape[0]
    if n < 2:
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    means = np.tensordot(drawn / n, values, axes=1)
    mean, tail = values.mean(axis=0), (1 - CONFIDENCE) / 2
    ends = np.quantile(means, [tail, 1 - tail], axis=0)
    low, high = mean + _stretch(n, 1 - tail) * (ends - mean)
    return low, high


def _stretch(n: int, level: float) -> float:
    """How much wider n values make an interval of the mean than the percentile bootstrap has it."""
    return math.sqrt(n / (n - 1)) * float(stdtrit(n - 1, level) / ndtri(level))


def probability_of_improvement(better_by: np.ndarray) -> np.ndarray:
    """Share of paired seeds in which a policy is better than the reference; a tie counts half.

    Args:
        better_by: [n, ...] policy minus reference, signed so that positive is better.

    Returns:
        [...] in [0, 1]; NaN in columns that hold a NaN.
    """
    share = (np.sign(better_by).mean(axis=0) + 1) / 2
    return np.asarray(share)


def intervals(measured: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """Mean and interval of every metric from its values per seed, [n] each."""
    table = np.stack([measured[name] for name in METRICS], axis=1)
    rows = zip(table.mean(axis=0), *bootstrap_mean(table), strict=True)
    return {name: Interval(*map(float, row)) for name, row in zip(METRICS, rows, strict=True)}


def paired(
    measured: Mapping[str, Mapping[str, np.ndarray]], reference: str = REFERENCE
) -> dict[str, dict[str, Difference]]:
    """Differences of every policy against the reference, metric by metric.

    Args:
        measured: policy -> metric -> [n] values per seed; row i of every policy met the same world.
        reference: name of one of the policies.

    Returns:
        policy -> metric -> Difference, for every policy but the reference.

    Raises:
        InputError: the reference is not among the policies.
    """
    if reference not in measured:
        raise unknown("reference policy", reference, measured)
    base = np.stack([measured[reference][name] for name in METRICS], axis=1)
    sign = np.array(list(METRICS.values()))
    differences: dict[str, dict[str, Difference]] = {}
    for policy, own in measured.items():
        if policy == reference:
            continue
        change = np.stack([own[name] for name in METRICS], axis=1) - base
        chance = probability_of_improvement(change * sign)
        rows = zip(change.mean(axis=0), *bootstrap_mean(change), chance, strict=True)
        differences[policy] = {name: Difference(*map(float, row)) for name, row in zip(METRICS, rows, strict=True)}
    return differences


def summarise(episode: Episode) -> dict[str, Any]:
    """One policy's entry in the result document.

    Counts of tasks are exact totals over all seeds. Everything else is a mean over seeds of the measure of
    one episode, as in `paired`.
    """
    mean = {name: float(values.mean()) for name, values in measures(episode).items()}
    times = {
        f"{time}_s": {
            "mean": mean.pop(f"{time}_s"),
            "p50": mean.pop(f"{time}_p50_s"),
            "p99": mean.pop(f"{time}_p99_s"),
        }
        for time in TIMES
    }
    worst = mean.pop("worst_region_drop_fraction")
    del mean["dropped"]
    totals = {name: int(per_seed.sum()) for name, per_seed in counts(episode).items()}
    return times | mean | totals | {"worst_region_drop_fraction": worst}


def document(
    world: Mapping[str, Any], episodes: Mapping[str, Episode], reference: str | None = REFERENCE
) -> dict[str, Any]:
    """The result of a comparison as plain data, ready for JSON (what is not a number is `None`).

    Args:
        world: what was simulated, plain values.
        episodes: policy -> Episode, all over the same seeds.
        reference: the policy that the others are compared with; without it `paired` is empty.

    Returns:
        {"world", "policies": {NAME: summarise(...)}, "paired": {NAME: {METRIC: Difference as a dict}}}.
    """
    differences = {}
    if reference is not None and reference in episodes:
        differences = paired({name: measures(episode) for name, episode in episodes.items()}, reference)
    return _plain(
        {
            "world": world,
            "policies": {name: summarise(episode) for name, episode in episodes.items()},
            "paired": {
                policy: {name: difference._asdict() for name, difference in by_metric.items()}
                for policy, by_metric in differences.items()
            },
        }
    )


def _plain(value: Any) -> Any:
    """JSON knows no NaN and no infinity: both become null."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
