"""Policies: one file each, one protocol, and a table of names."""

from collections.abc import Callable

from torta_jax.errors import unknown
from torta_jax.schedulers.base import Scheduler
from torta_jax.schedulers.learned import Learned
from torta_jax.schedulers.reactive_ot import reactive_hysteresis, reactive_ot
from torta_jax.schedulers.round_robin import round_robin
from torta_jax.schedulers.rules import Rules
from torta_jax.schedulers.sdib import sdib
from torta_jax.schedulers.skylb import skylb, skylb_engineered
from torta_jax.schedulers.torta import torta, torta_paper
from torta_jax.schedulers.trained import LEARNED, load
from torta_jax.sim.observe import Observation

BY_NAME: dict[str, Callable[[], Rules]] = {
    "round-robin": round_robin,
    "skylb": skylb,
    "sdib": sdib,
    "skylb-engineered": skylb_engineered,
    "reactive-ot": reactive_ot,
    "reactive-hysteresis": reactive_hysteresis,
    "torta-paper": torta_paper,
    "torta": torta,
}
NAMES = tuple(BY_NAME)
"""Policies that are numbers alone: one compiled program serves them all."""

COMPARED = (*NAMES, "torta-learned")
"""What `torta compare` runs unless it is asked for others."""


def get(name: str) -> Rules:
    """The policy called `name`.

    Raises:
        InputError: for an unknown name, with the nearest one.
    """
    every = BY_NAME | LEARNED
    if name not in every:
        raise unknown("policy", name, every)
    return every[name]()


__all__ = [
    "BY_NAME",
    "COMPARED",
    "LEARNED",
    "NAMES",
    "Learned",
    "Observation",
    "Rules",
    "Scheduler",
    "get",
    "load",
    "reactive_hysteresis",
    "reactive_ot",
    "round_robin",
    "sdib",
    "skylb",
    "skylb_engineered",
    "torta",
    "torta_paper",
]
