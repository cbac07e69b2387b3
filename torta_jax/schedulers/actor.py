"""`torta-paper` with its learned matrix and forecast: the paper's networks and heads on the state of Section V-B2."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.schedulers.heads import Anchor, Head
from torta_jax.schedulers.networks import HIDDEN, PAST, Perceptron, Shares
from torta_jax.schedulers.rules import UNKNOWN_LOAD, Outlook, Rules
from torta_jax.sim.observe import Observation
from torta_jax.types import Cluster

LIMIT = 10.0
"""Whatever a network is told is within ± this."""


class Memory(Outlook):
    """An outlook, the last slots, what the predictor makes of them, and the plan that the matrix was held against."""

    past: jax.Array = struct.field(default=None)  # [PAST, R, 3] utilisation, waiting and arrivals over capacity
    foreseen: jax.Array = struct.field(default=None)  # [R] F, arrivals of the coming slot by origin
    plan: jax.Array = struct.field(default=None)  # [R, R] of optimal transport, for the counts of the last slot


class Actor(Rules):
    """Rules whose routing matrix is a network's; its forecast is the paper's predictor's, where there is one."""

    parameters: Any = None  # of `policy_network`
    predictor: Any = None  # parameters of `Shares`; without them the forecast is that of `Rules`
    head: Head = struct.field(pytree_node=False, default=None)
    latent: Any = None  # [R, D] what an agent from outside has drawn, in place of the network's mean
    num_regions: int | None = struct.field(pytree_node=False, default=None)  # that the networks are made for

    def init(self, cluster: Cluster) -> Memory:
        """Nothing seen yet."""
        regions = cluster.num_regions
        nothing = jnp.zeros(regions)
        outlook = super().init(cluster)
        past = jnp.zeros((PAST, regions, 3))
        return Memory(**vars(outlook), past=past, foreseen=nothing, plan=jnp.eye(regions))

    def route(self, state: Memory, observation: Observation) -> tuple[Memory, jax.Array]:
        """Remember the slot, make the plan, and the matrix of the network or of `latent`."""
        state = self.remember(state, observation)
        latent = self.latent
        if latent is None:
            regions = state.plan.shape[0]
            network: Any = policy_network(self.head, regions).apply
            raw = network(self.parameters, features(state, observation))
            latent = self.head.mean(raw.reshape(regions, -1))
        matrix = self.head.matrix(latent, Anchor(state.plan, observation.matrix))
        return state, jnp.where(observation.slot > 0, matrix, state.plan)

    def remember(self, state: Memory, observation: Observation) -> Memory:
        """The state with what the last slot has shown, and the plan that a reactive method would follow."""
        capacity = jnp.maximum(observation.capacity(), 1e-6)
        counts = jnp.where(observation.slot == 0, UNKNOWN_LOAD * capacity, observation.arrivals)
        seen = (observation.utilisation, observation.waiting / capacity, counts / capacity)
        # A region that is down has no capacity to measure by: the predictor has never seen such numbers.
        newest = jnp.clip(jnp.stack(seen, axis=-1), -LIMIT, LIMIT)[None]
        past = jnp.where(observation.slot == 0, newest, jnp.concatenate([newest, state.past[:-1]]))
        outlook = self.look_ahead(state, observation)
        foreseen = super().expected(outlook)
        if self.predictor is not None:
            shares: Any = Shares().apply
            foreseen = shares(self.predictor, past) * counts.sum()
        state = Memory(**vars(outlook), past=past, foreseen=foreseen, plan=state.plan)
        return state.replace(plan=self.transport_matrix(state.replace(foreseen=counts), observation))

    def expected(self, state: Memory) -> jax.Array:
        """[R] F of the paper, tasks of the coming slot by origin."""
        return state.foreseen


def policy_network(head: Head, regions: int) -> Perceptron:
    """The paper's policy network; its output is [R·K] raw numbers of a head."""
    return Perceptron(HIDDEN, regions * head.num_raw(regions), 0.01)


def features(state: Memory, observation: Observation) -> jax.Array:
    """[3·PAST·R + R + 2R²] the state (U, Q, H, F, L, A_prev) of Section V-B2, each about one in size."""
    capacity = jnp.maximum(observation.capacity(), 1e-6)
    latency = observation.cluster.latency_s / jnp.maximum(observation.cluster.latency_s.mean(), 1e-9)
    parts = (state.past, state.foreseen / capacity, latency, observation.matrix)
    return jnp.concatenate([jnp.clip(part, -LIMIT, LIMIT).ravel() for part in parts])


def num_features(regions: int) -> int:
    """Length of `features`."""
    return 3 * PAST * regions + regions + 2 * regions**2
