"""Electricity prices by region and hour of the day (UTC)."""

import numpy as np

from torta_jax.cluster import catalogue
from torta_jax.cluster.seeds import generator
from torta_jax.cluster.topology import Topology
from torta_jax.errors import InputError, unknown

PRICES = ("auto", "flat", "hourly", "spread")
MEAN_USD_PER_KWH = 0.14  # mean over Abilene's nodes, for a network without known prices
LOG_STD = 0.33  # of the log price: 0.33 over Abilene's nodes, 0.35 over the Cost2 proxy's


def resolve(topology: Topology, mode: str) -> str:
    """The mode that `auto` stands for: `flat` where every price is known and they differ, else `spread`.

    Raises:
        InputError: unknown mode.
    """
    if mode not in PRICES:
        raise unknown("price mode", mode, PRICES)
    if mode != "auto":
        return mode
    known = np.isfinite(topology.usd_per_kwh).all()
    return "flat" if known and np.ptp(topology.usd_per_kwh) > 0 else "spread"


def price_usd_per_kwh(topology: Topology, mode: str = "auto", *, seed: int = 0) -> np.ndarray:
    """[R, 24] US dollars per kWh by UTC hour.

    Args:
        topology: the network.
        mode: `flat` (the region's state or country price, all day); `hourly` (the same mean in the shape of
            the region's day-ahead market, flat where the catalogue has no market); `spread` (log-normal over
            the regions, all day, around the network's known mean or 0.14); `auto` (see `resolve`).
        seed: of the spread.

    Raises:
        InputError: unknown mode; `flat` or `hourly` with an unknown price; `hourly` with no market at all.
    """
    mode = resolve(topology, mode)
    known = topology.usd_per_kwh[np.isfinite(topology.usd_per_kwh)]
    if mode == "spread":
        mean = known.mean() if known.size else MEAN_USD_PER_KWH
        factor = np.exp(LOG_STD * generator(seed, "prices").standard_normal(topology.num_regions))
        return np.tile((mean * factor / factor.mean())[:, None], 24)
    if known.size < topology.num_regions:
        first = topology.nodes[int(np.isnan(topology.usd_per_kwh).argmax())]
        raise InputError(f"prices {mode!r}: topology {topology.name!r} has no price for region {first!r}; use 'spread'")
    return topology.usd_per_kwh[:, None] * (_shapes(topology) if mode == "hourly" else np.ones(24))


def _shapes(topology: Topology) -> np.ndarray:
    """[R, 24] shape of each region's day, mean 1."""
    markets = [catalogue.PLACES[place].hourly_profile if place else "" for place in topology.places]
    if not any(markets):
        raise InputError(
            f"prices 'hourly': no region of topology {topology.name!r} lies in a market of the catalogue"
            f" ({', '.join(catalogue.HOURLY_PROFILES)}); use 'flat' or 'spread'"
        )
    return np.array([catalogue.HOURLY_PROFILES.get(market, np.ones(24)) for market in markets])
