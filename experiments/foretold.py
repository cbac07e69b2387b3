"""How much of the gap to foresight is knowing the rates to come: a network that is told them, by the same training.

    python -m experiments.foretold results/blind/policy.npz results/train/policy.npz

Foresight (`torta_jax.learn.clairvoyant`) knows the counts of every slot, which nobody can. The network trained here is
told the true rates of the coming slots, with surges and noise, but not the counts that are drawn from them: what it
gains over the network that is not told is what a perfect forecast is worth, or less, as the plan and Eq 6 beneath still
expect what smoothing foretells. Beside it a script that knows all rates, from the first slot to the last, but no luck:
optimised in other draws of counts, lane times and who is found when a slot begins than those in which all are judged,
another in every step. Written down beforehand, it cannot answer what it sees; the network can. And the script of
foresight itself, played in other luck, against the tuned numbers in the same: what it gains less there was luck that
nobody can foretell. Unseen clusters, in the fluid model.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

from experiments import answer, asked, generalise
from experiments.intervals import relative, share_of_gap, with_interval
from torta_jax import schedulers
from torta_jax.errors import require
from torta_jax.learn import clairvoyant, pathwise, train
from torta_jax.learn.recipes import KINDS
from torta_jax.schedulers.features import LIMIT, NUM_FEATURES, features
from torta_jax.schedulers.learned import NETWORK, Learned
from torta_jax.sim import fluid
from torta_jax.sim.env import Objective
from torta_jax.sim.slot import World
from torta_jax.sim.state import Physics
from torta_jax.types import numbers
from torta_jax.workload import draws

ELSEWHERE = "the same script, in other luck"

AHEAD = 4
"""Slots whose rates are told, the coming one first: as many as the longest cold start."""

UNSEEN = 1_000_007
"""Keys of the worlds to judge on are folded from this number."""


LUCKS = 8
"""Other draws of luck in which the script of foresight is played."""

RATE = 0.02
"""Of the optimiser of the script that knows no luck: smaller than with it, as slopes differ from draw to draw."""


@dataclass(frozen=True)
class Options:
    """Size of the experiment."""

    files: Annotated[tuple[Path, Path], tyro.conf.Positional]  # of `torta train torta`: blind, and not
    kinds: tuple[generalise.Kind, ...] = ("calm", "hard")  # of random worlds
    updates: int = 400  # of the network that is told
    clusters: int = 16  # to judge on
    steps: int = 150  # of either script's optimiser
    slots: int = 160  # of 45 s each


class Told(Learned):
    """A network that is told what the rates will be."""

    rates: Any = None  # [T, R] tasks per slot, of the world it acts in

    def fresh(self, key: jax.Array) -> Any:
        """Parameters to start learning from."""
        return NETWORK.init(key, jnp.zeros((1, NUM_FEATURES + AHEAD)))

    def correct(self, outlook, surprise, observation) -> jax.Array:
        """What the network makes of the rates to come, and of what others see."""
        seen = features(self.expected(outlook), outlook, surprise, observation)
        coming = jnp.minimum(observation.slot + jnp.arange(AHEAD), len(self.rates) - 1)
        told = self.rates[coming].T / jnp.maximum(observation.capacity(), 1e-6)[:, None]
        seen = jnp.concatenate([seen, jnp.clip(told, 0.0, LIMIT)], axis=-1)
        return jnp.asarray(NETWORK.apply(self.parameters, seen))


def informed(policy: Told, world: World) -> Told:
    """The policy in a world."""
    return policy.replace(rates=world.prepared.rate)


class Learner(pathwise.Learner):
    """Trains a policy that is told."""

    def cost(self, parameters: Any, world: World) -> jax.Array:
        """[] seconds per task."""
        policy = informed(self.policy.replace(parameters=parameters), world)
        return pathwise.cost(world, self.physics, policy, self.objective, self.sizes.num_slots)


def trained(options: Options, tell) -> Told:
    """The network that is told, after training."""
    policy = numbers(Told(**vars(schedulers.get("torta"))))
    learner = Learner(policy, pathwise.Sizes(), tuple(KINDS.values()))
    settings = numbers(pathwise.Numbers(updates=float(options.updates)))
    begin = jax.jit(learner.init)(jax.random.key(0))
    done = train.train(pathwise.by_cores(learner), settings, begin, options.updates, tell=tell)
    return policy.replace(parameters=done.state.parameters)


def objectives(worlds: World, policy: Learned, options: Options) -> np.ndarray:
    """[clusters] seconds per task of a policy in the fluid model."""

    def one(world):
        mine = informed(policy, world) if isinstance(policy, Told) else policy
        return fluid.simulate(world, Physics(), mine, options.slots)[1]

    return generalise.per_world(jax.jit(jax.vmap(one))(worlds))["objective"]


def by_rates(worlds: World, policy: Learned, options: Options) -> np.ndarray:
    """[clusters] seconds per task of a script found in other luck."""

    @jax.jit
    @jax.vmap
    def one(world):
        script, _ = clairvoyant.optimise(world, policy, options.slots, steps=options.steps, rate=RATE, luck=False)
        return fluid.simulate(world, Physics(), script, options.slots)[1]

    return np.concatenate(
        [generalise.per_world(one(some))["objective"] for some in generalise.batches(worlds, options.clusters)]
    )


def by_foresight(worlds: World, policy: Learned, blind: Learned, options: Options) -> tuple[np.ndarray, ...]:
    """[clusters] seconds per task of foresight's script, the same in other luck, and of `blind` in that luck."""

    @jax.jit
    @jax.vmap
    def one(world):
        script, costs = clairvoyant.optimise(world, policy, options.slots, steps=options.steps)

        def elsewhere(number, policy):
            other = world.replace(key=draws.fold(world.key, clairvoyant.OTHER_LUCK, number))
            return pathwise.cost(other, Physics(), policy, Objective(), options.slots)

        in_all = jax.vmap(elsewhere, (0, None))
        return jnp.nanmin(costs), *(in_all(jnp.arange(LUCKS), policy).mean() for policy in (script, blind))

    parts = [one(some) for some in generalise.batches(worlds, options.clusters)]
    return tuple(np.concatenate(each) for each in zip(*parts, strict=True))


