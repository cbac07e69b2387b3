"""What policies may see: counts and measurements up to the end of the last slot."""

import jax
import jax.numpy as jnp
from flax import struct

from torta_jax.sim.state import Observed, Physics, State
from torta_jax.sim.sums import total
from torta_jax.types import Cluster, Phase

PER_S = 1024
"""Resolution of measured lane times: they are added up as whole seconds and whole numbers of 1/1024 s."""

LONGEST_S = 16_384
"""A longer lane time is measured as this, so that the sum of 131,071 tasks of a region fits int32."""


class Observation(struct.PyTreeNode):
    """What a policy knows at the start of slot t: the world up to the end of slot t-1, and the clock."""

    slot: jax.Array  # [] int32
    slot_s: jax.Array  # []
    cluster: Cluster
    alive: jax.Array  # [R] bool, now
    price_usd_per_kwh: jax.Array  # [R] now
    arrivals: jax.Array  # [R] tasks by origin in the last slot
    shares: jax.Array  # [R, R] realised routing of the last slot
    matrix: jax.Array  # [R, R] routing in force in the last slot
    buffered: jax.Array  # [R] tasks waiting for a server
    waiting: jax.Array  # [R] buffered, or queued on a lane and not started
    outstanding: jax.Array  # [R] all tasks in the region
    utilisation: jax.Array  # [R] busy share of the switched-on servers in the last slot
    server_utilisation: jax.Array  # [R, S] busy share of its switched-on lane time in the last slot
    servers_on: jax.Array  # [R]
    service_s: jax.Array  # [R] measured lane time per task

    def capacity(self) -> jax.Array:
        """[R] tasks per slot with every healthy server on."""
        lanes = self.cluster.lane_mask.sum(axis=(-2, -1))
        return self.alive * lanes * self.slot_s / self.service_s


def per_region(pool_region: jax.Array, columns: tuple[jax.Array, ...], regions: int) -> jax.Array:
    """[len(columns), R] int32 sums over the pool's rows per region: of whole numbers, or of masked rows."""
    sums = jnp.zeros((regions, len(columns)), jnp.int32)
    return sums.at[pool_region].add(jnp.stack(columns, axis=-1).astype(jnp.int32)).T


def observe(state: State, cluster: Cluster, physics: Physics, alive, price_usd_per_kwh) -> Observation:
    """The observation at the start of a slot, before its arrivals."""
    pool, servers, seen = state.pool, state.servers, state.observed
    regions = cluster.num_regions
    buffered = pool.phase == Phase.BUFFERED
    committed = pool.phase == Phase.COMMITTED
    masks = (buffered, buffered | (committed & (pool.start_s > 0)), buffered | committed)
    buffered, waiting, outstanding = per_region(pool.region, masks, regions)
    on = servers.active.sum(axis=-1)
    utilisation = total(jnp.where(servers.active, servers.utilisation, 0.0)) / jnp.maximum(on, 1)
    return Observation(
        slot=state.slot,
        slot_s=jnp.asarray(physics.slot_s, float),
        cluster=cluster,
        alive=alive,
        price_usd_per_kwh=price_usd_per_kwh,
        arrivals=seen.arrivals,
        shares=seen.shares,
        matrix=state.matrix,
        buffered=buffered,
        waiting=waiting,
        outstanding=outstanding,
        utilisation=utilisation,
        server_utilisation=servers.utilisation,
        servers_on=on,
        service_s=seen.service_s,
    )


def learn(seen: Observed, physics: Physics, pool, arrivals, shares, taken, cooling_s) -> Observed:
    """Update the statistics with a slot's `arrivals` by origin [R] and its commitments (`taken` [P])."""
    lane_s = jnp.where(taken, jnp.clip(pool.finish_s - pool.start_s, 0.0, LONGEST_S), 0.0)
    seconds = jnp.floor(lane_s)
    # Sums of whole numbers are exact: neither the batch nor the padding between tasks can change a later decision.
    columns = (*(taken & (pool.kind == kind) for kind in range(3)), seconds, jnp.round((lane_s - seconds) * PER_S))
    *kinds, seconds, parts = per_region(pool.region, columns, shares.shape[-1])
    kinds, lane_s = jnp.stack(kinds, axis=-1), seconds + parts / PER_S
    count = kinds.sum(axis=-1)
    weight = jnp.where(count > 0, physics.service_weight, 0.0)
    share = kinds / jnp.maximum(count, 1)[:, None]
    return Observed(
        arrivals=arrivals.astype(seen.arrivals.dtype),
        shares=shares,
        service_s=seen.service_s + weight * (lane_s / jnp.maximum(count, 1) - seen.service_s),
        kind_share=seen.kind_share + weight[:, None] * (share - seen.kind_share),
        cooling_s=cooling_s,
    )
