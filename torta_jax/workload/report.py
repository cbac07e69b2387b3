"""What a trace holds, at a glance: `torta trace check` prints it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torta_jax.workload.models import MODELS, stand_ins
from torta_jax.workload.synthetic import MAX_TASKS
from torta_jax.workload.table import TraceTable, read

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
MAX_WINDOWS = 10**7
LONG_GAP_S = 3600.0


@dataclass(frozen=True)
class Report:
    """A readable trace in numbers. Rates count whole windows of `slot_s` seconds only."""

    source: str
    rows: int
    span_s: float
    slot_s: float
    rate_mean: float  # requests per window; NaN without a window
    rate_min: float
    rate_max: float
    dispersion: float  # variance over mean of the requests per window; 1 for a Poisson process, NaN below two
    input_tokens: dict[float, float]  # quantile -> tokens
    output_tokens: dict[float, float]
    models: tuple[str, ...]
    regions: tuple[str, ...]
    problems: tuple[str, ...]  # what is allowed, but worth knowing

    def __str__(self) -> str:
        requests = "1 request" if self.rows == 1 else f"{self.rows} requests"
        span = f"{self.span_s / 60:.1f} min" if self.span_s >= 60 else f"{self.span_s:.3g} s"
        lines = [
            f"{self.source}: {requests} in {span}",
            f"requests per {self.slot_s:g} s: {self._rates()}",
            f"input tokens:  {_line(self.input_tokens)}",
            f"output tokens: {_line(self.output_tokens)}",
            f"models: {', '.join(self.models) or 'none named, a replay draws them'}",
            f"regions: {', '.join(self.regions) or 'none named, a replay draws them'}",
            *(f"note: {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)

    def _rates(self) -> str:
        if np.isnan(self.rate_mean):
            return "no rate, " + ("shorter than one window" if self.span_s < self.slot_s else "too many windows")
        spread = "" if np.isnan(self.dispersion) else f", index of dispersion {self.dispersion:.1f}"
        return f"mean {self.rate_mean:.1f}, {self.rate_min:.0f} to {self.rate_max:.0f}{spread}"


def check(path: str | Path, slot_s: float = 45.0) -> Report:
    """Reads and measures a trace.

    Raises:
        InputError: if it cannot be read; see `table.read`.
    """
    return measure(read(path), slot_s)


def measure(table: TraceTable, slot_s: float = 45.0) -> Report:
    """The report on a table that has been read."""
    span_s = float(table.time_s[-1])
    rate = _rate(table.time_s, slot_s)
    return Report(
        source=table.source,
        rows=len(table),
        span_s=span_s,
        slot_s=slot_s,
        rate_mean=float(rate.mean()) if len(rate) else np.nan,
        rate_min=float(rate.min()) if len(rate) else np.nan,
        rate_max=float(rate.max()) if len(rate) else np.nan,
        dispersion=float(rate.var(ddof=1) / rate.mean()) if len(rate) > 1 else np.nan,
        input_tokens=_quantiles(table.input_tokens),
        output_tokens=_quantiles(table.output_tokens),
        models=table.models,
        regions=table.regions,
        problems=_problems(table, rate, slot_s),
    )


def _rate(time_s: np.ndarray, slot_s: float) -> np.ndarray:
    """Requests in each whole window; none if there are more than ten million windows."""
    window = time_s // slot_s
    whole = int(window[-1])
    if whole > MAX_WINDOWS:
        return np.zeros(0, int)
    return np.bincount(window[window < whole].astype(int), minlength=whole)


def _quantiles(tokens: np.ndarray) -> dict[float, float]:
    return dict(zip(QUANTILES, np.quantile(tokens, QUANTILES).tolist(), strict=True))


def _line(quantiles: dict[float, float]) -> str:
    return "  ".join(f"p{100 * q:g} {value:.0f}" for q, value in quantiles.items())


def _problems(table: TraceTable, rate: np.ndarray, slot_s: float) -> tuple[str, ...]:
    no_input, no_output = (table.input_tokens == 0).sum(), (table.output_tokens == 0).sum()
    busiest = int(np.unique(table.time_s // slot_s, return_counts=True)[1].max())
    empty, named = (rate == 0).sum(), len(table.models)
    gap_s = float(np.diff(table.time_s).max(initial=0.0))
    notes = {
        f"for {gap_s / 3600:.1f} h no request comes": gap_s >= LONG_GAP_S,
        f"{empty} of {len(rate)} slots of {slot_s:g} s are empty": empty > 0,
        f"requests without input tokens: {no_input}": no_input > 0,
        f"requests without output tokens: {no_output}": no_output > 0,
        f"a slot holds {busiest} requests, `torta compare` takes at most {MAX_TASKS}": busiest > MAX_TASKS,
        "all requests arrive at the same time": len(table) > 1 and table.time_s[-1] == 0,
        f"{named} models are named, `torta compare` takes at most {len(MODELS)}": named > len(MODELS),
        stand_ins(table.models): 0 < named <= len(MODELS),
    }
    return tuple(note for note, holds in notes.items() if holds)
