"""The paper's theory (Appendix A) held against the simulator: K0 of every method, and the condition and bound of Th. 3.

    python -m experiments.theory

Task model, the paper's four topologies, the hours and load of every other experiment. All of TORTA's rows, and those of
other matrices, have the forecast and the micro layer of the trained policy: they differ in the matrix alone. L_R and
L_P are the largest finite differences found in the fluid model. docs/theory.md says what follows.
"""

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from rich.console import Console
from rich.table import Table

from experiments import answer, asked
from experiments.intervals import with_interval
from torta_jax import cluster as clusters
from torta_jax import schedulers, workload
from torta_jax.errors import require
from torta_jax.evaluate.rollout import world_keys
from torta_jax.learn import constraints, routing
from torta_jax.learn.recipes import DAY
from torta_jax.schedulers import trained
from torta_jax.schedulers.actor import Actor
from torta_jax.schedulers.heads import Gate
from torta_jax.schedulers.rules import PLANS
from torta_jax.sim.env import Objective
from torta_jax.sim.simulate import start
from torta_jax.sim.slot import make_world, run_slot
from torta_jax.sim.state import Physics
from torta_jax.types import Cluster, numbers
from torta_jax.workload import draws

SKIPPED = 20
"""Slots at the start: every server is on, and the first plans are made of guesses."""

MEMORYLESS = ("round-robin", "skylb", "sdib", "reactive-ot")
STAY, EVEN, CAPACITATED = "matrix: stay", "matrix: even", "matrix: capacitated"
PLAN, CLOSED, TRAINED = "plan of each slot", "closed form", "trained"


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    topologies: tuple[str, ...] = trained.TOPOLOGIES  # of the paper
    seeds: int = 8  # worlds, the same for every policy
    slots: int = 480  # of 45 s each
    probes: int = 64  # states in which L_R and L_P are measured


class Given(NamedTuple):
    """A head whose matrix is what it is given."""

    def matrix(self, latent, anchor):
        del anchor
        return latent


class Course(NamedTuple):
    """What a policy did, [seeds, T, ...]."""

    matrix: Any  # [.., R, R] asked for
    shares: Any  # [.., R, R] realised
    plan: Any  # [.., R, R] of optimal transport, where the policy makes one
    cost: Any  # [..] seconds per task, R + β·PC: response of those that were served, power of all
    dropped: Any  # [..] tasks, and those that arrived
    arrived: Any


def policies(topology: str, cluster: Cluster) -> dict[str, Any]:
    """Methods without memory; with one forecast and micro layer other matrices, the plan, the closed form, the trained
    policy."""
    regions, learned = cluster.num_regions, schedulers.get(f"torta-paper-{topology}")
    assert isinstance(learned, Actor)
    limited = learned.replace(transport=learned.transport.replace(plan=PLANS.index("capacitated")))
    gate = Gate(smoothing=routing.Reward().switching)  # Eq 3's optimum of one step
    return {
        **{name: schedulers.get(name) for name in MEMORYLESS},
        STAY: learned.replace(head=Given(), latent=jnp.eye(regions)),
        EVEN: learned.replace(head=Given(), latent=jnp.full((regions, regions), 1 / regions)),
        CAPACITATED: routing.by_plan(limited),
        PLAN: routing.by_plan(learned),
        CLOSED: learned.replace(head=gate, latent=jnp.zeros((regions, 2))),
        TRAINED: learned,
    }


def play(cluster: Cluster, policy: Any, options: Options) -> Course:
    """A policy in the worlds of all seeds."""
    scenario = workload.calm(options.slots, cluster.num_regions)
    arrivals = workload.Synthetic.create()
    physics = Physics().sized(cluster, arrivals.max_tasks)
    charged = Objective(warmup_weight=0.0, switching_weight=0.0, drop_charge_s=0.0)

    @jax.jit
    def run(keys, policy):
        def one(key):
            world = make_world(cluster, arrivals, scenario, key, options.slots, physics.slot_s)

            def step(run, _):
                state, totals, metrics, _ = run_slot(world, physics, policy, *run, axis_name="clusters")
                plan = getattr(state.policy, "plan", state.matrix)
                lost, come = metrics.dropped.sum(), metrics.arrived
                return (state, totals), Course(
                    state.matrix, state.observed.shares, plan, charged.cost(metrics), lost, come
                )

            begun = start(world, physics, policy)
            return lax.scan(step, (begun.state, begun.totals), None, options.slots)[1]

        return jax.vmap(one, axis_name="clusters")(keys)

    course = run(world_keys(range(options.seeds)), numbers(policy))
    return Course(*(np.asarray(x)[:, SKIPPED:] for x in course))


def switching(matrix: np.ndarray) -> float:
    """E||A_t - A_{t-1}||_F² of [seeds, T, R, R]."""
    return float(per_seed(matrix).mean())


