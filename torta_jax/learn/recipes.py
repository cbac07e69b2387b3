"""What is trained, on what, and from where: the choices behind the policies that come with the package."""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from torta_jax import cluster as clusters
from torta_jax import schedulers, workload
from torta_jax.calibration import CALIBRATED
from torta_jax.errors import require, unknown
from torta_jax.learn import constraints, pathwise, ppo, predictor, routing, worlds
from torta_jax.schedulers import heads
from torta_jax.schedulers.actor import Actor
from torta_jax.schedulers.learned import VERSION, Learned
from torta_jax.schedulers.tuned import TUNED
from torta_jax.sim.env import Objective
from torta_jax.types import numbers

KINDS = {"calm": worlds.CALM, "hard": worlds.HARD, "light": worlds.LIGHT}

DAY = 1920
"""Slots of 45 s; the paper's policy learns at any hour."""

EPISODE_UPDATES = 2
"""Rollouts that make an episode of `torta_paper`."""

RECORDING, PREDICTOR = range(6, 8)
"""Streams of random numbers, beside those of `ppo`."""


Update = Callable[[Any, Any], tuple[Any, dict[str, jax.Array]]]
"""(state, numbers) -> state, what to log."""


class Recipe(NamedTuple):
    """A training that can begin."""

    learner: Any  # `init(key) -> state`, `update(state, numbers) -> state, log`; pure
    update: Update  # the learner's, compiled, on all that the machine has
    numbers: Any
    learned: Callable[[Any], Any]  # of a state, what a policy file holds
    facts: dict[str, Any]  # what it must know to make a policy of that


def known(kinds: Sequence[str]) -> None:
    """Raise `InputError` for an unknown kind of world, with the nearest one."""
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of world", kind, KINDS)


def torta(
    *,
    updates: int,
    worlds: int,
    slots: int,
    regions: int,
    servers: int,
    kinds: Sequence[str],
    learning_rate: float,
    warmup_weight: float = Objective().warmup_weight,
    blind: bool = False,
) -> Recipe:
    """The network of `torta`, from hardly any correction.

    Args:
        updates: over which the learning rate decays.
        warmup_weight: of the starts of servers in what is made small, see `Objective`.
        blind: the network sees nothing, so that it can but tune numbers that are the same everywhere: the yardstick.

    Raises:
        InputError: for an unknown kind of world, with the nearest one.
    """
    known(kinds)
    policy = numbers(Learned(**vars(schedulers.get("torta")), blind=blind))
    sizes = pathwise.Sizes(num_worlds=worlds, num_slots=slots, num_regions=regions, num_servers=servers)
    objective = Objective(warmup_weight=warmup_weight)
    learner = pathwise.Learner(policy, sizes, tuple(KINDS[kind] for kind in kinds), objective)
    settings = numbers(pathwise.Numbers(learning_rate=learning_rate, updates=float(updates)))
    facts = {"policy": "torta", "network": VERSION, "blind": blind, "numbers": TUNED["torta"]}
    return Recipe(learner, pathwise.by_cores(learner), settings, lambda state: state.parameters, facts)


def torta_paper(
    *, topology: str, head: str, rule: str, envs: int, steps: int, learning_rate: float, seed: int = 0
) -> Recipe:
    """The paper's actor-critic on one topology at any hour of the day, from a predictor that is trained first.

    Args:
        steps: of every environment per update; two updates are an episode.
        seed: of the predictor and of what it learns from.

    Raises:
        InputError: for an unknown topology, head or rule, with the nearest one, or sizes without equal minibatches.
    """
    shape, sizes = heads.get(head), ppo.Sizes(envs, steps, episode_updates=EPISODE_UPDATES)
    even = envs * steps % sizes.minibatches == 0
    require(even, f"envs = {envs} and steps = {steps}: a product is needed that {sizes.minibatches} divides")
    network = clusters.load(topology)
    cluster = clusters.build(network)
    day = workload.calm(DAY, cluster.num_regions)
    arrivals = workload.Synthetic.create(load=CALIBRATED.load)
    policy = Actor(**vars(schedulers.get("torta-paper")), head=shape, num_regions=cluster.num_regions)
    params = numbers(routing.Params(cluster, arrivals, day, policy, length=EPISODE_UPDATES * steps))
    penalty = constraints.penalty(shape, params, constraints.Targets(), rule)
    key = jax.random.key(seed)
    episodes = jax.jit(predictor.record)(jax.random.fold_in(key, RECORDING), params)
    fit = jax.jit(partial(predictor.fit, predictor.shares_loss, predictor.Shares()))
    foresight, _ = fit(episodes, jax.random.fold_in(key, PREDICTOR))
    params = params.replace(policy=params.policy.replace(predictor=foresight))
    learner = ppo.Learner(routing.Routing(), params, routing.network(params), shape, sizes, penalty)
    settings = numbers(ppo.Numbers(learning_rate=learning_rate, decay=0.995))

    def learned(state):
        found = {"network": {"params": state.parameters["params"]["policy"]}, "predictor": foresight}
        return jax.tree.map(lambda x: x.astype(jnp.float16), found)  # a million numbers, of which three digits count

    told = hashlib.sha256(b"".join(np.asarray(x).tobytes() for x in jax.tree.leaves(foresight))).hexdigest()
    facts = {"policy": "torta-paper", "head": head, "regions": cluster.num_regions, "predictor": told[:16]}
    facts["numbers"] = TUNED["torta-paper"]
    return Recipe(learner, jax.jit(learner.update), settings, learned, facts)
