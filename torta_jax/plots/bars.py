"""Bars: one number per policy with its interval (Fig 9), and times stacked to the response (Fig 11)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torta_jax.evaluate.compare import Interval
from torta_jax.plots.style import colours, horizontal, styled

PARTS = ("#882255", "#DDCC77", "#332288")
"""Colours of waiting, inference and network, none of them a policy's."""


@styled
def cost_and_overhead(cost_usd: Mapping[str, Interval], overhead_s: Mapping[str, Interval]) -> Figure:
    """Power cost and operational overhead of every policy, with 95 % intervals over seeds.

    Args:
        cost_usd: policy -> US dollars per episode.
        overhead_s: policy -> seconds of model loads, migrations and server starts per completed task.
    """
    figure = Figure(figsize=(9.0, 1.3 + 0.38 * len(cost_usd)))
    left, right = figure.subplots(1, 2, sharey=True)
    _interval_bars(left, cost_usd)
    left.set(title=f"Power cost{_over_seeds(cost_usd)}", xlabel="US dollars per episode")
    _interval_bars(right, overhead_s)
    right.set(title=f"Operational overhead{_over_seeds(overhead_s)}", xlabel="seconds per completed task")
    return figure


@styled
def stacked_times(times: Mapping[str, Mapping[str, float]]) -> Figure:
    """Mean wait, inference and network time of every policy, stacked to its mean response time.

    Args:
        times: part -> policy -> seconds, in the order in which they are stacked.
    """
    policies = list(next(iter(times.values())))
    figure = Figure(figsize=(7.6, 1.6 + 0.38 * len(policies)))
    axes = figure.subplots()
    base = np.zeros(len(policies))
    for (part, by_policy), shade in zip(times.items(), PARTS, strict=False):
        seconds = np.nan_to_num([by_policy[policy] for policy in policies])
        axes.barh(range(len(policies)), seconds, left=base, color=shade, height=0.66, label=part)
        base += seconds
    for row, total in enumerate(base):
        parts = " + ".join(f"{by_policy[policies[row]]:.2f}" for by_policy in times.values())
        axes.annotate(f"  {total:.2f} = {parts}", (total, row), va="center", size="small", annotation_clip=False)
    horizontal(axes, policies)
    axes.set(xlabel="mean time of a completed task (s)", xlim=(0, 1.42 * base.max() if base.max() > 0 else 1.0))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(times))
    return figure


def _over_seeds(intervals: Mapping[str, Interval]) -> str:
    """What the whiskers are; a single seed has none."""
    return ", 95 % interval over seeds" if np.isfinite([value.low for value in intervals.values()]).any() else ""


def _interval_bars(axes: Axes, intervals: Mapping[str, Interval]) -> None:
    rows = np.arange(len(intervals))
    mean, low, high = np.array(list(intervals.values()), np.float64).T
    spread = np.nan_to_num(np.stack([mean - low, high - mean]))
    axes.barh(
        rows,
        np.nan_to_num(mean),
        color=list(colours(intervals).values()),
        height=0.66,
        xerr=np.maximum(spread, 0.0),
        error_kw={"capsize": 3, "elinewidth": 1.2, "ecolor": "black"},
    )
    ends = np.nan_to_num(mean) + spread[1]
    for row, end in zip(rows, ends, strict=True):
        axes.annotate(f"  {mean[row]:.2f}", (end, row), va="center", size="small", annotation_clip=False)
    horizontal(axes, intervals)
    axes.set_xlim(0, 1.18 * ends.max() if ends.max() > 0 else 1.0)
