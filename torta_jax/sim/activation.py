"""How many servers each region has on, and which: Eq 6, gradual, with a cool-down."""

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.sim.state import NEVER_S, Servers
from torta_jax.types import Cluster


class ActivationRule(struct.PyTreeNode):
    """Numbers of a policy's autoscaler."""

    sigma: float = 1.0  # safety of Eq 6, in standard deviations of a Poisson count
    utilisation: float = 1.0  # of the switched-on capacity that demand may use; Eq 6 has 1
    max_starts: float = jnp.inf  # servers per region and slot
    max_stops: float = jnp.inf
    cooldown_s: float = 0.0  # a region must have had servers to spare for so long before it stops any
    warmup_weight: float = 1.0  # start first: those that warm up fast (per 100 s), …
    fit_weight: float = 1.0  # … suit the kinds of tasks the region gets, …
    power_weight: float = 0.0  # … draw little power for their speed (per kW at the reference speed)
    idle_weight: float = 1.0  # stop first: those idle for long (per minute), …
    usage_weight: float = 1.0  # … and little used in the last slot


def target(rule: ActivationRule, demand, waiting, service_s, lanes, slot_s) -> jax.Array:
    """N_target of Eq 6 before it is limited to the servers there are, [R] float.

    Args:
        demand: [R] tasks expected per slot.
        waiting: [R] tasks that wait already.
        service_s: [R] measured lane time per task.
        lanes: [R] mean lanes per server.
        slot_s: length of a slot.
    """
    per_server = slot_s * lanes / service_s * rule.utilisation
    return jnp.ceil((waiting + demand + rule.sigma * jnp.sqrt(demand)) / per_server)


def first_ranked(score: jax.Array, eligible: jax.Array, count: jax.Array) -> jax.Array:
    """[R, S] bool: the `count` [R] best-scored eligible servers of each region, the first of equals."""
    ahead = (score[:, None, :] > score[:, :, None]) | (
        (score[:, None, :] == score[:, :, None]) & jnp.tri(score.shape[-1], k=-1, dtype=bool)
    )
    rank = (ahead & eligible[:, None, :]).sum(axis=-1)
    return eligible & (rank < count[:, None])


def switch(cluster: Cluster, rule: ActivationRule, servers: Servers, wanted, alive, kind_share, cooling_s, slot_s):
    """Move each region towards its `wanted` [R] servers.

    Returns the servers, the cold starts [R, S] bool and the cool-down clock [R].
    """
    mask = cluster.server_mask & alive[:, None]
    # One server at least: a region without any gets no task from load-driven rules, so no demand, and never returns.
    wanted = jnp.clip(wanted, jnp.minimum(1, mask.sum(axis=-1)), mask.sum(axis=-1))
    on = (servers.active & mask).sum(axis=-1)
    cooling_s = jnp.where(wanted >= on, 0.0, cooling_s + slot_s)
    more = jnp.clip(wanted - on, 0, rule.max_starts)
    fewer = jnp.where(cooling_s > rule.cooldown_s, jnp.clip(on - wanted, 0, rule.max_stops), 0)

    start = first_ranked(start_score(cluster, rule, servers, kind_share), mask & ~servers.active, more)
    stop = first_ranked(stop_score(cluster, rule, servers), servers.active & mask, fewer)
    busy = (jnp.where(cluster.lane_mask, servers.free_s, 0.0) > 0).any(axis=-2)
    cold = start & ~busy  # a server that still drains is simply kept on
    servers = servers.replace(
        active=(servers.active | start) & ~stop,
        warm_s=jnp.where(cold, cluster.warmup_s, servers.warm_s),
    )
    return forget(servers, cold), cold, cooling_s


def start_score(cluster: Cluster, rule: ActivationRule, servers: Servers, kind_share) -> jax.Array:
    """[R, S] which server to start first; one that still drains needs no warm-up."""
    busy = (jnp.where(cluster.lane_mask, servers.free_s, 0.0) > 0).any(axis=-2)
    warmup = jnp.where(busy, 0.0, cluster.warmup_s)
    fit = (kind_share[:, :, None] * jnp.swapaxes(cluster.kind_match, 0, 1)).sum(axis=1)
    return -rule.warmup_weight * warmup / 100 + rule.fit_weight * fit - rule.power_weight * power_kw(cluster)


def stop_score(cluster: Cluster, rule: ActivationRule, servers: Servers) -> jax.Array:
    """[R, S] which server to stop first."""
    free = jnp.where(cluster.lane_mask, servers.free_s, -jnp.inf).max(axis=-2)
    idle_minutes = jnp.clip(-free / 60, 0.0, 60.0)
    return (
        rule.idle_weight * idle_minutes
        - rule.usage_weight * servers.utilisation
        + rule.power_weight * power_kw(cluster)
    )


def power_kw(cluster: Cluster) -> jax.Array:
    """[R, S] active power for the work of one reference GPU."""
    return cluster.active_w / 1000 / jnp.maximum(cluster.decode_speed, 1e-3)


def forget(servers: Servers, which: jax.Array) -> Servers:
    """The servers with nothing in memory where `which` [R, S]."""
    gone = which[:, None, :]
    return servers.replace(
        used_s=jnp.where(gone, NEVER_S, servers.used_s),
        heat=jnp.where(gone, 0.0, servers.heat),
        recent=jnp.where(which, 0.0, servers.recent),
        prefix=jnp.where(gone, 0.0, servers.prefix),
    )
