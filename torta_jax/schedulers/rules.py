"""A policy made of numbers alone: one compiled program runs every policy of this family."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from torta_jax.sim.activation import ActivationRule
from torta_jax.sim.affinity import Offer, Weights, score
from torta_jax.sim.dispatch import Rule
from torta_jax.sim.observe import Observation
from torta_jax.solvers import sinkhorn
from torta_jax.types import Cluster

PLANS = ("stay", "even", "balanced", "capacitated")
"""Routing matrices a policy can ask for: identity, 1/R, Eq 2, capacity as an upper bound."""


UNKNOWN_LOAD = 0.5
"""Share of a region's capacity that its own users are taken to need before anything was observed."""


class Transport(struct.PyTreeNode):
    """How the routing matrix is made."""

    plan: int = 0  # index into PLANS
    price_weight: float = 1.0  # w1 of Eq 2, on the electricity price over its mean
    latency_weight: float = 0.1  # w2 of Eq 2, on latency + bandwidth cost over their mean
    epsilon: float = 0.05  # entropy, as a share of the mean cost; less needs more steps than are made
    utilisation: float = 0.75  # of a region's capacity that `capacitated` may fill
    smoothing: float = 0.0  # lambda_1 of Eq 3: A = (P* + lambda_1·A_prev) / (1 + lambda_1)


class Forecast(struct.PyTreeNode):
    """Holt's smoothing of the arrivals per origin; level 1 and trend 0 give the last count."""

    level: float = 1.0  # weight of the newest count in the level
    trend: float = 0.0  # weight of the newest change in the trend
    horizon: float = 0.0  # slots ahead to be ready for


class Toll(struct.PyTreeNode):
    """A second on a busy server costs those who come after: a task's lane time there counts weight·busy² times more.

    `busy` is a moving average of the server's utilisation. A congestion price (Pigou 1920): in an M/G/1 queue each
    second of work delays all who arrive until the queue is empty again, and the busier the server, the more those are.
    """

    weight: float = 0.0
    newest: float = 0.2  # weight of the last slot in the moving average; not tuned


class Outlook(struct.PyTreeNode):
    """The policy's state: what it expects to arrive per origin, in tasks per slot, and how busy servers have been."""

    level: jax.Array  # [R]
    trend: jax.Array  # [R]
    busy: jax.Array  # [R, S] in [0, 1]


class Rules(struct.PyTreeNode):
    """A `Scheduler` whose every choice is a number."""

    transport: Transport = Transport()
    forecast: Forecast = Forecast()
    weights: Weights = Weights()
    toll: Toll = Toll()
    rule: Rule = Rule()
    activation: ActivationRule = ActivationRule()
    by_urgency: bool = False
    by_auction: bool = False
    max_wait_s: float = 90.0

    def init(self, cluster: Cluster) -> Outlook:
        """Nothing expected yet."""
        nothing = jnp.zeros(cluster.num_regions)
        return Outlook(nothing, nothing, jnp.zeros(cluster.server_mask.shape))

    def route(self, state: Outlook, observation: Observation) -> tuple[Outlook, jax.Array]:
        """Take in what was observed and make the routing matrix [R, R]."""
        state = self.look_ahead(state, observation)
        fresh = self.transport_matrix(state, observation)
        smoothing = jnp.where(observation.slot > 0, self.transport.smoothing, 0.0)
        return state, (fresh + smoothing * observation.matrix) / (1 + smoothing)

    def demand(self, state: Outlook, observation: Observation, matrix: jax.Array) -> jax.Array:
        """[R] expected tasks, sent where the plan (or, without one, the last slot's realised routing) says."""
        by_matrix = jnp.asarray(self.transport.plan) >= PLANS.index("balanced")
        return (self.expected(state)[:, None] * jnp.where(by_matrix, matrix, observation.shares)).sum(axis=0)

    def affinity(self, state: Outlook, offer: Offer) -> jax.Array:
        """[R, S] linear score, less the toll in seconds."""
        return score(self.weights, offer) - self.toll.weight * state.busy**2 * offer.service_s

    def look_ahead(self, state: Outlook, observation: Observation) -> Outlook:
        """Holt's update with the last slot's arrivals, whose first count sets the level; and that of `busy`."""
        seen, rule = observation.arrivals, self.forecast
        seen = jnp.where(observation.slot == 0, UNKNOWN_LOAD * observation.capacity(), seen)
        level = rule.level * seen + (1 - rule.level) * (state.level + state.trend)
        trend = rule.trend * (level - state.level) + (1 - rule.trend) * state.trend
        first = observation.slot <= 1
        busy = state.busy + self.toll.newest * (observation.server_utilisation - state.busy)
        return Outlook(jnp.where(first, seen, level), jnp.where(first, 0.0, trend), busy)

    def expected(self, state: Outlook) -> jax.Array:
        """[R] tasks per slot by origin: the most expected at any time up to the horizon."""
        return jnp.maximum(state.level + jnp.maximum(self.forecast.horizon * state.trend, 0.0), 0.0)

    def transport_matrix(self, state: Outlook, observation: Observation) -> jax.Array:
        """The plan asked for [R, R]; `switch` runs one where the policy is not batched."""
        demand, cost, capacity = self.expected(state), self.cost(observation), observation.capacity()
        budget = {"epsilon": self.transport.epsilon, "newton_iters": sinkhorn.NEWTON_ITERS}
        plans = (
            lambda: jnp.eye(demand.shape[0], dtype=cost.dtype),
            lambda: jnp.full_like(cost, 1 / demand.shape[0]),
            lambda: sinkhorn.balanced(cost, demand, capacity, **budget).routing,
            lambda: sinkhorn.capacitated(cost, demand, capacity * self.transport.utilisation, **budget).routing,
        )
        return lax.switch(jnp.asarray(self.transport.plan, jnp.int32), plans)

    def cost(self, observation: Observation) -> jax.Array:
        """[R, R] C of Eq 2; each part over its mean, so that the weights compare like with like."""
        cluster = observation.cluster
        price = observation.price_usd_per_kwh / jnp.maximum(observation.price_usd_per_kwh.mean(), 1e-9)
        link = cluster.latency_s / jnp.maximum(cluster.latency_s.mean(), 1e-9)
        narrow = 1 / cluster.bandwidth_gbps
        narrow = narrow / jnp.maximum(narrow.mean(), 1e-9)
        return self.transport.price_weight * price + self.transport.latency_weight * (link + narrow)
