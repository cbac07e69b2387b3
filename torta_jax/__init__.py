"""Batched scheduling and simulation of GPU fleets that serve language models from many regions.

>>> import jax, torta_jax as tj
>>> abilene = tj.cluster.build("abilene")
>>> calm = tj.workload.calm(num_slots=20, num_regions=abilene.num_regions)
>>> run, slots = tj.simulate(
...     abilene, tj.workload.Synthetic.create(), tj.schedulers.get("torta"), jax.random.key(0), scenario=calm
... )
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torta_jax import cluster, schedulers, workload
    from torta_jax.errors import InputError
    from torta_jax.sim.env import Env, EnvParams, Objective
    from torta_jax.sim.simulate import simulate
    from torta_jax.sim.state import Physics
    from torta_jax.solvers import auction, rounding, sinkhorn, soft
    from torta_jax.types import KINDS, Cluster, Drop, Phase, Scenario, Status, Tasks

_MODULES = {name: f"torta_jax.{name}" for name in ("cluster", "schedulers", "workload")}
_MODULES |= {name: f"torta_jax.solvers.{name}" for name in ("auction", "rounding", "sinkhorn", "soft")}
_HOME = {
    "InputError": "errors",
    "Env": "sim.env",
    "EnvParams": "sim.env",
    "Objective": "sim.env",
    "simulate": "sim.simulate",
    "Physics": "sim.state",
    **dict.fromkeys(("KINDS", "Cluster", "Drop", "Phase", "Scenario", "Status", "Tasks"), "types"),
}
"""Where each public name lives. It is imported at its first use: `torta --help` needs no JAX."""

__all__ = [
    "KINDS",
    "Cluster",
    "Drop",
    "Env",
    "EnvParams",
    "InputError",
    "Objective",
    "Phase",
    "Physics",
    "Scenario",
    "Status",
    "Tasks",
    "auction",
    "cluster",
    "rounding",
    "schedulers",
    "simulate",
    "sinkhorn",
    "soft",
    "workload",
]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name in _HOME:
        return getattr(importlib.import_module(f"torta_jax.{_HOME[name]}"), name)
    raise AttributeError(f"module 'torta_jax' has no attribute {name!r}")
