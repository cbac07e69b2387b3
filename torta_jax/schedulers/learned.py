"""`torta` with a network on top: per region, corrections to the numbers of the capacitated plan and of Eq 6.

One small network sees every region alike, so that one set of weights serves any number of regions in any order. With
weights of zero it is the policy it was built on.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.schedulers.networks import Shared
from torta_jax.schedulers.rules import Outlook, Rules
from torta_jax.sim.observe import Observation
from torta_jax.solvers import sinkhorn
from torta_jax.types import Cluster

CORRECTIONS = ("bound", "potential", "smoothing", "latency", "demand", "safety")
"""What the network says of a region: how full `capacitated` may fill it; what is added to its price; how slowly its row
changes; how dear distance is to its users; how much more demand to be ready for, and how many more standard
deviations."""

LARGEST = 2.0
"""Corrections are within ± this."""

FEATURES = 22


class Steered(Outlook):
    """An outlook, and the corrections for the present slot."""

    corrections: jax.Array = struct.field(default=None)  # [R, len(CORRECTIONS)]


class Learned(Rules):
    """Rules whose transport and scaling a network corrects, region by region."""

    parameters: Any = None  # of `NETWORK`
    blind: bool = struct.field(pytree_node=False, default=False)  # the same corrections everywhere and always

    def fresh(self, key: jax.Array) -> Any:
        """Parameters to start learning from: those of hardly any correction."""
        return NETWORK.init(key, jnp.zeros((1, FEATURES)))

    def init(self, cluster: Cluster) -> Steered:
        """Nothing expected yet."""
        return Steered(**vars(super().init(cluster)), corrections=jnp.zeros((cluster.num_regions, len(CORRECTIONS))))

    def route(self, state: Steered, observation: Observation) -> tuple[Steered, jax.Array]:
        """Take in what was observed, correct the numbers, make the routing matrix [R, R]."""
        outlook = self.look_ahead(state, observation)
        corrections = LARGEST * jnp.tanh(self.correct(outlook, observation) / LARGEST)
        bound, potential, smoothing, latency = corrections.T[:4]
        transport = self.transport.replace(latency_weight=self.transport.latency_weight * jnp.exp(latency)[:, None])
        cost = self.replace(transport=transport).cost(observation) + potential
        logit = jnp.log(self.transport.utilisation) - jnp.log1p(-self.transport.utilisation)
        capacity = observation.capacity() * jax.nn.sigmoid(logit + bound)
        plan = sinkhorn.capacitated(
            cost, self.expected(outlook), capacity, epsilon=self.transport.epsilon, newton_iters=sinkhorn.NEWTON_ITERS
        )
        keep = jnp.where(observation.slot > 0, self.transport.smoothing * jnp.exp(smoothing), 0.0)[:, None]
        matrix = (plan.routing + keep * observation.matrix) / (1 + keep)
        return Steered(**vars(outlook), corrections=corrections), matrix

    def correct(self, outlook: Outlook, observation: Observation) -> jax.Array:
        """[R, len(CORRECTIONS)] what the network says, before it is limited."""
        return NETWORK.apply(self.parameters, self.see(outlook, observation))[0]

    def see(self, outlook: Outlook, observation: Observation) -> jax.Array:
        """[R, FEATURES] what the network is told."""
        seen = features(self.expected(outlook), outlook, observation)
        return jnp.zeros_like(seen) if self.blind else seen

    def demand(self, state: Steered, observation: Observation, matrix: jax.Array) -> jax.Array:
        """[R] tasks per slot to have servers for."""
        level, safety = state.corrections.T[4:]
        demand = jnp.maximum(super().demand(state, observation, matrix), 1e-6)
        return jnp.maximum(demand * jnp.exp(0.5 * level) + 4 * safety * jnp.sqrt(demand), 0.0)


NETWORK = Shared(len(CORRECTIONS))


def features(expected: jax.Array, outlook: Outlook, seen: Observation) -> jax.Array:
    """[R, FEATURES] what the network sees of each region; ratios, so that the size of a fleet does not matter."""
    capacity = jnp.maximum(seen.capacity(), 1e-6)
    lanes = jnp.maximum(seen.cluster.lane_mask.sum(axis=(-2, -1)), 1)
    servers = jnp.maximum(seen.cluster.server_mask.sum(axis=-1), 1)
    price = seen.price_usd_per_kwh / jnp.maximum(seen.price_usd_per_kwh.mean(), 1e-9)
    latency = seen.cluster.latency_s / jnp.maximum(seen.cluster.latency_s.mean(), 1e-9)
    apart = jnp.where(jnp.eye(latency.shape[0], dtype=bool), jnp.inf, latency)
    nearest = jnp.where(jnp.isfinite(apart.min(axis=-1)), apart.min(axis=-1), 0.0)
    whole = capacity.sum()
    share = capacity / whole
    cheaper = jnp.where(price < price[:, None], share, 0.0).sum(axis=-1)
    fleet = expected.sum() / whole
    inflow = (expected[:, None] * seen.matrix).sum(axis=0)
    regions = latency.shape[0]
    columns = (
        expected / capacity,
        outlook.level / capacity,
        outlook.trend / capacity,
        (seen.arrivals - outlook.level) / capacity,
        seen.waiting / capacity,
        seen.outstanding / lanes,
        seen.utilisation,
        seen.servers_on / servers,
        price - 1,
        jnp.log(jnp.maximum(price, 1e-3)),
        cheaper,
        cheaper - fleet,
        jnp.broadcast_to(jnp.sqrt(((price - 1) ** 2).mean()), price.shape),
        share * regions,
        seen.service_s / jnp.maximum(seen.service_s.mean(), 1e-6) - 1,
        nearest,
        latency.mean(axis=-1),
        jnp.diagonal(seen.matrix),
        inflow / capacity,
        jnp.broadcast_to(fleet, price.shape),
        jnp.where(seen.cluster.server_mask, outlook.busy, 0.0).sum(axis=-1) / servers,
        seen.alive.astype(price.dtype),
    )
    return jnp.clip(jnp.stack(columns, axis=-1), -5.0, 5.0)
