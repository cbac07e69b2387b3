"""What arrives: synthetic demand, recorded traces, and what happens to the world."""

from torta_jax.workload.base import Workload
from torta_jax.workload.report import Report, check
from torta_jax.workload.scenario import Failure, PriceShock, Surge, calm, random_scenario
from torta_jax.workload.synthetic import Synthetic
from torta_jax.workload.table import TraceTable, read
from torta_jax.workload.trace import Trace

__all__ = [
    "Failure",
    "PriceShock",
    "Report",
    "Surge",
    "Synthetic",
    "Trace",
    "TraceTable",
    "Workload",
    "calm",
    "check",
    "random_scenario",
    "read",
]
