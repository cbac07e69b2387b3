"""How evenly servers were used: the distribution of load balance over slots (Fig 10)."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from torta_jax.plots.style import colours, styled


@styled
def load_balance_cdf(load_balance: Mapping[str, np.ndarray]) -> Figure:
    """Share of slots with at most a load balance, one line per policy, the names by their medians.

    Args:
        load_balance: policy -> values of Eq 11 in any shape, one per slot and seed.
    """
    figure = Figure(figsize=(7.2, 4.2))
    axes = figure.subplots()
    known = [name for name, values in load_balance.items() if np.size(values)]
    by_median = sorted(known, key=lambda name: float(np.median(load_balance[name])))
    chosen = colours(load_balance)
    for name in by_median:
        values = np.ravel(load_balance[name])
        width = 2.2 if name.startswith("torta") else 1.4
        axes.ecdf(values, color=chosen[name], linewidth=width, label=f"{np.median(values):.3f}  {name}")
    axes.set(
        title="Load balance 1 / (1 + CV of the active servers' utilisation)",
        xlabel="load balance of a slot (1 is even)",
        ylabel="share of all seeds' slots with at most this",
        ylim=(0, 1),
    )
    axes.legend(title="median", loc="upper left", bbox_to_anchor=(1.01, 1), alignment="left")
    return figure
