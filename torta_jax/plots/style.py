"""What all pictures share: colours, fonts, and how a figure becomes a file."""

import functools
import io
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

P = ParamSpec("P")

COLOURS = {
    "round-robin": "#999999",
    "sdib": "#E69F00",
    "skylb": "#56B4E9",
    "skylb-engineered": "#7B5EA7",
    "reactive-ot": "#009E73",
    "reactive-hysteresis": "#0072B2",
    "torta-paper": "#CC79A7",
    "torta": "#D55E00",
    "torta-learned": "#7F2704",
}
"""A policy has one colour in every picture: the palette of Okabe and Ito, told apart by colour-blind eyes."""

_OTHERS = ("#000000", "#B8A100", "#5D4037", "#C2185B")

_SETTINGS: Any = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "font.size": 10,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "savefig.dpi": 160,
    "svg.hashsalt": "torta",  # the same figure gives the same bytes
}


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw with the settings of this house, whatever the caller's own are."""

    @functools.wraps(draw)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_SETTINGS}):
            return draw(*args, **kwargs)

    return wrapped


def colours(policies: Iterable[str]) -> dict[str, str]:
    """A colour for every policy; those not of this house take the spare ones in turn."""
    chosen: dict[str, str] = {}
    for policy in policies:
        spare = sum(name not in COLOURS for name in chosen)
        chosen[policy] = COLOURS.get(policy, _OTHERS[spare % len(_OTHERS)])
    return chosen


def horizontal(axes: Axes, policies: Iterable[str]) -> None:
    """One row per policy, the first on top, with its name at the left."""
    names = list(policies)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def render(figure: Figure, kind: str) -> bytes:
    """The figure as the bytes of a `png` or `svg` file, free of dates."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(_SETTINGS):
        figure.savefig(buffer, format=kind, metadata=metadata)
    return buffer.getvalue()
