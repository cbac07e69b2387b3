"""How training went."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from torta_jax.plots.style import styled

COLUMNS = 3


@styled
def learning_curves(log: Sequence[Mapping[str, float]]) -> Figure:
    """One panel for every number that was logged, over updates; the line is a centred moving average.

    Args:
        log: one row per update, each with `update`.
    """
    names = [name for name in log[0] if name != "update"]
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(9.6, 2.6 * rows))
    updates = np.array([row["update"] for row in log])
    width = max(1, len(log) // 20)
    for index, name in enumerate(names):
        axes = figure.add_subplot(rows, COLUMNS, index + 1)
        values = np.array([row[name] for row in log])
        axes.plot(updates, values, ".", color="#D55E00", alpha=0.25, markersize=3)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        axes.plot(updates[width - 1 :] - (width - 1) / 2, smooth, color="#D55E00")
        axes.set_title(name.replace("_", " "))
        axes.set_xlim(0, updates[-1] + 1)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.ticklabel_format(axis="y", useOffset=False)
        if np.ptp(values) == 0:  # else the axis would be of a width without meaning
            axes.set_ylim(values[0] - 1, values[0] + 1)
        if index >= len(names) - COLUMNS:
            axes.set_xlabel("update")
    return figure
