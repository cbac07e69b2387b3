"""How long tasks took: one density per policy, in the manner of the paper's Fig 8."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from torta_jax.plots.style import colours, styled
from torta_jax.sim.metrics import BIN_EDGES_S, quantile

_POINTS = 160
_SHOWN = 0.995


@styled
def response_density(histograms: Mapping[str, np.ndarray]) -> Figure:
    """One row per policy: the density of its response times, with mean and 99th percentile marked.

    Args:
        histograms: policy -> [NUM_BINS] tasks per bin of `metrics.BIN_EDGES_S`.
    """
    counted = {name: np.asarray(counts, np.float64) for name, counts in histograms.items()}
    ends = [float(quantile(counts, _SHOWN)) for counts in counted.values() if counts.sum() > 0]
    grid = np.linspace(0, max(ends, default=1.0), _POINTS + 1)
    middle = (grid[1:] + grid[:-1]) / 2
    densities = {name: _density(counts, grid) for name, counts in counted.items()}
    top = max((density.max() for density in densities.values()), default=0.0) or 1.0

    figure = Figure(figsize=(7.2, 1.0 + 0.72 * len(counted)))
    rows = figure.subplots(len(counted), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for row, (name, density), colour in zip(rows, densities.items(), colours(counted).values(), strict=True):
        row.fill_between(middle, density, color=colour, alpha=0.35, linewidth=0)
        row.plot(middle, density, color=colour, linewidth=1.4)
        row.set(ylim=(0, 1.3 * top), xlim=(0, grid[-1]), yticks=[])
        row.spines["left"].set_visible(False)
        row.set_ylabel(name, rotation=0, ha="right", va="center")
        _mark(row, counted[name], top)
    rows[-1].set_xlabel(
        f"response time (s) of all seeds' tasks; at most {100 * (1 - _SHOWN):g} % are beyond the right end"
    )
    figure.suptitle("Density of response time     │ mean     ┊ 99th percentile", x=0.02, ha="left", size="medium")
    return figure


def _density(counts: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """[points] per second, from the counts interpolated inside their bins; the open last bin is left out."""
    cumulative = np.append(0.0, np.cumsum(counts[:-1]))
    inside = np.diff(np.interp(grid, BIN_EDGES_S[:-1], cumulative)) / np.diff(grid)
    return inside / max(counts.sum(), 1.0)


def _mark(row, counts: np.ndarray, top: float) -> None:
    if counts.sum() == 0:
        row.text(0.5, 0.5, "no task completed", transform=row.transAxes, ha="center", va="center")
        return
    middles = (BIN_EDGES_S[1:-1] + BIN_EDGES_S[:-2]) / 2
    mean = counts[:-1] @ middles / max(counts[:-1].sum(), 1.0)
    p99 = float(quantile(counts, 0.99))
    row.vlines(mean, 0, 1.1 * top, color="black", linewidth=1.0)
    row.vlines(p99, 0, 1.1 * top, color="black", linewidth=1.0, linestyle=":")
    for value in (mean, p99):
        row.annotate(f" {value:.2f}", (value, 1.1 * top), size="small", va="center")
