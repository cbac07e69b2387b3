"""A user's own network, from a CSV file of regions and one of links."""

import dataclasses
import math
from pathlib import Path

import numpy as np

from torta_jax.cluster import catalogue
from torta_jax.cluster.csv_table import Row, Table, read_table
from torta_jax.cluster.topology import (
    BANDWIDTH_GBPS,
    DEFAULT_BANDWIDTH_GBPS,
    DISTANCE_KM,
    PRICE_USD_PER_KWH,
    Topology,
    straight_km,
)
from torta_jax.errors import InputError, require, unknown

NODE_COLUMNS = ("name", "longitude", "latitude", "x_km", "y_km", "place", "usd_per_kwh")
LINK_COLUMNS = ("source", "target", "distance_km", "bandwidth_gbps")


def from_csv(nodes_path: str | Path, links_path: str | Path, *, name: str = "custom") -> Topology:
    """A user's own network.

    Args:
        nodes_path: CSV with a header. Columns: `name`; `longitude`, `latitude` in degrees, or `x_km`, `y_km`;
            optional `usd_per_kwh` and `place` (a state or country of the catalogue, which gives a price where
            `usd_per_kwh` is empty, and the hourly profile).
        links_path: CSV with a header. Columns: `source`, `target` (names of nodes); optional `distance_km`
            (default: the straight line, or the great circle) and `bandwidth_gbps` (default 10).
        name: what to call it.

    Raises:
        InputError: names the file, the line, the column and the allowed range.
    """
    return _read(nodes_path, links_path, name, name, DEFAULT_BANDWIDTH_GBPS)


def paper_network_from_csv(nodes_path: Path, links_path: Path, name: str, paper: catalogue.PaperNetwork) -> Topology:
    """A network of the paper whose graph lies in the catalogue."""
    topology = _read(nodes_path, links_path, name, paper.title, paper.bandwidth_gbps)
    return dataclasses.replace(topology, paper_latency_s=paper.latency_s)


def _read(nodes_path: str | Path, links_path: str | Path, name: str, title: str, bandwidth_gbps: float) -> Topology:
    nodes = read_table(nodes_path, NODE_COLUMNS)
    planar = "x_km" in nodes.columns or "y_km" in nodes.columns
    nodes.need("name", *(("x_km", "y_km") if planar else ("longitude", "latitude")))
    both = planar and bool({"longitude", "latitude"} & set(nodes.columns))
    require(not both, f"{nodes_path}: give longitude and latitude, or x_km and y_km, not both")
    node_names = _unique_names(nodes)
    require(len(node_names) >= 2, f"{nodes_path}: one region, at least 2 are needed")
    position = np.array([_position(row, planar) for row in nodes.rows])
    links, distances, bandwidths = _links(links_path, node_names, position, planar, bandwidth_gbps)
    prices = np.array([_price(row) for row in nodes.rows])
    places = tuple(row.cells.get("place", "") for row in nodes.rows)
    try:
        return Topology(name, title, node_names, position, links, distances, bandwidths, prices, places, planar)
    except InputError as error:  # what no single row shows: a network in several parts
        raise InputError(f"{links_path}: {error}") from None


def _unique_names(nodes: Table) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for row in nodes.rows:
        name = row.text("name")
        require(name not in seen, f"{row.where}, column 'name': {name!r} appears twice")
        seen[name] = None
    return tuple(seen)


def _position(row: Row, planar: bool) -> tuple[float, float]:
    if planar:
        return row.number("x_km", -1e5, 1e5), row.number("y_km", -1e5, 1e5)
    return row.number("longitude", -180, 180), row.number("latitude", -90, 90)


def _price(row: Row) -> float:
    """The node's own price, else its place's, else NaN; a place must be known even where a price is given."""
    try:
        default = catalogue.place(row.cells["place"]).usd_per_kwh if row.cells.get("place") else math.nan
    except InputError as error:
        raise InputError(f"{row.where}, column 'place': {error}") from None
    return row.number_or("usd_per_kwh", *PRICE_USD_PER_KWH, default)


def _links(
    path: str | Path, nodes: tuple[str, ...], position: np.ndarray, planar: bool, bandwidth_gbps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Links as pairs of indices [E, 2], their lengths [E] and bandwidths [E]."""
    table = read_table(path, LINK_COLUMNS)
    table.need("source", "target")
    index = {name: i for i, name in enumerate(nodes)}
    links: dict[tuple[int, int], tuple[float, float]] = {}
    for row in table.rows:
        source, target = sorted(_end(row, column, index) for column in ("source", "target"))
        require(source != target, f"{row.where}: a link from {nodes[source]!r} to itself")
        twice = (source, target) in links
        require(not twice, f"{row.where}: the link {nodes[source]!r}, {nodes[target]!r} appears twice")
        straight = straight_km(position[source], position[target], planar)
        length = row.number_or("distance_km", *DISTANCE_KM, straight)
        low, high = DISTANCE_KM
        require(
            low <= length <= high,
            f"{row.where}: regions {length:g} km apart; give a 'distance_km' from {low:g} to {high:g}",
        )
        links[source, target] = length, row.number_or("bandwidth_gbps", *BANDWIDTH_GBPS, bandwidth_gbps)
    distances, bandwidths = np.array(list(links.values())).T
    return np.array(list(links)), distances, bandwidths


def _end(row: Row, column: str, index: dict[str, int]) -> int:
    name = row.text(column)
    if name not in index:
        raise InputError(f"{row.where}, column {column!r}: {unknown('region', name[:40], index)}")
    return index[name]
