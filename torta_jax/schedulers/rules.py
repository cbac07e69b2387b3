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
"""Routing matrices a policy can ask for: identity, 1/R, Eq 2 by ott-jax, capacity as an upper bound."""


UNKNOWN_LOAD = 0.5
"""Share of a region's capacity that its own users are taken to need before anything was observed."""


class Transport(struct.PyTreeNode):
    """How the routing matrix is made."""

    plan: int = 0  # index into PLANS
    price_weight: float = 1.0  # w1 of Eq 2, on the electricity price over its mean
    latency_weight: float = 0.1  # w2 of Eq 2, on latency + bandwidth cost over their mean
    epsilon: float = 0.05  # entropy, as a share of the mean cost
    utilisation: float = 0.75  # of a region's capacity that `capacitated` may fill
    smoothing: float = 0.0  # lambda_1 of Eq 3: A = (P* + lambda_1·A_prev) / (1 + lambda_1)


class Forecast(struct.PyTreeNode):
    """Holt's smoothing of the arrivals per origin; level 1 and trend 0 give the last count."""

    level: float = 1.0  # weight of the newest count in the level
    trend: float = 0.0  # weight of the newest change in the trend
    horizon: float = 0.0  # slots ahead to be ready for


class Outlook(struct.PyTreeNode):
    """The policy's state: level and trend of arrivals per origin, in tasks per slot."""

    level: jax.Array  # [R]
    trend: jax.Array  # [R]
    price: jax.Array  # [R] of capacity in the last capacitated plan, where the next one starts


class Rules(struct.PyTreeNode):
    """A `Scheduler` whose every choice is a number."""

    transport: Transport = Transport()
    forecast: Forecast = Forecast()
    weights: Weights = Weights()
    rule: Rule = Rule()
    activation: ActivationRule = ActivationRule()
    by_urgency: bool = False
    max_wait_s: float = 90.0

    def init(self, cluster: Cluster) -> Outlook:
        """Nothing expected yet."""
        nothing = jnp.zeros(cluster.num_regions)
        return Outlook(nothing, nothing, nothing)

    def route(self, state: Outlook, observation: Observation) -> tuple[Outlook, jax.Array]:
        """Update the forecast and make the routing matrix [R, R]."""
        state = self.look_ahead(state, observation)
        fresh, price = self.transport_matrix(state, observation)
        state = state.replace(price=price)
        smoothing = jnp.where(observation.slot > 0, self.transport.smoothing, 0.0)
        return state, (fresh + smoothing * observation.matrix) / (1 + smoothing)

    def demand(self, state: Outlook, observation: Observation, matrix: jax.Array) -> jax.Array:
        """[R] expected tasks, sent where the plan (or, without one, the last slot's realised routing) says."""
        by_matrix = jnp.asarray(self.transport.plan) >= PLANS.index("balanced")
        return (self.expected(state)[:, None] * jnp.where(by_matrix, matrix, observation.shares)).sum(axis=0)

    def affinity(self, state: Outlook, offer: Offer) -> jax.Array:
        """[R, S] linear score."""
        return score(self.weights, offer)

    def look_ahead(self, state: Outlook, observation: Observation) -> Outlook:
        """Holt's update with the last slot's arrivals; the first count sets the level."""
        seen, rule = observation.arrivals, self.forecast
        seen = jnp.where(observation.slot == 0, UNKNOWN_LOAD * observation.capacity(), seen)
        level = rule.level * seen + (1 - rule.level) * (state.level + state.trend)
        trend = rule.trend * (level - state.level) + (1 - rule.trend) * state.trend
        first = observation.slot <= 1
        return state.replace(level=jnp.where(first, seen, level), trend=jnp.where(first, 0.0, trend))

    def expected(self, state: Outlook) -> jax.Array:
        """[R] tasks per slot by origin: the most expected at any time up to the horizon."""
        return jnp.maximum(state.level + jnp.maximum(self.forecast.horizon * state.trend, 0.0), 0.0)

    def transport_matrix(self, state: Outlook, observation: Observation) -> tuple[jax.Array, jax.Array]:
        """The plan asked for [R, R], and its prices [R]; `switch` runs one where the policy is not batched."""
        demand, cost, capacity = self.expected(state), self.cost(observation), observation.capacity()
        epsilon = self.transport.epsilon

        def capacitated():
            bound = capacity * self.transport.utilisation
            plan = sinkhorn.capacitated(cost, demand, bound, epsilon=epsilon, init=state.price)
            return plan.routing, plan.price

        plans = (
            lambda: (jnp.eye(demand.shape[0], dtype=cost.dtype), state.price),
            lambda: (jnp.full_like(cost, 1 / demand.shape[0]), state.price),
            lambda: (sinkhorn.balanced(cost, demand, capacity, epsilon=epsilon, backend="ott").routing, state.price),
            capacitated,
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
