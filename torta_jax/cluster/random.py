"""Random clusters, thousands of different ones from one call: pure JAX, for jit and for vmap over keys."""

import jax
import jax.numpy as jnp
from jax import lax

from torta_jax.cluster.catalogue import GPUS
from torta_jax.cluster.fleet import equip
from torta_jax.cluster.paths import FIBRE_KM_PER_S
from torta_jax.cluster.prices import MEAN_USD_PER_KWH
from torta_jax.errors import require
from torta_jax.types import Cluster

SIDE_KM = (500.0, 8000.0)  # from a country to a continent and a half
KM_PER_DEGREE = 85.0  # of longitude, at 40 degrees north
LINK_GBPS = (10.0, 15.0, 20.0)  # the values of Table I


def random_cluster(
    key: jax.Array,
    num_regions: int,
    num_servers: int,
    num_lanes: int = 1,
    *,
    speed_spread: float | jax.Array = 1.0,
    mismatch: float | jax.Array = 0.5,
    switch_factor: float | jax.Array = 1.0,
) -> Cluster:
    """A connected cluster with its own geography, prices, demand and mix of GPUs.

    Regions lie at random in a square (side 500 to 8000 km, x runs along a parallel at 40 degrees north) and
    are linked as a Gabriel graph, which is always connected; latency is light in fibre along its shortest
    paths. Prices are log-normal over regions, with an evening peak. Each region has between half of
    `num_servers` and all of them (the rest is padding) in a mix of its own.

    Args:
        key: a typed key; under vmap, one per cluster.
        num_regions: R, at least 1 (static).
        num_servers: S, at least 1 (static).
        num_lanes: L, at least 1 (static).
        speed_spread, mismatch, switch_factor: see `equip`; may be traced.

    Raises:
        InputError: a size below 1.
    """
    for name, size in (("num_regions", num_regions), ("num_servers", num_servers), ("num_lanes", num_lanes)):
        require(size >= 1, f"{name} {size}: at least 1 is needed")
    place_key, link_key, price_key, demand_key, server_key = jax.random.split(key, 5)
    position_km = _positions(place_key, num_regions)
    distance_km, bandwidth_gbps = _shortest_paths(position_km, link_key)
    utc_offset_h = position_km[:, 0] / KM_PER_DEGREE / 15
    gpu, mask = _servers(server_key, num_regions, num_servers)
    return Cluster(
        latency_s=distance_km / FIBRE_KM_PER_S,
        bandwidth_gbps=bandwidth_gbps,
        price_usd_per_kwh=_prices(price_key, utc_offset_h),
        utc_offset_h=utc_offset_h,
        demand_share=jax.nn.softmax(0.5 * jax.random.normal(demand_key, (num_regions,))),
        **equip(
            gpu,
            mask,
            speed_spread=speed_spread,
            mismatch=mismatch,
            switch_factor=switch_factor,
            lanes=num_lanes,
        ),
    )


def _positions(key: jax.Array, num_regions: int) -> jax.Array:
    """[R, 2] km around the centre of a square whose side is log-uniform."""
    side_key, place_key = jax.random.split(key)
    low, high = jnp.log(jnp.asarray(SIDE_KM))
    side_km = jnp.exp(jax.random.uniform(side_key, minval=low, maxval=high))
    return side_km * jax.random.uniform(place_key, (num_regions, 2), minval=-0.5, maxval=0.5)


def _shortest_paths(position_km: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[R, R] length of the shortest path in the Gabriel graph, and its narrowest link (inf on the diagonal)."""
    regions = len(position_km)
    squared = jnp.sum((position_km[:, None] - position_km) ** 2, axis=-1)
    # a link wherever no third region lies in the circle on it as diameter; it holds the minimum spanning tree
    linked = jnp.min(squared[:, None] + squared, axis=-1) >= squared
    draw = jax.random.choice(key, jnp.asarray(LINK_GBPS), (regions, regions))
    itself = jnp.eye(regions, dtype=bool)
    width = jnp.where(itself, jnp.inf, jnp.where(linked, jnp.minimum(draw, draw.T), 0.0))
    distance = jnp.where(linked, jnp.sqrt(squared), jnp.inf)

    def through(k, paths):  # Floyd and Warshall
        distance, width = paths
        detour = distance[:, k, None] + distance[k]
        shorter = detour < distance
        narrowest = jnp.minimum(width[:, k, None], width[k])
        return jnp.where(shorter, detour, distance), jnp.where(shorter, narrowest, width)

    return lax.fori_loop(0, regions, through, (distance, width))


def _prices(key: jax.Array, utc_offset_h: jax.Array) -> jax.Array:
    """[R, 24] mean about 0.14, log std 0.1 to 0.5 over regions, up to 30 % higher at 19:00 local time."""
    spread_key, region_key, swing_key = jax.random.split(key, 3)
    spread = jax.random.uniform(spread_key, minval=0.1, maxval=0.5)
    mean = MEAN_USD_PER_KWH * jnp.exp(spread * jax.random.normal(region_key, utc_offset_h.shape))
    local_hour = jnp.arange(24) + utc_offset_h[:, None]
    swing = jax.random.uniform(swing_key, maxval=0.3)
    return mean[:, None] * (1 + swing * jnp.cos((local_hour - 19) * (2 * jnp.pi / 24)))


def _servers(key: jax.Array, num_regions: int, num_servers: int) -> tuple[jax.Array, jax.Array]:
    """GPU types [R, S] and mask [R, S]: a mix of the cluster, varied by region."""
    count_key, mix_key, region_key, type_key = jax.random.split(key, 4)
    count = jax.random.randint(count_key, (num_regions, 1), (num_servers + 1) // 2, num_servers + 1)
    mask = jnp.arange(num_servers) < count
    mix = jax.random.normal(mix_key, (len(GPUS),)) + jax.random.normal(region_key, (num_regions, len(GPUS)))
    gpu = jax.random.categorical(type_key, mix[:, None], shape=(num_regions, num_servers)).astype(jnp.int32)
    return jnp.where(mask, gpu, 0), mask
