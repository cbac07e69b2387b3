"""Random clusters, thousands of different ones from one call: pure JAX, for jit and for vmap over keys."""

import jax
import jax.numpy as jnp
from jax import lax

from torta_jax.calibration import CALIBRATED
from torta_jax.cluster.catalogue import GPUS
from torta_jax.cluster.fleet import equip
from torta_jax.cluster.paths import FIBRE_KM_PER_S
from torta_jax.cluster.prices import MEAN_USD_PER_KWH
from torta_jax.errors import require
from torta_jax.types import Cluster

SIDE_KM = (500.0, 8000.0)  # from a country to a continent and a half
GRID = 2**14  # steps along a side; the sum of two squared distances fits in int32
KM_PER_DEGREE = 85.0  # of longitude, at 40 degrees north
LINK_GBPS = (10.0, 15.0, 20.0)  # the values of Table I


def random_cluster(
    key: jax.Array,
    num_regions: int,
    num_servers: int,
    num_lanes: int = 1,
    *,
    size: float | jax.Array = 1.0,
    spread: float | jax.Array = 1.0,
    speed_spread: float | jax.Array = CALIBRATED.speed_spread,
    mismatch: float | jax.Array = CALIBRATED.mismatch,
    switch_factor: float | jax.Array = CALIBRATED.switch_factor,
) -> Cluster:
    """A connected cluster with its own geography, prices, demand and mix of GPUs.

    Regions lie at random in a square (side 500 to 8000 km, x runs along a parallel at 40 degrees north) and
    are linked as a Gabriel graph, which is always connected; latency is light in fibre along its shortest
    paths. Prices are log-normal over regions, with an evening peak; demand weights are uniform from 1 to 8.
    Each region has between half of `num_servers` and all of them, or of the share `size` of these (the rest is
    padding), in a mix of its own. With a `spread` of zero regions have equal demand, equally many servers, and a mix
    of GPUs in common.
    A key gives the same bits in a batch of any size.

    Args:
        key: a typed key; under vmap, one per cluster.
        num_regions: R, 1 to 16384 (static).
        num_servers: S, 1 to 16384 (static).
        num_lanes: L, 1 to 16384 (static).
        size: share of `num_servers` that a region has at most, in (0, 1] and one server at least; may be traced.
        spread: how much of this regions differ by in demand, number of servers and mix, in [0, 1]; may be traced.
        speed_spread, mismatch, switch_factor: see `equip`; may be traced.

    Raises:
        InputError: a size out of range.
    """
    for name, number in (("num_regions", num_regions), ("num_servers", num_servers), ("num_lanes", num_lanes)):
        require(1 <= number <= GRID, f"{name} {number}: not from 1 to {GRID}")
    place_key, side_key, link_key, price_key, demand_key, server_key = jax.random.split(key, 6)
    grid = _grid(place_key, num_regions)
    length, bandwidth_gbps = _shortest_paths(grid, link_key)
    low, high = jnp.log(jnp.asarray(SIDE_KM))
    km = jnp.exp(jax.random.uniform(side_key, minval=low, maxval=high)) / GRID
    utc_offset_h = (grid[:, 0] - GRID // 2) * (km / KM_PER_DEGREE / 15)
    weight = 2**12 + _below(7 * 2**12, demand_key, (num_regions,))
    weight = _nearer(weight, 9 * 2**11, spread)  # whole: the sum has no rounding, no order
    gpu, mask = _servers(server_key, num_regions, num_servers, size, spread)
    return Cluster(
        latency_s=length * (km / FIBRE_KM_PER_S),
        bandwidth_gbps=bandwidth_gbps,
        price_usd_per_kwh=_prices(price_key, utc_offset_h),
        utc_offset_h=utc_offset_h,
        demand_share=weight / weight.sum(),
        **equip(
            gpu,
            mask,
            speed_spread=speed_spread,
            mismatch=mismatch,
            switch_factor=switch_factor,
            lanes=num_lanes,
        ),
    )


def _grid(key: jax.Array, num_regions: int) -> jax.Array:
    """[R, 2] int32 positions in [0, GRID); whole numbers, so that geometry is exact on every device.

    Each region has a strip of x of its own, so that no two coincide.
    """
    order, x, y = _below(2**16, key, (3, num_regions))
    width = GRID // num_regions
    return jnp.stack([jnp.argsort(order) * width + x % width, y % GRID], axis=-1)


def _shortest_paths(grid: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[R, R] shortest paths in the Gabriel graph: length, and narrowest link (inf on the diagonal)."""
    regions = len(grid)
    squared = jnp.sum((grid[:, None] - grid) ** 2, axis=-1)
    # a link wherever no third region lies in the circle on it as diameter; it holds the minimum spanning tree
    linked = jnp.min(squared[:, None] + squared, axis=-1) >= squared
    draw = jnp.asarray(LINK_GBPS)[_below(len(LINK_GBPS), key, (regions, regions))]
    itself = jnp.eye(regions, dtype=bool)
    width = jnp.where(itself, jnp.inf, jnp.where(linked, jnp.minimum(draw, draw.T), 0.0))
    length = jnp.where(linked, jnp.sqrt(squared.astype(draw.dtype)), jnp.inf)

    def through(k, paths):  # Floyd and Warshall
        length, width = paths
        detour = length[:, k, None] + length[k]
        shorter = detour < length
        narrowest = jnp.minimum(width[:, k, None], width[k])
        return jnp.where(shorter, detour, length), jnp.where(shorter, narrowest, width)

    return lax.fori_loop(0, regions, through, (length, width))


def _prices(key: jax.Array, utc_offset_h: jax.Array) -> jax.Array:
    """[R, 24] mean about 0.14, log std 0.1 to 0.5 over regions, up to 30 % higher at 19:00 local time."""
    spread_key, region_key, swing_key = jax.random.split(key, 3)
    spread = jax.random.uniform(spread_key, minval=0.1, maxval=0.5)
    mean = MEAN_USD_PER_KWH * jnp.exp(spread * jax.random.normal(region_key, utc_offset_h.shape))
    local_hour = jnp.arange(24) + utc_offset_h[:, None]
    swing = jax.random.uniform(swing_key, maxval=0.3)
    return mean[:, None] * (1 + swing * jnp.cos((local_hour - 19) * (2 * jnp.pi / 24)))


def _servers(key: jax.Array, num_regions: int, num_servers: int, size, spread) -> tuple[jax.Array, jax.Array]:
    """GPU types [R, S] and mask [R, S]: a mix of the cluster, varied by region."""
    count_key, mix_key, type_key = jax.random.split(key, 3)
    most = jnp.clip(jnp.ceil(size * num_servers), 1, num_servers).astype(jnp.int32)
    least = (most + 1) // 2
    number = least + _below(most + 1 - least, count_key, (num_regions, 1))
    mask = jnp.arange(num_servers) < _nearer(number, (least + most) / 2, spread)
    weight = 1 + _below(64, mix_key, (1 + num_regions, len(GPUS)))
    bound = jnp.cumsum(weight[0] * _nearer(weight[1:], 32, spread), axis=-1)[:, None]  # [R, 1, G]
    pick = _below(bound[..., -1], type_key, mask.shape)
    gpu = jnp.sum(pick[..., None] >= bound, axis=-1, dtype=jnp.int32)
    return jnp.where(mask, gpu, 0), mask


def _nearer(whole: jax.Array, middle, spread) -> jax.Array:
    """Whole numbers whose distance from a middle is the share `spread` (in 256ths: exact) of what it was."""
    return jnp.round(middle + jnp.round(256 * spread) / 256 * (whole - middle)).astype(jnp.int32)


def _below(bound: int | jax.Array, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """int32 from 0 to below `bound`, at most 2**16; cheap to compile, and exact on every device."""
    return jax.random.bits(key, shape, jnp.uint16).astype(jnp.int32) % bound
