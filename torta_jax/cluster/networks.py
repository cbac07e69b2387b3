"""Networks by name: the paper's four, and every other one of topohub."""

import math
from functools import cache
from pathlib import Path

import numpy as np
import topohub

from torta_jax.cluster import catalogue
from torta_jax.cluster.network_csv import paper_network_from_csv
from torta_jax.cluster.topology import DEFAULT_BANDWIDTH_GBPS, Topology
from torta_jax.errors import InputError, require, unknown


def names() -> tuple[str, ...]:
    """The topologies of the paper, by the names that `load` takes."""
    return tuple(catalogue.PAPER_NETWORKS)


def load(name: str) -> Topology:
    """A topology by name: one of `names()`, or any topohub key such as `sndlib/germany50`, `gabriel/50/3`.

    Raises:
        InputError: unknown name, or a topohub network whose coordinates have no meaning in km.
    """
    for paper_name, network in catalogue.PAPER_NETWORKS.items():
        if name == network.topohub:  # the same network by its other name
            name = paper_name
    paper = catalogue.PAPER_NETWORKS.get(name)
    if paper is None:
        return _from_topohub(name, name, None)
    if paper.topohub is not None:
        return _from_topohub(paper.topohub, name, paper)
    folder = catalogue.FOLDER
    return paper_network_from_csv(folder / f"{name}_nodes.csv", folder / f"{name}_links.csv", name, paper)


@cache
def _topohub_keys() -> frozenset[str]:
    folder = Path(topohub.__file__).parent / "data"
    return frozenset(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json"))


def _unknown_topology(name: str) -> InputError:
    """The nearest name among all, the full list of the paper's names only."""
    if "/" not in str(name):
        return unknown("topology", name, names())
    groups = sorted({key.split("/")[0] for key in _topohub_keys()})
    hint = str(unknown("topology", name, _topohub_keys())).partition(" (known:")[0]
    return InputError(f"{hint} (known: {', '.join(names())} and the topohub keys of {', '.join(groups)})")


def _from_topohub(key: str, name: str, paper: catalogue.PaperNetwork | None) -> Topology:
    if key not in _topohub_keys():  # also keeps `..` away from the file system
        raise _unknown_topology(name)
    data = topohub.get(key)
    planar = key.startswith("gabriel/")
    position = np.array([node["pos"] for node in data["nodes"]], float)
    in_degrees = bool((np.abs(position) <= [180, 90]).all())
    require(
        planar or in_degrees,
        f"topology {key!r}: its coordinates are a drawing's, its lengths no km; give your own by from_csv",
    )
    nodes = _node_names(data["nodes"])
    places = tuple(catalogue.NODE_PLACES.get((key, node), "") for node in nodes)
    index = {node["id"]: i for i, node in enumerate(data["nodes"])}
    bandwidth = paper.bandwidth_gbps if paper else DEFAULT_BANDWIDTH_GBPS
    return Topology(
        name=name,
        title=paper.title if paper else key,
        nodes=nodes,
        position=position,
        links=np.array([(index[edge["source"]], index[edge["target"]]) for edge in data["edges"]]),
        # topohub has links of length 0 between sites of one town; 1 km stands for a town's fibre
        distance_km=np.array([max(float(edge["dist"]), 1.0) for edge in data["edges"]]),
        bandwidth_gbps=np.full(len(data["edges"]), bandwidth),
        usd_per_kwh=np.array([catalogue.PLACES[p].usd_per_kwh if p else math.nan for p in places]),
        places=places,
        planar=planar,
        paper_latency_s=paper.latency_s if paper else None,
    )


def _node_names(nodes: list[dict]) -> tuple[str, ...]:
    """The names, made unique by the node's number where topohub has none or repeats one."""
    given = [str(node.get("name") or "node") for node in nodes]
    return tuple(
        name if given.count(name) == 1 else f"{name} #{node['id']}" for name, node in zip(given, nodes, strict=True)
    )
