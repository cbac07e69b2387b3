"""A network of regions and the links between them."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from torta_jax.errors import InputError, require

EARTH_RADIUS_KM = 6371.0
DEFAULT_BANDWIDTH_GBPS = 10.0  # Table I's value for Abilene and Polska
DISTANCE_KM = (0.001, 100_000.0)
BANDWIDTH_GBPS = (0.001, 1_000_000.0)
PRICE_USD_PER_KWH = (0.0001, 100.0)


@dataclass(frozen=True, eq=False)
class Topology:
    """A connected, undirected network of R regions and E links, on the host.

    Raises:
        InputError: fewer than two regions, repeated or empty names, a link that is repeated, loops or leaves
            the network, a number out of range, a network in several parts.
    """

    name: str
    title: str  # for tables and figures
    nodes: tuple[str, ...]  # [R] names
    position: np.ndarray  # [R, 2] longitude and latitude in degrees, or x and y in km where `planar`
    links: np.ndarray  # [E, 2] int, pairs of nodes
    distance_km: np.ndarray  # [E]
    bandwidth_gbps: np.ndarray  # [E]
    usd_per_kwh: np.ndarray  # [R] electricity price, NaN where unknown
    places: tuple[str, ...]  # [R] state or country, empty where unknown
    planar: bool = False
    paper_latency_s: float | None = None  # Table I's constant, None for a network the paper does not have

    def __post_init__(self):
        regions, links = len(self.nodes), len(self.links)
        require(regions >= 2, f"topology {self.name!r}: {regions} region, at least 2 are needed")
        require(
            all(self.nodes) and len(set(self.nodes)) == regions,
            f"topology {self.name!r}: empty or repeated names",
        )
        shapes = [(self.position, (regions, 2)), (self.usd_per_kwh, (regions,)), (self.links, (links, 2))]
        shapes += [(self.distance_km, (links,)), (self.bandwidth_gbps, (links,))]
        require(
            all(array.shape == shape for array, shape in shapes) and len(self.places) == regions,
            f"topology {self.name!r}: arrays of a shape other than documented",
        )
        self._check_numbers()
        self._check_links()

    def _check_numbers(self) -> None:
        require(bool(np.isfinite(self.position).all()), f"topology {self.name!r}: a position is not finite")
        known = self.usd_per_kwh[~np.isnan(self.usd_per_kwh)]
        for field, values, (low, high) in (
            ("distance_km", self.distance_km, DISTANCE_KM),
            ("bandwidth_gbps", self.bandwidth_gbps, BANDWIDTH_GBPS),
            ("usd_per_kwh", known, PRICE_USD_PER_KWH),
        ):
            inside = bool(((low <= values) & (values <= high)).all())
            require(inside, f"topology {self.name!r}: {field} outside {low:g} to {high:g}")

    def _check_links(self) -> None:
        regions = len(self.nodes)
        require(len(self.links) > 0, f"topology {self.name!r}: no links")
        low, high = np.sort(self.links, axis=1).T
        require(bool(low.min() >= 0 and high.max() < regions), f"topology {self.name!r}: a link to no region")
        require(bool((low < high).all()), f"topology {self.name!r}: a link from a region to itself")
        once = len(np.unique(low * regions + high)) == len(low)
        require(once, f"topology {self.name!r}: a repeated link")
        graph = coo_array((np.ones(len(low)), (low, high)), shape=(regions, regions))
        parts, label = connected_components(graph.tocsr(), directed=False)
        if parts > 1:
            cut_off = self.nodes[int(np.flatnonzero(label != label[0])[0])]
            raise InputError(
                f"topology {self.name!r}: disconnected, in {parts} parts"
                f" (no path from {self.nodes[0]!r} to {cut_off!r}); every region must reach every other"
            )

    @property
    def num_regions(self) -> int:
        return len(self.nodes)

    @property
    def utc_offset_h(self) -> np.ndarray:
        """[R] hours of local solar time ahead of UTC; zero in a planar network, which has no longitude."""
        return np.zeros(self.num_regions) if self.planar else self.position[:, 0] / 15


def straight_km(a: np.ndarray, b: np.ndarray, planar: bool) -> float:
    """Straight line between two positions in km, or great circle between two of (longitude, latitude)."""
    if planar:
        return math.dist(a, b)
    (lon_a, lat_a), (lon_b, lat_b) = np.radians(a), np.radians(b)
    half_chord = (
        math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(half_chord)))
