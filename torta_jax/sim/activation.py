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


def target(rule: ActivationRule, demand, waiting, service_s, lanes, slot_s) -> jax.Array:
    """N_target of Eq 6 before it is limited to the servers there are, [R] float; arguments as of `needed`."""
    return jnp.ceil(needed(rule, demand, waiting, service_s, lanes, slot_s))


def needed(rule: ActivationRule, demand, waiting, service_s, lanes, slot_s) -> jax.Array:
    """What Eq 6 rounds up, [R] float.

    Args:
        demand: [R] tasks expected per slot.
        waiting: [R] tasks that wait already.
        service_s: [R] measured lane time per task.
        lanes: [R] mean lanes per server.
        slot_s: length of a slot.
    """
    per_server = slot_s * lanes / service_s * rule.utilisation
    return (waiting + demand + rule.sigma * jnp.sqrt(demand)) / per_server


def first_ranked(score: jax.Array, eligible: jax.Array, count: jax.Array) -> jax.Array:
    """[R, S] bool: the `count` [R] best-scored eligible servers of each region, the first of equals.

    By a sort. Ranks from a comparison of all pairs need not be a permutation: the compiler may compute the score for
    either side anew, with other last bits.
    """
    order, ids = jnp.argsort(jnp.where(eligible, -score, jnp.inf), axis=-1, stable=True), jnp.arange(score.shape[-1])
    head = jnp.where(ids < count[:, None], order, -1)
    return eligible & (head[:, :, None] == ids).any(axis=1)


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

    busy = (jnp.where(cluster.lane_mask, servers.free_s, 0.0) > 0).any(axis=-2)
    starting = (wanted > on)[:, None]  # a region starts servers or stops some, never both: one ranking serves
    score = jnp.where(starting, start_score(cluster, kind_share, busy), stop_score(cluster, servers))
    chosen = first_ranked(score, mask & (servers.active != starting), more + fewer)
    start, stop = chosen & starting, chosen & ~starting
    cold = start & ~busy  # a server that still drains is simply kept on
    servers = servers.replace(
        active=(servers.active | start) & ~stop,
        warm_s=jnp.where(cold, cluster.warmup_s, servers.warm_s),
    )
    return forget(servers, cold), cold, cooling_s


def start_score(cluster: Cluster, kind_share, busy) -> jax.Array:
    """[R, S] which server to start first: one that warms up fast and suits the kinds of tasks its region gets.

    A hundred seconds of warm-up weigh as much as a perfect fit; one that still drains (`busy`) needs no warm-up.
    """
    fit = (kind_share[:, :, None] * jnp.swapaxes(cluster.kind_match, 0, 1)).sum(axis=1)
    return fit - jnp.where(busy, 0.0, cluster.warmup_s) / 100


def stop_score(cluster: Cluster, servers: Servers) -> jax.Array:
    """[R, S] which server to stop first: one long idle (a minute weighs as much as full use) and little used."""
    idle_minutes = jnp.clip(-servers.idle_from_s(cluster) / 60, 0.0, 60.0)
    return idle_minutes - servers.utilisation


def forget(servers: Servers, which: jax.Array) -> Servers:
    """The servers with nothing in memory where `which` [R, S]."""
    gone = which[:, None, :]
    return servers.replace(
        used_s=jnp.where(gone, NEVER_S, servers.used_s),
        heat=jnp.where(gone, 0.0, servers.heat),
        recent=jnp.where(which, 0.0, servers.recent),
        prefix=jnp.where(gone, 0.0, servers.prefix),
    )
