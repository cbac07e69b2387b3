"""Random clusters: valid, different, and the same whatever the batch."""

import jax
import numpy as np
import pytest
from scipy.sparse.csgraph import shortest_path

from torta_jax import cluster
from torta_jax.cluster.paths import FIBRE_KM_PER_S
from torta_jax.cluster.random import _grid, _shortest_paths
from torta_jax.errors import InputError

batch_of = jax.jit(jax.vmap(lambda key: cluster.random_cluster(key, 12, 16, 2)))
KEYS = jax.random.split(jax.random.key(0), 2000)


@pytest.fixture(scope="module")
def thousands():
    return batch_of(KEYS)


def test_thousands_of_clusters_from_one_call_are_valid_and_all_different(thousands, check_cluster):
    check_cluster(thousands, 12, 16, 2)
    for name in ("latency_s", "price_usd_per_kwh", "demand_share", "gpu"):
        rows = np.asarray(getattr(thousands, name)).reshape(len(KEYS), -1)
        assert len(np.unique(rows, axis=0)) == len(KEYS), name
    servers = np.asarray(thousands.server_mask.sum(axis=-1))
    assert servers.min() == 8
    assert servers.max() == 16


def test_latency_is_light_in_fibre_over_at_most_a_continent_and_a_half(thousands):
    longest_km = np.asarray(thousands.latency_s).max(axis=(1, 2)) * FIBRE_KM_PER_S
    assert 100 < longest_km.min() < 1000
    assert 8000 < longest_km.max() < 2 * 8000


@pytest.mark.parametrize("size", [1, 7])
def test_a_cluster_has_the_same_bits_in_a_batch_of_any_size(thousands, size):
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:size], b), thousands, batch_of(KEYS[:size]))


@pytest.mark.parametrize(("regions", "servers", "lanes"), [(1, 1, 1), (25, 10, 4)])
def test_every_shape_gives_a_valid_cluster(regions, servers, lanes, check_cluster):
    one = jax.jit(cluster.random_cluster, static_argnums=(1, 2, 3))
    check_cluster(one(jax.random.key(7), regions, servers, lanes), regions, servers, lanes)


def test_a_share_of_the_servers_is_between_half_of_it_and_all_of_it(check_cluster):
    make = jax.jit(jax.vmap(lambda key, size: cluster.random_cluster(key, 12, 16, size=size)))
    for size, most in ((0.3, 5), (0.5, 8), (1e-9, 1)):
        some = make(KEYS[:50], np.full(50, size))
        check_cluster(some, 12, 16, 1)
        servers = np.asarray(some.server_mask.sum(axis=-1))
        assert servers.min() == (most + 1) // 2
        assert servers.max() == most


def test_without_spread_regions_are_alike_and_the_more_of_it_the_less_so():
    key = jax.random.key(3)
    alike, half, plain = (cluster.random_cluster(key, 12, 16, spread=spread) for spread in (0.0, 0.5, 1.0))
    assert len(set(alike.server_mask.sum(axis=1).tolist())) == len(set(alike.demand_share.tolist())) == 1
    for one, other in ((alike, half), (half, plain)):
        assert one.demand_share.std() < other.demand_share.std()
        assert one.server_mask.sum(axis=1).std() < other.server_mask.sum(axis=1).std()


@pytest.mark.parametrize("seed", range(5))
def test_latency_is_that_of_scipys_shortest_paths_over_a_gabriel_graph(seed):
    place, link = jax.random.split(jax.random.key(seed))
    grid = jax.jit(_grid, static_argnums=1)(place, 20)
    distance, bandwidth = jax.jit(_shortest_paths)(grid, link)
    point = np.asarray(grid, np.float64)
    direct = np.linalg.norm(point[:, None] - point, axis=-1)
    centre = (point[:, None] + point) / 2
    to_centre = np.linalg.norm(centre[:, :, None] - point, axis=-1)  # [a, b, third]
    third = ~(np.eye(20, dtype=bool)[:, None] | np.eye(20, dtype=bool)[None])
    empty = ((to_centre >= direct[..., None] / 2 - 1e-6) | ~third).all(axis=-1)
    expected = shortest_path(np.where(empty, direct, 0))
    np.testing.assert_allclose(distance, expected, rtol=1e-5)
    assert set(np.asarray(bandwidth)[~np.eye(20, dtype=bool)]) <= {10.0, 15.0, 20.0}


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-2, 1, 1)])
def test_an_empty_cluster_is_refused(sizes):
    with pytest.raises(InputError, match="from 1"):
        cluster.random_cluster(jax.random.key(0), *sizes)
