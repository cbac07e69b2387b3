import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.workload.worlds import SLOT_S, small_cluster
from torta_jax.workload import Synthetic, Trace, TraceTable, Workload, random_scenario

REGIONS, SLOTS = 13, 21  # not multiples of a vector's width


def synthetic():
    return Synthetic.create(max_tasks=300, embedding_dim=24)


def trace():
    times = np.sort(np.random.default_rng(0).uniform(0, SLOTS * SLOT_S, 900))
    tokens = np.arange(900) + 1
    return Trace.from_table(TraceTable("made", times, tokens, tokens), num_slots=SLOTS)


def cluster_of(identity):
    share = np.random.default_rng(identity).dirichlet(np.ones(REGIONS))
    return small_cluster(np.linspace(-8, 1, REGIONS), share, speed=0.4 + identity / 100, times=7)


@pytest.fixture(scope="module", params=["synthetic", "trace"])
def worlds(request):
    """A batch of worlds in one compiled scan; another cluster, scenario and key for each id."""
    workload: Workload = {"synthetic": synthetic, "trace": trace}[request.param]()

    def world(cluster, identity):
        key = jax.random.fold_in(jax.random.key(1), identity)
        happens = random_scenario(jax.random.fold_in(key, 1), SLOTS, REGIONS)
        prepared = workload.prepare(cluster, happens, key, SLOTS, SLOT_S)

        def step(carry, slot):
            return carry, workload.arrivals(prepared, key, slot)

        return prepared, jax.lax.scan(step, None, jnp.arange(SLOTS))[1]

    compiled = jax.jit(jax.vmap(world))

    def run(ids):
        batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *(cluster_of(i) for i in ids))
        return compiled(batch, jnp.asarray(ids))

    return run


@pytest.mark.parametrize("size", [1, 7])
def test_a_world_is_the_same_to_the_bit_in_any_batch(worlds, bits, size):
    whole = worlds(list(range(16)))
    part = worlds(list(range(size)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(part):
        other = leaf_at(whole, path)[:size]
        assert bits(leaf) == bits(other), jax.tree_util.keystr(path)


def test_a_world_is_the_same_to_the_bit_in_any_lane(worlds, bits):
    order = [11, 3, 15, 0, 7, 8, 2]
    whole, shuffled = worlds(list(range(16))), worlds(order)
    for path, leaf in jax.tree_util.tree_leaves_with_path(shuffled):
        assert bits(leaf) == bits(leaf_at(whole, path)[jnp.array(order)]), jax.tree_util.keystr(path)


def leaf_at(tree, path):
    return dict(jax.tree_util.tree_leaves_with_path(tree))[path]
