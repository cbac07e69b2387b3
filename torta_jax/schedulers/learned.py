"""`torta` with a network on top: per region, corrections to the numbers of the capacitated plan and of Eq 6.

One small network sees every region alike, so that one set of weights serves any number of regions in any order. With
weights of zero it is the policy it was built on.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.schedulers.features import NUM_FEATURES, Surprise, features, positive
from torta_jax.schedulers.networks import Shared
from torta_jax.schedulers.rules import Outlook, Rules
from torta_jax.sim.observe import Observation
from torta_jax.solvers import sinkhorn
from torta_jax.types import Cluster

CORRECTIONS = ("bound", "price", "smoothing", "latency", "demand", "safety")
"""What the network says x of a region: how full `capacitated` may fill it (x added to the logit of that share); factors
e^x on the weight of its price, on how slowly its row changes, on the weight of distance to its users; a factor e^(x/2)
on the demand to be ready for, and 4x standard deviations of it on top."""

LARGEST = 2.0
"""Corrections are within ± this."""

VERSION = 3
"""Of the network and of what it sees: weights of another version mean nothing here."""

HIDDEN = (128, 128, 64)
"""Widths of the network, the first of which enters every region alike."""


class Steered(Outlook):
    """An outlook, how wrong it has been, and the corrections for the present slot."""

    surprise: Surprise = struct.field(default=None)
    corrections: jax.Array = struct.field(default=None)  # [R, len(CORRECTIONS)]


class Learned(Rules):
    """Rules whose transport and scaling a network corrects, region by region."""

    parameters: Any = None  # of `NETWORK`
    blind: bool = struct.field(pytree_node=False, default=False)  # the same corrections everywhere and always

    def fresh(self, key: jax.Array) -> Any:
        """Parameters to start learning from: those of hardly any correction."""
        return NETWORK.init(key, jnp.zeros((1, NUM_FEATURES)))

    def init(self, cluster: Cluster) -> Steered:
        """Nothing expected yet."""
        regions = cluster.num_regions
        nothing = jnp.zeros((regions, len(CORRECTIONS)))
        return Steered(**vars(super().init(cluster)), surprise=Surprise.none(regions), corrections=nothing)

    def route(self, state: Steered, observation: Observation) -> tuple[Steered, jax.Array]:
        """Take in what was observed, correct the numbers, make the routing matrix [R, R]."""
        surprise = state.surprise.take_in(state, observation)
        outlook = self.look_ahead(state, observation)
        corrections = LARGEST * jnp.tanh(self.correct(outlook, surprise, observation) / LARGEST)
        bound, price, smoothing, latency = corrections.T[:4]
        transport = self.transport.replace(
            price_weight=self.transport.price_weight * jnp.exp(price),
            latency_weight=self.transport.latency_weight * jnp.exp(latency)[:, None],
        )
        cost = self.replace(transport=transport).cost(observation)
        # The solver takes the entropy as a share of the mean cost; here it stays what it is without corrections, so
        # that numbers alone, the same everywhere, can make a plan sharper, too.
        epsilon = self.transport.epsilon * self.cost(observation).mean() / positive(cost.mean())
        logit = jnp.log(self.transport.utilisation) - jnp.log1p(-self.transport.utilisation)
        capacity = observation.capacity() * jax.nn.sigmoid(logit + bound)
        plan = sinkhorn.capacitated(cost, self.expected(outlook), capacity, epsilon=epsilon)  # any: the longest budget
        keep = jnp.where(observation.slot > 0, self.transport.smoothing * jnp.exp(smoothing), 0.0)[:, None]
        matrix = (plan.routing + keep * observation.matrix) / (1 + keep)
        return Steered(**vars(outlook), surprise=surprise, corrections=corrections), matrix

    def correct(self, outlook: Outlook, surprise: Surprise, observation: Observation) -> jax.Array:
        """[R, len(CORRECTIONS)] what the network says, before it is limited."""
        seen = features(self.expected(outlook), outlook, surprise, observation)
        # Not zeros: then only the last layer's biases would learn, a rate's worth in each update.
        said = NETWORK.apply(self.parameters, jnp.ones_like(seen) if self.blind else seen)
        return jnp.asarray(said)

    def demand(self, state: Steered, observation: Observation, matrix: jax.Array) -> jax.Array:
        """[R] tasks per slot to have servers for."""
        level, safety = state.corrections.T[4:]
        demand = jnp.maximum(super().demand(state, observation, matrix), 1e-6)
        return jnp.maximum(demand * jnp.exp(0.5 * level) + 4 * safety * jnp.sqrt(demand), 0.0)


NETWORK = Shared(len(CORRECTIONS), HIDDEN)
