"""Networks by name: their size, their place on earth, and what is refused."""

import re

import networkx as nx
import numpy as np
import pytest
import topohub

from torta_jax import cluster
from torta_jax.errors import InputError


@pytest.mark.parametrize(
    ("name", "regions", "links"),
    [("abilene", 12, 15), ("polska", 12, 18), ("gabriel", 25, 40), ("cost2", 32, 44)],
)
def test_the_papers_networks_have_the_size_of_table_1(name, regions, links):
    topology = cluster.load(name)
    assert (topology.num_regions, len(topology.links)) == (regions, links)
    assert cluster.PAPER_NETWORKS[name].regions == regions


@pytest.mark.parametrize(
    ("name", "gbps", "seconds"),
    [("abilene", 10, 0.025), ("polska", 10, 0.045), ("gabriel", 15, 0.08), ("cost2", 20, 0.15)],
)
def test_table_1_gives_bandwidth_and_the_paper_latency(name, gbps, seconds):
    topology = cluster.load(name)
    different = ~np.eye(topology.num_regions, dtype=bool)
    assert (cluster.bandwidth_gbps(topology)[different] == gbps).all()
    assert (cluster.latency_s(topology, "paper")[different] == seconds).all()
    assert (np.diag(cluster.latency_s(topology, "paper")) == 0).all()


def test_the_stand_in_for_cost2_says_that_it_is_one():
    assert "proxy" in cluster.load("cost2").title


def test_a_network_has_one_name_whichever_way_it_is_asked_for():
    assert cluster.load("sndlib/abilene").name == cluster.load("abilene").name == "abilene"


@pytest.mark.parametrize("key", ["sndlib/germany50", "gabriel/50/3", "topozoo/Aarnet", "sndlib/cost266"])
def test_any_topohub_network_loads_with_its_own_lengths(key):
    topology = cluster.load(key)
    graph = nx.node_link_graph(topohub.get(key), edges="edges")
    assert topology.num_regions == len(graph)
    lengths = sorted(max(1.0, data["dist"]) for *_, data in graph.edges(data=True))
    np.testing.assert_allclose(sorted(topology.distance_km), lengths)


def test_gabriel_graphs_are_planar_and_keep_topohubs_lengths():
    topology = cluster.load("gabriel")
    assert topology.planar
    assert (topology.utc_offset_h == 0).all()
    ends = topology.position[topology.links]
    straight = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    np.testing.assert_allclose(straight, topology.distance_km, atol=0.02)  # topohub rounds to 0.01


def test_local_time_follows_longitude():
    topology = cluster.load("abilene")
    offsets = dict(zip(topology.nodes, topology.utc_offset_h, strict=True))
    assert offsets["NYCMng"] == pytest.approx(-73.97 / 15)
    assert offsets["LOSAng"] == pytest.approx(-118.25 / 15)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("abilen", "did you mean 'abilene'"),
        ("sndlib/germany5", "did you mean 'sndlib/germany50'"),
        ("../../etc/passwd", "unknown topology"),
        ("gabriel/25/../25/0", "unknown topology"),
        ("", "unknown topology"),
        ("a\0/b", "unknown topology"),
        ("sndlib/atlanta", "a drawing's"),
    ],
)
def test_an_unusable_name_is_an_input_error_with_help(name, said):
    with pytest.raises(InputError, match=re.escape(said)):
        cluster.load(name)
