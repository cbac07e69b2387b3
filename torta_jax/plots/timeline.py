"""An episode over time: what waits and how many servers are on."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from torta_jax.plots.style import colours, styled

_LONG_S = 2 * 3600.0
"""An episode from which on time is told in hours."""


@styled
def queue_and_servers(
    waiting: Mapping[str, np.ndarray], active_servers: Mapping[str, np.ndarray], slot_s: float
) -> Figure:
    """Tasks waiting at the end of each slot, and servers on during it; means over seeds.

    Args:
        waiting: policy -> [T] tasks.
        active_servers: policy -> [T] servers.
        slot_s: seconds in a slot.
    """
    figure = Figure(figsize=(8.4, 5.0))
    upper, lower = figure.subplots(2, 1, sharex=True)
    chosen = colours(waiting)
    num_slots = len(next(iter(waiting.values())))
    unit, unit_s = ("h", 3600.0) if num_slots * slot_s >= _LONG_S else ("min", 60.0)
    ends = slot_s / unit_s * np.arange(1, num_slots + 1)
    for axes, by_policy in ((upper, waiting), (lower, active_servers)):
        for name, values in by_policy.items():
            width = 1.7 if name.startswith("torta") else 1.0
            axes.plot(ends, values, color=chosen[name], linewidth=width, label=name)
        axes.set_ylim(bottom=0)
        axes.margins(x=0)
        axes.set_xlim(left=0)
    upper.set(title="Waiting: queued at a server or buffered in a region, mean over seeds", ylabel="tasks")
    lower.set(title="Servers switched on and warm, mean over seeds", ylabel="servers", xlabel=f"time ({unit})")
    upper.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return figure
