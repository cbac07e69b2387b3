"""Batched scheduling and simulation of GPU fleets that serve language models from many regions.

>>> import jax, torta_jax as tj
>>> abilene = tj.cluster.build("abilene")
>>> calm = tj.workload.calm(num_slots=20, num_regions=abilene.num_regions)
>>> run, slots = tj.simulate(
...     abilene, tj.workload.Synthetic.create(), tj.schedulers.get("torta"), jax.random.key(0), scenario=calm
... )
"""

from torta_jax import cluster, schedulers, workload
from torta_jax.errors import InputError
from torta_jax.evaluate.rollout import evaluate
from torta_jax.sim.env import Env, EnvParams, Objective
from torta_jax.sim.simulate import simulate
from torta_jax.sim.state import Physics
from torta_jax.solvers import sinkhorn
from torta_jax.types import KINDS, Cluster, Drop, Phase, Scenario, Status, Tasks

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
    "cluster",
    "evaluate",
    "schedulers",
    "simulate",
    "sinkhorn",
    "workload",
]
