"""What the network does between two regions: latency and bandwidth of the shortest path."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from torta_jax.cluster.networks import names
from torta_jax.cluster.topology import Topology
from torta_jax.errors import InputError, unknown

FIBRE_KM_PER_S = 299_792.458 * 2 / 3  # light in glass, refractive index about 1.5
LATENCIES = ("geography", "paper")


def latency_s(topology: Topology, mode: str = "geography") -> np.ndarray:
    """[R, R] one-way seconds, symmetric, zero on the diagonal.

    Args:
        topology: the network.
        mode: `geography` (light in fibre along the shortest path) or `paper` (Table I's constant between any
            two different regions).

    Raises:
        InputError: unknown mode, or `paper` for a network the paper does not have.
    """
    if mode not in LATENCIES:
        raise unknown("latency mode", mode, LATENCIES)
    if mode == "geography":
        return _shortest(topology)[0] / FIBRE_KM_PER_S
    if topology.paper_latency_s is None:
        raise InputError(
            f"latency 'paper': the paper has no constant for topology {topology.name!r}, only for"
            f" {', '.join(names())}; use 'geography'"
        )
    return topology.paper_latency_s * (1 - np.eye(topology.num_regions))


def bandwidth_gbps(topology: Topology) -> np.ndarray:
    """[R, R] narrowest link of the shortest path, symmetric, infinite on the diagonal."""
    distance, before = _shortest(topology)
    regions = topology.num_regions
    link = _matrix(topology, topology.bandwidth_gbps).toarray()
    width = np.full((regions, regions), np.inf)
    sources = np.arange(regions)
    # from each source outwards: the k-th nearest region inherits from the one before it on its path
    for region in np.argsort(distance, axis=1, kind="stable").T[1:]:
        previous = before[sources, region]
        width[sources, region] = np.minimum(width[sources, previous], link[previous, region])
    return np.maximum(width, width.T)  # of two equally short paths, the wider


def _shortest(topology: Topology) -> tuple[np.ndarray, np.ndarray]:
    """[R, R] length in km of the shortest path and the region before the last on it."""
    graph = _matrix(topology, topology.distance_km)
    distance, before = shortest_path(graph, directed=False, return_predecessors=True)
    return np.minimum(distance, distance.T), before  # the two directions differ by rounding


def _matrix(topology: Topology, values: np.ndarray):
    """Sparse symmetric [R, R] of one value per link."""
    source, target = topology.links.T
    size = (topology.num_regions,) * 2
    both = np.concatenate([values, values]), (np.r_[source, target], np.r_[target, source])
    return coo_array(both, shape=size).tocsr()
