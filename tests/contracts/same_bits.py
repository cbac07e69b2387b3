"""Runs every policy in the same worlds and prints a digest of each seed's result; run it as a program.

usage: python -m tests.contracts.same_bits INFORMATION SEEDS...
"""

import hashlib
import json
import sys

import jax
import numpy as np

from tests.references.worlds import Size, random_world
from torta_jax import schedulers
from torta_jax.evaluate.rollout import evaluate

SIZE = Size(regions=5, servers=7, lanes=2, slots=12, max_tasks=160, carry_tasks=200, region_tasks=80, embedding=6)


def digests(information: str, seeds, names=schedulers.NAMES) -> dict[str, list[str]]:
    """Of each policy and seed, a digest of every number in its `Episode`."""
    cluster, workload, scenario, physics = jax.jit(random_world, static_argnums=1)(jax.random.key(5), SIZE)
    policies = {name: schedulers.get(name) for name in names}
    episodes = evaluate(
        cluster, workload, scenario, policies, seeds, SIZE.slots, physics=physics, information=information
    )

    def digest(episode, row):
        leaves = [np.ascontiguousarray(leaf[row]) for leaf in jax.tree.leaves(episode)]
        return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()

    return {name: [digest(episode, row) for row in range(len(seeds))] for name, episode in episodes.items()}


if __name__ == "__main__":
    result = {"devices": jax.device_count(), "digests": digests(sys.argv[1], [int(seed) for seed in sys.argv[2:]])}
    print(json.dumps(result))
