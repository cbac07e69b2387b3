"""What is trained, on what, and from where: the choices behind the policies that come with the package."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from torta_jax import schedulers
from torta_jax.errors import unknown
from torta_jax.learn import pathwise, worlds
from torta_jax.schedulers.learned import FEATURES, NETWORK, Learned
from torta_jax.types import numbers

KINDS = {"calm": worlds.CALM, "hard": worlds.HARD}


def torta(
    *, worlds: int, slots: int, regions: int, servers: int, kinds: Sequence[str], seed: int, blind: bool = False
) -> tuple[pathwise.Learner, Any]:
    """The learner of `torta`'s network, and the parameters it starts from: those of hardly any correction.

    Args:
        blind: the network sees nothing, so that it can but tune numbers that are the same everywhere: the yardstick.

    Raises:
        InputError: for an unknown kind of world, with the nearest one.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("kind of world", kind, KINDS)
    parameters = NETWORK.init(jax.random.key(seed), jnp.zeros((regions, FEATURES)))
    policy = numbers(Learned(**vars(schedulers.get("torta")), parameters=parameters, blind=blind))
    sizes = pathwise.Sizes(num_worlds=worlds, num_slots=slots, num_regions=regions, num_servers=servers)
    return pathwise.Learner(policy, sizes, tuple(KINDS[kind] for kind in kinds)), parameters
