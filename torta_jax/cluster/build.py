"""A cluster from a topology, a fleet and prices."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from torta_jax.calibration import CALIBRATED
from torta_jax.cluster import fleet, networks, paths
from torta_jax.cluster import prices as electricity
from torta_jax.cluster.seeds import generator
from torta_jax.cluster.topology import Topology
from torta_jax.errors import require, unknown
from torta_jax.types import Cluster

DEMANDS = ("equal", "random")
MAX_LANES = 1024

_equip = jax.jit(fleet.equip, static_argnames="lanes")  # one compilation instead of fifty


def build(
    topology: str | Topology = "abilene",
    *,
    scope: str = "total",
    counts: str | Mapping[str, int] = "midpoint",
    max_servers: int | None = None,
    lanes: int = 1,
    speed_spread: float = CALIBRATED.speed_spread,
    mismatch: float = CALIBRATED.mismatch,
    switch_factor: float = CALIBRATED.switch_factor,
    prices: str = "auto",
    latency: str = "geography",
    demand: str = "equal",
    seed: int = 0,
) -> Cluster:
    """A cluster on the device, in JAX's default float type.

    Args:
        topology: a name for `load`, or a `Topology`.
        scope, counts, max_servers: the fleet, see `place_servers`.
        lanes: execution lanes of each server, 1 to 1024; models that do not fit together may run side by side on them.
        speed_spread: exponent on the GPU types' relative speeds, 0 to 10 (0: all equally fast, 1: the catalogue's).
        mismatch: speed factor in (0, 1] of a task on a GPU meant for another kind; 0.5 is TypeMatch of Eq 8.
        switch_factor: scales the seconds of a model switch, 0 to 100 (1: Fig 3a).
        prices: see `price_usd_per_kwh`.
        latency: see `latency_s`.
        demand: the regions' shares of arrivals, `equal` or `random` (log-normal, log std 0.5).
        seed: of the placement, and of every option that draws; each option has a stream of its own.

    Raises:
        InputError: unknown name or option, or a number out of range.
    """
    network = networks.load(topology) if isinstance(topology, str) else topology
    _check("speed_spread", speed_spread, 0, 10)
    _check("mismatch", mismatch, 1e-3, 1)
    _check("switch_factor", switch_factor, 0, 100)
    require(isinstance(lanes, int) and 1 <= lanes <= MAX_LANES, f"lanes {lanes!r}: not from 1 to {MAX_LANES}")
    gpu, mask = fleet.place_servers(network.num_regions, scope=scope, counts=counts, max_servers=max_servers, seed=seed)
    servers = _equip(
        jnp.asarray(gpu),
        jnp.asarray(mask),
        speed_spread=speed_spread,
        mismatch=mismatch,
        switch_factor=switch_factor,
        lanes=lanes,
    )
    return Cluster(
        latency_s=jnp.asarray(paths.latency_s(network, latency)),
        bandwidth_gbps=jnp.asarray(paths.bandwidth_gbps(network)),
        price_usd_per_kwh=jnp.asarray(electricity.price_usd_per_kwh(network, prices, seed=seed)),
        utc_offset_h=jnp.asarray(network.utc_offset_h),
        demand_share=jnp.asarray(demand_share(network.num_regions, demand, seed=seed)),
        **servers,
    )


def demand_share(num_regions: int, mode: str = "equal", *, seed: int = 0) -> np.ndarray:
    """[R] share of all arrivals, sums to 1: `equal`, or `random` (log-normal, log std 0.5).

    Raises:
        InputError: unknown mode.
    """
    if mode not in DEMANDS:
        raise unknown("demand mode", mode, DEMANDS)
    weight = np.ones(num_regions)
    if mode == "random":
        weight = np.exp(0.5 * generator(seed, "demand").standard_normal(num_regions))
    return weight / weight.sum()


def _check(name: str, value: float, low: float, high: float) -> None:
    number = isinstance(value, int | float | np.number)
    require(number and bool(low <= value <= high), f"{name} {value!r}: not a number from {low:g} to {high:g}")