def per_seed(matrix: np.ndarray) -> np.ndarray:
    """[seeds] the same."""
    return (np.diff(matrix, axis=1) ** 2).sum(axis=(2, 3)).mean(axis=1)


def twice_variance(matrix: np.ndarray) -> float:
    """2·Var(A), which Th. 2 says is the same for a method without memory."""
    return float(2 * matrix.var(axis=1).sum(axis=(1, 2)).mean())


def norm(matrix: np.ndarray) -> np.ndarray:
    return np.sqrt((matrix**2).sum(axis=(-2, -1)))


def slopes(cluster: Cluster, learned: Actor, options: Options) -> constraints.Slopes:
    """L_R and L_P in states along the day."""
    day = workload.calm(DAY, cluster.num_regions)
    params = numbers(routing.Params(cluster, workload.Synthetic.create(), day, learned))
    keys = draws.fold_each(jax.random.key(7), jnp.arange(options.probes))
    _, states = jax.jit(jax.vmap(routing.Routing().reset, in_axes=(0, None)))(keys, params)
    return jax.jit(constraints.lipschitz)(states, params)


def methods(topology: str, courses: Mapping[str, Course]) -> Table:
    """K0 of every method, and what Th. 1 and Th. 2 say of it."""
    shown = Table(title=f"{topology}: switching of every method, per slot")
    for column in (
        "method",
        "asked",
        "2·Var",
        "realised",
        "2·Var ",
        "R + β·PC, s per task",
        "drops %",
        "with drops and α·switching",
    ):
        shown.add_column(column, justify="left" if column == "method" else "right")
    alpha, charge = Objective().switching_weight, Objective().drop_charge_s
    for name, course in courses.items():
        cells = [f(part) for part in (course.matrix, course.shares) for f in (switching, twice_variance)]
        cost, lost = float(course.cost.mean()), course.dropped.sum() / course.arrived.sum()
        asked = cells[0] if name not in ("skylb", "sdib") else cells[2]  # these decide task by task, not by a matrix
        whole = cost + charge * lost + alpha * asked
        shown.add_row(name, *(f"{x:.4f}" for x in cells), f"{cost:.3f}", f"{100 * lost:.2f}", f"{whole:.3f}")
    return shown


def theorem_3(topology: str, courses: Mapping[str, Course], found: constraints.Slopes) -> Table:
    """Condition and bound for the closed form and the trained policy, against the plan of each slot."""
    shown = Table(title=f"{topology}: Theorem 3, L_R = {found.response_s:.2f} s, L_P = {1e6 * found.power_usd:.1f} µ$")
    measures = ("K0", "s", "ε", "largest", "(1-1/s)/ε", "L/(α·K0)", "holds", "holds from α", "measured", "bound")
    for column in ("policy", *measures):
        shown.add_column(column, justify="left" if column == "policy" else "right")
    objective, base = Objective(), courses[PLAN]
    slope = float(found.response_s + objective.power_s_per_usd * found.power_usd)
    k0, alpha = switching(base.matrix), objective.switching_weight
    paid = {name: courses[name].cost.mean(axis=1) + alpha * per_seed(courses[name].matrix) for name in courses}
    for name in (CLOSED, TRAINED):
        course = courses[name]
        moved, apart = switching(course.matrix), norm(course.matrix - course.plan)
        s, epsilon = k0 / moved, float(apart.mean())
        left, right = (1 - 1 / s) / epsilon, slope / (alpha * k0)
        least = f"{slope / (k0 * left):.2f}" if left > 0 else "none"
        bound = slope * epsilon - alpha * k0 * (1 - 1 / s)
        shown.add_row(
            *(name, f"{k0:.4f}", f"{s:.2f}", f"{epsilon:.3f}", f"{apart.max():.3f}", f"{left:.1f}", f"{right:.0f}"),
            *(
                "yes" if left > right else "no",
                least,
                with_interval((paid[name] - paid[PLAN])[None], "+.3f"),
                f"{bound:+.3f}",
            ),
        )
    return shown


def main() -> None:
    options, console = asked(Options, __doc__), Console(stderr=True, highlight=False)
    require(options.slots > SKIPPED + 1, f"--slots = {options.slots}: more than {SKIPPED + 1} are needed")
    out = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for topology in options.topologies:
        cluster, courses = clusters.build(clusters.load(topology)), {}
        every = policies(topology, cluster)
        for name, policy in every.items():
            begun = time.perf_counter()
            courses[name] = play(cluster, policy, options)
            console.print(f"{topology}: {name}, {time.perf_counter() - begun:.0f} s")
        found = slopes(cluster, every[TRAINED], options)
        out.print(methods(topology, courses))
        out.print(theorem_3(topology, courses, found))


if __name__ == "__main__":
    answer(main)
