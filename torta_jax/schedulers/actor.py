"""`torta-paper` with its learned matrix: the paper's networks and heads on the state of Section V-B2."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.schedulers.heads import Anchor, Head
from torta_jax.schedulers.networks import ActorCritic
from torta_jax.schedulers.rules import Outlook, Rules
from torta_jax.sim.observe import Observation
from torta_jax.types import Cluster

PAST = 5
"""K of the paper: slots of utilisation, queue and arrivals that are remembered."""


class Memory(Outlook):
    """An outlook, the last slots, and the plan of optimal transport that the matrix was held against."""

    past: jax.Array = struct.field(default=None)  # [PAST, R, 3] utilisation, waiting and arrivals over capacity
    plan: jax.Array = struct.field(default=None)  # [R, R]


class Actor(Rules):
    """Rules whose routing matrix is a network's; everything else is as it was."""

    parameters: Any = None  # of `network`
    head: Head = struct.field(pytree_node=False, default=None)
    latent: Any = None  # [R, D] what an agent from outside has drawn, in place of the network's mean

    def init(self, cluster: Cluster) -> Memory:
        """Nothing seen yet."""
        regions = cluster.num_regions
        outlook = super().init(cluster)
        return Memory(**vars(outlook), past=jnp.zeros((PAST, regions, 3)), plan=jnp.eye(regions))

    def route(self, state: Memory, observation: Observation) -> tuple[Memory, jax.Array]:
        """Remember the slot, make the plan, and the matrix of the network or of `latent`."""
        state = self.remember(state, observation)
        state = state.replace(plan=self.transport_matrix(state, observation))
        latent = self.latent
        if latent is None:
            raw, _ = network(self.head, state.plan.shape[0]).apply(self.parameters, features(self, state, observation))
            latent = self.head.mean(raw)
        matrix = self.head.matrix(latent, Anchor(state.plan, observation.matrix))
        return state, jnp.where(observation.slot > 0, matrix, state.plan)

    def remember(self, state: Memory, observation: Observation) -> Memory:
        """The state with what the last slot has shown."""
        capacity = jnp.maximum(observation.capacity(), 1e-6)
        seen = (observation.utilisation, observation.waiting / capacity, observation.arrivals / capacity)
        past = jnp.concatenate([jnp.stack(seen, axis=-1)[None], state.past[:-1]])
        outlook = self.look_ahead(state, observation)
        return Memory(**vars(outlook), past=past, plan=state.plan)


def network(head: Head, regions: int) -> ActorCritic:
    """The paper's networks for a head."""
    return ActorCritic(regions, head.num_raw(regions))


def features(policy: Actor, state: Memory, observation: Observation) -> jax.Array:
    """[3·PAST·R + R + 2R²] the state (U, Q, H, F, L, A_prev) of Section V-B2, each about one in size."""
    capacity = jnp.maximum(observation.capacity(), 1e-6)
    latency = observation.cluster.latency_s / jnp.maximum(observation.cluster.latency_s.mean(), 1e-9)
    parts = (state.past, policy.expected(state) / capacity, latency, observation.matrix)
    return jnp.concatenate([jnp.clip(part, -10, 10).ravel() for part in parts])
