"""How training went."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torta_jax.plots.style import styled

COLUMNS = 3

TITLES = {
    "cost": "cost as training weighs it, s per task",
    "mean_log_cost": "mean log of the cost, which is learned from",
    "reward": "reward: Eq 3, per slot",
    "improvement": "s: the plan's switching over the policy's",
    "deviation": "E‖A − P*‖: distance to the plan, mean",
    "farthest": "largest distance to the plan",
    "penalty": "what Eq 5 adds for broken constraints",
    "explained_variance": "explained variance of the returns",
    "kl": "KL: how far an update moves the policy",
    "clip_fraction": "share of ratios that are clipped (Eq 4)",
    "used": "share of minibatches before KL stops them",
    "entropy": "entropy of the policy",
    "policy_loss": "policy loss (Eq 4)",
    "value_loss": "value loss",
    "switching": "switching: squared change of A per slot",
    "k0": "K0: the plan's switching",
    "queue": "queue, share of capacity",
    "advantage": "Theorem 3's condition; holds above zero",
    "slope_response_s": "L_R: s per unit of A",
    "slope_power_usd": "L_P: $ per unit of A",
    "gradient_norm": "norm of the slope",
    "without_slope": "worlds without a finite slope",
    "weights_norm": "norm of the weights",
    "learning_rate": "learning rate",
}
"""Of what is logged, in the order of the panels."""


@styled
def learning_curves(log: Sequence[Mapping[str, float]], aims: Mapping[str, float]) -> Figure:
    """One panel for every number that was logged, over updates; the line is a centred moving average.

    Args:
        log: one row per update, each with `update`.
        aims: what some of the numbers should reach or keep below, as a dashed line.
    """
    names = sorted(set(log[0]) - {"update"}, key=lambda name: (*TITLES, name).index(name))
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(9.6, 2.6 * rows))
    updates = np.array([row["update"] for row in log])
    width = max(1, len(log) // 20)
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, COLUMNS, index + 1)
        values = np.array([row[name] for row in log])
        axes.plot(updates, values, ".", color="#D55E00", alpha=0.25, markersize=3)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        if name in aims:
            axes.axhline(aims[name], color="black", linestyle="--", linewidth=1)
        axes.plot(updates[width - 1 :] - (width - 1) / 2, smooth, color="#D55E00")
        axes.set_title(TITLES.get(name, name.replace("_", " ")), fontsize="small")
        axes.set_xlim(0, updates[-1] + 1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.ticklabel_format(axis="y", useOffset=False)
        if np.ptp(values) == 0:  # else the axis would be of a width without meaning
            axes.set_ylim(values[0] - 1, values[0] + 1)
        if index >= len(names) - COLUMNS:
            axes.set_xlabel("update")
    return figure
