"""The paper's policy with every head, trained with one budget: Eq 3 and the targets of Eq 5 on days it has not seen.

    for head in beta dirichlet logistic-normal ot-residual gate; do
        torta train torta-paper --head $head --updates 300 --out results/head-$head; done
    python -m experiments.paper_heads results/head-*/policy.npz

Fluid model, Abilene, the policies without luck, beside the plan of each slot and the closed form of Eq 3's optimum.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import tyro
from jax import lax
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, short_names
from torta_jax import cluster as clusters
from torta_jax import schedulers, workload
from torta_jax.errors import InputError
from torta_jax.learn import routing
from torta_jax.learn.recipes import DAY
from torta_jax.schedulers.actor import Actor
from torta_jax.schedulers.heads import Gate
from torta_jax.sim import fluid
from torta_jax.sim.slot import check_policy
from torta_jax.types import numbers
from torta_jax.workload import draws

HELD_OUT = 1_000_003


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()  # of `torta train torta-paper`
    topology: str = "abilene"  # that the policies are made for
    episodes: int = 64  # of held-out days
    slots: int = 60  # of 45 s each


def measure(policy: Actor, params: routing.Params, episodes: int) -> dict[str, float]:
    """Means over some episodes: the reward of Eq 3 and its parts."""

    def one(key):
        _, state = routing.Routing().reset(key, params)

        def step(flows, _):
            after, _ = fluid.run_slot(state.world, params.physics, policy, flows)
            plan, matrix = after.policy.plan, after.matrix
            squares = [(x**2).sum() for x in (matrix - plan, matrix - flows.matrix, plan - flows.policy.plan)]
            return after, (*squares, routing.queue_share(after, params))

        return lax.scan(step, state.flows, None, params.length)[1]

    keys = draws.fold_each(jax.random.key(HELD_OUT), jnp.arange(episodes))
    apart, moved, k0, queue = jax.jit(jax.vmap(one))(keys)
    weights = params.reward
    return {
        "reward": float((-apart - weights.switching * moved - weights.queue * queue).mean()),
        "deviation": float(jnp.sqrt(apart).mean()),
        "largest": float(jnp.sqrt(apart).max()),
        "s": float(k0.mean() / moved.mean()),
        "queue": float(queue.mean()),
    }


def main() -> None:
    options = asked(Options, __doc__, ("files",))
    cluster = clusters.build(clusters.load(options.topology))
    day = workload.calm(DAY, cluster.num_regions)
    closed = Actor(**vars(schedulers.get("torta-paper")), head=Gate(), latent=jnp.zeros((cluster.num_regions, 2)))
    policies = {"plan of each slot": routing.by_plan(closed), "closed form": closed}
    for name, path in zip(short_names(options.files, policies), options.files, strict=True):
        policy = schedulers.load(path)
        if not isinstance(policy, Actor):
            raise InputError(f"{path}: not a policy of `torta train torta-paper`")
        check_policy(policy, str(path), cluster.num_regions)
        policies[name] = policy
    shown = Table(title=f"{options.topology}: Eq 3 and Eq 5 without luck")
    shown.add_column("policy")
    for column in ("reward", "E‖A − P*‖", "largest", "s", "queue"):
        shown.add_column(column, justify="right")
    for name, policy in policies.items():
        params = numbers(routing.Params(cluster, workload.Synthetic.create(), day, policy, length=options.slots))
        found = measure(params.policy, params, options.episodes)
        digits = {"reward": 4, "s": 2, "queue": 4}
        shown.add_row(name, *(f"{value:.{digits.get(key, 3)}f}" for key, value in found.items()))
    Console(width=None if sys.stdout.isatty() else 100, highlight=False).print(shown)


if __name__ == "__main__":
    answer(main)
