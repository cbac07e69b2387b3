"""What a trace holds, at a glance: `torta trace check` prints it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from torta_jax.workload.table import TraceTable, read

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
MAX_WINDOWS = 10**7


@dataclass(frozen=True)
class Report:
    """A readable trace in numbers. Rates count whole windows of `slot_s` seconds only."""

    source: str
    rows: int
    span_s: float
    slot_s: float
    rate_mean: float  # requests per window; NaN if the trace is shorter than one
    rate_min: int
    rate_max: int
    dispersion: float  # variance over mean of the requests per window; 1 for a Poisson process, NaN below two
    input_tokens: dict[float, float]  # quantile -> tokens
    output_tokens: dict[float, float]
    models: tuple[str, ...]
    regions: tuple[str, ...]
    problems: tuple[str, ...]  # what is allowed, but worth knowing

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {self.rows} requests in {self.span_s / 60:.1f} min",
            f"requests per {self.slot_s:g} s: mean {self.rate_mean:.1f}, {self.rate_min} to {self.rate_max}, "
            f"index of dispersion {self.dispersion:.1f}",
            f"input tokens:  {_line(self.input_tokens)}",
            f"output tokens: {_line(self.output_tokens)}",
            f"models: {', '.join(self.models) or 'none named'}",
            f"regions: {', '.join(self.regions) or 'none named'}",
            *(f"note: {problem}" for problem in self.problems),
        ]
        return "\n".join(lines)


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
        rate_min=int(rate.min(initial=len(table))),
        rate_max=int(rate.max(initial=0)),
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
    empty = (rate == 0).sum()
    notes = {
        f"shorter than one slot of {slot_s:g} s": table.time_s[-1] < slot_s,
        f"more than {MAX_WINDOWS} slots of {slot_s:g} s: no rate": table.time_s[-1] >= slot_s * MAX_WINDOWS,
        f"{empty} of {len(rate)} slots of {slot_s:g} s are empty": empty > 0,
        f"{no_input} requests have no input tokens": no_input > 0,
        f"{no_output} requests have no output tokens": no_output > 0,
        "all requests arrive at the same time": len(table) > 1 and table.time_s[-1] == 0,
    }
    return tuple(note for note, holds in notes.items() if holds)
