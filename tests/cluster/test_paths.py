"""Latency and bandwidth of shortest paths, against networkx and by hand."""

import networkx as nx
import numpy as np
import pytest

from torta_jax import cluster
from torta_jax.cluster.paths import FIBRE_KM_PER_S
from torta_jax.errors import InputError


def network(links, bandwidth, regions=4):
    """A planar network from {(a, b): km}."""
    return cluster.Topology(
        name="tiny",
        title="tiny",
        nodes=tuple("abcdefgh"[:regions]),
        position=np.zeros((regions, 2)),
        links=np.array(list(links)),
        distance_km=np.array(list(links.values()), float),
        bandwidth_gbps=np.array(bandwidth, float),
        usd_per_kwh=np.full(regions, np.nan),
        places=("",) * regions,
        planar=True,
    )


def test_a_hand_computed_network_has_the_paths_it_should():
    # 0 -1- 1 -1- 2 is shorter than 0 -3- 2; region 3 hangs on 2
    topology = network({(0, 1): 1, (1, 2): 1, (0, 2): 3, (2, 3): 4}, [10, 4, 100, 7])
    km = [[0, 1, 2, 6], [1, 0, 1, 5], [2, 1, 0, 4], [6, 5, 4, 0]]
    gbps = [[np.inf, 10, 4, 4], [10, np.inf, 4, 4], [4, 4, np.inf, 7], [4, 4, 7, np.inf]]
    np.testing.assert_allclose(cluster.latency_s(topology) * FIBRE_KM_PER_S, km)
    np.testing.assert_array_equal(cluster.bandwidth_gbps(topology), gbps)


@pytest.mark.parametrize("name", ["abilene", "polska", "gabriel", "cost2", "sndlib/germany50"])
def test_latency_is_that_of_networkx_symmetric_and_a_metric(name):
    topology = cluster.load(name)
    graph = nx.Graph()
    for (a, b), km in zip(topology.links, topology.distance_km, strict=True):
        graph.add_edge(int(a), int(b), km=km)
    paths = dict(nx.all_pairs_dijkstra_path_length(graph, weight="km"))
    regions = range(topology.num_regions)
    expected = np.array([[paths[a][b] for b in regions] for a in regions])
    latency = cluster.latency_s(topology)
    np.testing.assert_allclose(latency, expected / (299_792.458 * 2 / 3), rtol=1e-12)
    np.testing.assert_array_equal(latency, latency.T)
    assert (np.diag(latency) == 0).all()
    assert (latency[:, None] + latency.T >= latency[..., None] - 1e-12).all()  # via the middle axis


def test_bandwidth_is_the_narrowest_link_of_networkxs_path():
    rng = np.random.default_rng(5)
    graph = nx.connected_watts_strogatz_graph(30, 4, 0.4, seed=5)
    links = {edge: rng.uniform(1, 100) for edge in graph.edges}
    bandwidth = rng.uniform(1, 50, len(links))
    for (a, b), gbps in zip(links, bandwidth, strict=True):
        graph[a][b].update(km=links[a, b], gbps=gbps)
    nodes = tuple(f"n{i}" for i in range(30))
    topology = cluster.Topology(
        "random", "random", nodes, np.zeros((30, 2)), np.array(list(links)), np.array(list(links.values())),
        bandwidth, np.full(30, np.nan), ("",) * 30, planar=True,
    )  # fmt: skip
    width = cluster.bandwidth_gbps(topology)
    for a, paths in nx.all_pairs_dijkstra_path(graph, weight="km"):
        for b, path in paths.items():
            expected = min((graph[u][v]["gbps"] for u, v in nx.utils.pairwise(path)), default=np.inf)
            assert width[a, b] == expected


def test_the_mean_latency_of_the_geography_is_milliseconds():
    for name, milliseconds in (("abilene", 11), ("polska", 2), ("gabriel", 1.4), ("cost2", 8)):
        latency = cluster.latency_s(cluster.load(name))
        assert latency[latency > 0].mean() * 1000 == pytest.approx(milliseconds, rel=0.1)


def test_a_latency_that_does_not_exist_is_refused_with_what_does():
    with pytest.raises(InputError, match="abilene, polska, gabriel, cost2"):
        cluster.latency_s(cluster.load("sndlib/germany50"), "paper")
    with pytest.raises(InputError, match="did you mean 'geography'"):
        cluster.latency_s(cluster.load("abilene"), "geographic")


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ({(0, 1): 1, (2, 3): 1}, "disconnected.*'a' to 'c'"),
        ({(0, 0): 1}, "to itself"),
        ({(0, 1): 1, (1, 0): 2}, "repeated link"),
        ({(0, 9): 1}, "no region"),
        ({(0, 1): float("nan")}, "distance_km outside"),
        ({(0, 1): -1}, "distance_km outside"),
        ({(0, 1): 0}, "distance_km outside"),
    ],
)
def test_a_network_that_is_none_is_refused(links, said):
    with pytest.raises(InputError, match=said):
        network(links, np.ones(len(links)))