def main() -> None:
    options, console = asked(Options, __doc__), Console(stderr=True, highlight=False)
    generalise.long_enough(options.slots)
    begun = time.perf_counter()

    def tell(done: int, updates: int, _: dict[str, float]) -> None:
        if done % 50 == 0:
            console.print(f"{time.perf_counter() - begun:.0f} s: {done} of {updates} updates")

    blind, learned = (numbers(schedulers.load(path)) for path in options.files)
    right = [isinstance(policy, Learned) and policy.blind for policy in (blind, learned)] == [True, False]
    require(right, "files: of `torta train torta`, the blind one first, then the network")
    policies = {"tuned numbers": blind, "network": learned, "network that is told the rates": trained(options, tell)}
    judged = generalise.Options((), clusters=options.clusters, slots=options.slots, root=UNSEEN)
    for kind in options.kinds:
        worlds = generalise.held_out(judged, KINDS[kind], 12)
        found = {name: objectives(worlds, policy, options) for name, policy in policies.items()}
        found["script that knows the rates"] = by_rates(worlds, learned, options)
        found["foresight"], script, base_elsewhere = by_foresight(worlds, learned, blind, options)
        base = found.pop("tuned numbers")
        gap = base - found["foresight"]
        bases = dict.fromkeys(found, base) | {ELSEWHERE: base_elsewhere}
        found[ELSEWHERE] = script
        shown = Table(title=f"{kind}, {options.clusters} clusters, fluid model")
        for column in ("policy", "objective", "difference %", "of gap %"):
            shown.add_column(column, justify="left" if column == "policy" else "right")
        shown.add_row("tuned numbers", f"{base.mean():.2f}")
        for name, values in found.items():
            gain = with_interval(relative(values, bases[name])[None])
            shown.add_row(name, f"{values.mean():.2f}", gain, share_of_gap((bases[name] - values)[None], gap))
        Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(shown)


if __name__ == "__main__":
    answer(main)
