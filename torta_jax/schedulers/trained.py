"""Policies with a network: from the files of `torta train`, of which some come with the package."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from torta_jax.errors import InputError, require, unknown
from torta_jax.schedulers import heads, networks
from torta_jax.schedulers.actor import Actor, num_features, policy_network
from torta_jax.schedulers.features import NUM_FEATURES
from torta_jax.schedulers.learned import NETWORK, VERSION, Learned
from torta_jax.schedulers.policy_file import unpack
from torta_jax.schedulers.rules import Rules
from torta_jax.schedulers.torta import torta, torta_paper
from torta_jax.schedulers.tuned import with_numbers

WEIGHTS = Path(__file__).with_name("weights")

POLICY = "policy.npz"
"""What `torta train` calls the file, in its directory."""

TOPOLOGIES = ("abilene", "polska", "gabriel", "cost2")
"""Those of the paper, each with weights of its own: the paper's networks are made for one number of regions."""


def load(path: str | Path) -> Rules:
    """The policy of a file that `torta train` wrote.

    Raises:
        InputError: the file cannot be read, is damaged, or holds another network than this version's.
    """
    usual = Path(path) / POLICY
    require(not usual.is_file(), f"{path}: is a directory; its policy is {usual}")
    parameters, facts = unpack(path)
    kind = facts.get("policy")
    if kind not in MAKERS:
        raise unknown(f"policy in {path}", str(kind), MAKERS)
    missing = [name for name in NEEDED[kind] if name not in facts]
    require(not missing, f"{path}: a policy file that says nothing of its {', '.join(missing)}")
    make, wanted = MAKERS[kind](path, facts)
    shapes = jax.tree.map(lambda x: x.shape, parameters)
    right = shapes == jax.tree.map(lambda x: x.shape, wanted)
    require(right, f"{path}: not a network of this version's {kind} (its arrays have other names or shapes)")
    good = all(np.issubdtype(x.dtype, np.floating) and np.isfinite(x).all() for x in jax.tree.leaves(parameters))
    require(good, f"{path}: weights that are not finite numbers")
    return make(jax.tree.map(lambda x: jnp.asarray(x, float), parameters))


def _torta(path: str | Path, facts: dict[str, Any]):
    version, blind = facts.get("network"), facts.get("blind", False)
    require(version == VERSION, f"{path}: a network of version {version}, this program has {VERSION}")
    require(isinstance(blind, bool), f"{path}: blind = {blind!r}, true or false is needed")
    wanted = jax.eval_shape(NETWORK.init, jax.random.key(0), jnp.zeros((1, NUM_FEATURES)))
    base = _renumbered(path, torta(), facts.get("numbers", {}))
    return lambda found: Learned(**vars(base), parameters=found, blind=blind), wanted


def _renumbered(path: str | Path, policy: Rules, new: Any) -> Rules:
    """The policy with the numbers of a file, which must be some that it has."""
    try:
        made = with_numbers(policy, new)
    except (AttributeError, TypeError) as error:
        raise InputError(f"{path}: numbers that the policy does not have") from error
    leaves, same = jax.tree.leaves(made), jax.tree.structure(made) == jax.tree.structure(policy)
    good = same and all(isinstance(x, int | float) and not math.isnan(x) for x in leaves)
    require(good, f"{path}: numbers that the policy does not have")
    return made


def _torta_paper(path: str | Path, facts: dict[str, Any]):
    head, regions = heads.get(facts["head"]), facts["regions"]
    good = isinstance(regions, int) and 0 < regions <= 1024
    require(good, f"{path}: regions = {regions!r}, a whole number up to 1024 is needed")
    base = _renumbered(path, torta_paper(), facts.get("numbers", {}))
    key, past = jax.random.key(0), jnp.zeros((networks.PAST, regions, 3))
    wanted = {
        "network": jax.eval_shape(policy_network(head, regions).init, key, jnp.zeros(num_features(regions))),
        "predictor": jax.eval_shape(networks.Shares().init, key, past),
    }

    def make(found: dict[str, Any]) -> Actor:
        parts = {"parameters": found["network"], "predictor": found["predictor"]}
        return Actor(**vars(base), **parts, head=head, num_regions=regions)

    return make, wanted


MAKERS: dict[str, Callable[[str | Path, dict[str, Any]], Any]] = {"torta": _torta, "torta-paper": _torta_paper}
"""Of a file's facts: what makes a policy of its parameters, and the shapes those must have."""

NEEDED = {"torta": (), "torta-paper": ("head", "regions")}
"""Facts that a file must have."""

LEARNED: dict[str, Callable[[], Rules]] = {"torta-learned": partial(load, WEIGHTS / "torta.npz")}
LEARNED |= {f"torta-paper-{name}": partial(load, WEIGHTS / f"torta-paper-{name}.npz") for name in TOPOLOGIES}
"""Policies whose weights come with the package; each compiles once more. A file says how it was trained
(`policy_file.unpack`): by `torta train` with these options; `numbers` are the tuned ones beneath the network."""
