"""What stands still: networks of regions, fleets of GPUs, electricity prices.

>>> from torta_jax import cluster
>>> cluster.build("abilene").num_regions
12
"""

from torta_jax.cluster.build import build, demand_share
from torta_jax.cluster.catalogue import GPU, GPUS, PAPER_NETWORKS
from torta_jax.cluster.fleet import equip, place_servers
from torta_jax.cluster.network_csv import from_csv
from torta_jax.cluster.networks import load, names
from torta_jax.cluster.paths import bandwidth_gbps, latency_s
from torta_jax.cluster.prices import price_usd_per_kwh
from torta_jax.cluster.prices import resolve as resolve_prices
from torta_jax.cluster.random import random_cluster
from torta_jax.cluster.topology import Topology

__all__ = [
    "GPU",
    "GPUS",
    "PAPER_NETWORKS",
    "Topology",
    "bandwidth_gbps",
    "build",
    "demand_share",
    "equip",
    "from_csv",
    "latency_s",
    "load",
    "names",
    "place_servers",
    "price_usd_per_kwh",
    "random_cluster",
    "resolve_prices",
]
