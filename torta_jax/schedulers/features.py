"""What the network of `torta` sees of each region: ratios, so that the size of a fleet does not matter."""

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.schedulers.rules import Outlook
from torta_jax.sim.observe import Observation

NUM_FEATURES = 33

LIMIT = 5.0
"""Features are within ± this."""

KEEP_MEAN, KEEP_SQUARE = 0.7, 0.95
"""Weights of the past in the moving averages of `Surprise`."""

TYPICAL_EXCESS = 0.05
"""`Surprise.excess` before anything was observed."""

USD_PER_H = 20.0
"""Factor on what a server costs in an hour: a few cents become about one."""


class Surprise(struct.PyTreeNode):
    """How the arrivals of each origin have differed from what was foretold for them.

    A forecast from noisy counts is noisy itself: `excess` is above zero for Poisson counts, too, if these are small.
    """

    mean: jax.Array  # [R] moving average of the difference, in shares of the region's capacity, each within ±1
    excess: jax.Array  # [R] of its square beyond a Poisson count's variance, in squared forecasts, each within ±1

    @classmethod
    def none(cls, regions: int) -> "Surprise":
        """Before the first slot."""
        return cls(jnp.zeros(regions), jnp.full(regions, TYPICAL_EXCESS))

    def take_in(self, outlook: Outlook, seen: Observation) -> "Surprise":
        """The last slot's; `outlook` is that of before it. The first count has no forecast to differ from.

        A region that is down has no capacity to measure by, and keeps what it had.
        """
        foretold = jnp.maximum(outlook.level + outlook.trend, 0.0)
        missed = seen.arrivals - foretold
        share = jnp.clip(missed / positive(seen.capacity()), -1.0, 1.0)
        excess = jnp.clip((missed**2 - foretold) / jnp.maximum(foretold, 1.0) ** 2, -1.0, 1.0)
        mean = KEEP_MEAN * self.mean + (1 - KEEP_MEAN) * share
        excess = KEEP_SQUARE * self.excess + (1 - KEEP_SQUARE) * excess
        counts = seen.alive & (seen.slot > 1)
        return Surprise(jnp.where(counts, mean, self.mean), jnp.where(counts, excess, self.excess))


def features(expected: jax.Array, outlook: Outlook, surprise: Surprise, seen: Observation) -> jax.Array:
    """[R, NUM_FEATURES] of the demand `expected` [R] and all that was observed."""
    columns = (*of_demand(expected, outlook, surprise, seen), *of_servers(outlook, seen), *of_place(expected, seen))
    regions = expected.shape[0]
    columns = [jnp.broadcast_to(column, (regions,)) for column in columns]
    return jnp.clip(jnp.stack(columns, axis=-1), -LIMIT, LIMIT)


def of_demand(expected: jax.Array, outlook: Outlook, surprise: Surprise, seen: Observation) -> tuple[jax.Array, ...]:
    """What arrives, how it changes, how well it was foretold."""
    capacity = positive(seen.capacity())
    fleet = expected.sum() / capacity.sum()
    noise = jnp.maximum(surprise.excess, 1e-4)  # a root has no slope at zero
    return (
        expected / capacity,
        outlook.level / capacity,
        outlook.trend / capacity,
        5 * outlook.trend / jnp.maximum(outlook.level, 1.0),
        (seen.arrivals - outlook.level) / capacity,
        5 * surprise.mean,
        3 * jnp.sqrt(noise),
        3 * jnp.sqrt(noise.mean()),
        3 / jnp.sqrt(1 + expected),
        0.5 * jnp.log(positive(expected) / capacity) + 1,
        (expected[:, None] * seen.matrix).sum(axis=0) / capacity,
        fleet,
    )


def of_servers(outlook: Outlook, seen: Observation) -> tuple[jax.Array, ...]:
    """How full the region is, and what its servers are like."""
    cluster, capacity = seen.cluster, positive(seen.capacity())
    lanes = jnp.maximum(cluster.lane_mask.sum(axis=(-2, -1)), 1)
    servers = jnp.maximum(cluster.server_mask.sum(axis=-1), 1)
    on = seen.servers_on / servers

    def mean(of_each: jax.Array) -> jax.Array:
        return jnp.where(cluster.server_mask, of_each, 0.0).sum(axis=-1) / servers

    usd_per_h = USD_PER_H * seen.price_usd_per_kwh / 1000
    return (
        seen.waiting / capacity,
        seen.outstanding / lanes,
        seen.utilisation,
        on,
        3 * jnp.maximum(outlook.level / capacity - on, 0.0),
        mean(outlook.busy),
        seen.service_s / positive(seen.service_s.mean()) - 1,
        2 * seen.service_s / seen.slot_s,
        mean(cluster.warmup_s) / seen.slot_s - 2,
        mean(cluster.idle_w) * usd_per_h,
        mean(cluster.active_w - cluster.idle_w) * usd_per_h,
        seen.alive.astype(capacity.dtype),
    )


def of_place(expected: jax.Array, seen: Observation) -> tuple[jax.Array, ...]:
    """Prices and distances, and how much room there is elsewhere for less."""
    capacity = positive(seen.capacity())
    share = capacity / capacity.sum()
    price = seen.price_usd_per_kwh / positive(seen.price_usd_per_kwh.mean())
    latency = seen.cluster.latency_s / positive(seen.cluster.latency_s.mean())
    apart = jnp.where(jnp.eye(len(share), dtype=bool), jnp.inf, latency).min(axis=-1)
    cheaper = jnp.where(price < price[:, None], share, 0.0).sum(axis=-1)
    return (
        price - 1,
        jnp.log(jnp.maximum(price, 1e-3)),
        jnp.sqrt(((price - 1) ** 2).mean()),
        cheaper,
        cheaper - expected.sum() / capacity.sum(),
        share * len(share),
        jnp.where(jnp.isfinite(apart), apart, 0.0),  # a region alone has no neighbour
        latency.mean(axis=-1),
        jnp.diagonal(seen.matrix),
    )


def positive(x: jax.Array) -> jax.Array:
    """No less than what may be divided by."""
    return jnp.maximum(x, 1e-6)
