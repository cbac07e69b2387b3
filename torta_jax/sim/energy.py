"""Busy time, power and cost of a slot: idle, active and warming watts, each for its own seconds."""

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.sim.state import Servers
from torta_jax.sim.sums import total, total_of_all
from torta_jax.types import Cluster

J_PER_KWH = 3.6e6


class Usage(struct.PyTreeNode):
    """What the servers did in one slot, [R, S] each."""

    busy_s: jax.Array  # summed over lanes
    on_s: jax.Array  # warm and switched on, or draining
    warming_s: jax.Array
    energy_kwh: jax.Array

    def utilisation(self, lanes: jax.Array) -> jax.Array:
        """[R, S] busy share of the switched-on lane time; 0 where a server was off."""
        return self.busy_s / jnp.maximum(self.on_s * lanes, 1e-9)


def usage(cluster: Cluster, servers: Servers, idle_s: jax.Array, slot_s) -> Usage:
    """Account for the slot.

    Args:
        idle_s: [R, L, S] idle lane time between tasks, inside the slot (what follows a lane's last task is not in it).
    """
    until = jnp.clip(servers.free_s, 0.0, slot_s)
    busy_s = total(jnp.where(cluster.lane_mask, until - idle_s, 0.0), axis=-2)
    draining_s = jnp.where(cluster.lane_mask, until, 0.0).max(axis=-2)
    warming_s = jnp.where(servers.active, jnp.clip(servers.warm_s, 0.0, slot_s), 0.0)
    on_s = jnp.where(servers.active, slot_s - warming_s, draining_s)
    lanes = jnp.maximum(cluster.lane_mask.sum(axis=-2), 1)
    joule = on_s * cluster.idle_w + busy_s / lanes * (cluster.active_w - cluster.idle_w) + warming_s * cluster.warming_w
    return Usage(busy_s, on_s, warming_s, joule / J_PER_KWH)


def load_balance(utilisation: jax.Array, active: jax.Array) -> jax.Array:
    """LB of Eq 11: 1 / (1 + CV) of the utilisation [R, S] of the active servers; 1 where none is active."""
    count = jnp.maximum(active.sum(), 1)
    mean = total_of_all(jnp.where(active, utilisation, 0.0)) / count
    variance = total_of_all(jnp.where(active, (utilisation - mean) ** 2, 0.0)) / count
    return 1 / (1 + jnp.sqrt(variance) / jnp.maximum(mean, 1e-6))
