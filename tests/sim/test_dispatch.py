"""Where tasks go: the draw from the routing matrix, and the rule that looks at loads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.references.clusters import reference_cluster
from torta_jax.sim.dispatch import RegionLoad, Rule, first_choice, live_matrix, overflow, realised_shares

MATRIX = np.array([[0.1, 0.6, 0.3], [0.0, 1.0, 0.0], [0.5, 0.0, 0.5]])


def choose(matrix, source, draw, cyclic=False):
    rule, turn = Rule(cyclic=cyclic), jnp.arange(len(draw))
    return np.asarray(first_choice(jnp.asarray(matrix), rule, jnp.asarray(source), jnp.asarray(draw), turn))


def test_first_choice_is_the_inverse_of_the_cumulative_row():
    rng = np.random.default_rng(0)
    source, draw = rng.integers(0, 3, 20_000), rng.uniform(size=20_000).astype(np.float32)
    expected = [np.searchsorted(np.cumsum(MATRIX[s]), u, side="right") for s, u in zip(source, draw, strict=True)]
    off = choose(MATRIX, source, draw) != expected
    assert off.mean() < 1e-4  # a draw within a rounding of an edge
    counts = np.stack([np.bincount(choose(MATRIX, source, draw)[source == s], minlength=3) for s in range(3)])
    np.testing.assert_allclose(counts / counts.sum(axis=1, keepdims=True), MATRIX, atol=0.02)


def test_a_region_with_share_zero_is_never_chosen():
    draw = np.array([0.0, 0.5, np.nextafter(np.float32(1), np.float32(0))], np.float32)
    assert (choose(MATRIX, np.ones(3, int), draw) == 1).all()
    assert (choose(MATRIX, np.full(3, 2), draw) == [0, 2, 2]).all()


@pytest.mark.parametrize("alive", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 1, 0]])
def test_cyclic_rules_visit_the_live_regions_in_turn(alive):
    alive = np.array(alive, bool)
    matrix, _ = live_matrix(jnp.full((4, 4), 0.25), jnp.asarray(alive))
    found = choose(matrix, np.zeros(12, int), np.zeros(12), cyclic=True)
    np.testing.assert_array_equal(found, np.resize(np.flatnonzero(alive), 12))


def test_live_matrix_drops_dead_regions_and_spreads_a_row_that_loses_all():
    found, lost = live_matrix(jnp.asarray(MATRIX), jnp.array([True, False, True]))
    np.testing.assert_allclose(found, [[0.25, 0, 0.75], [0.5, 0, 0.5], [0.5, 0, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(lost, [False, True, False])


def test_nothing_is_divided_by_zero_when_every_region_is_dead():
    assert np.isfinite(live_matrix(jnp.asarray(MATRIX), jnp.zeros(3, bool))[0]).all()


def overflow_by_hand(latency, rule, outstanding, lanes, service_s, alive, times, sources, choices, lost):
    outstanding, clock, result = list(outstanding), 0.0, []
    lanes = [n if up else 0 for n, up in zip(lanes, alive, strict=True)]
    for time, source, choice in zip(times, sources, choices, strict=True):
        for r, n in enumerate(lanes):
            turns = (time - clock) / service_s[r]
            served_in_full = n * turns  # by lanes that are busy to the end, or by those that still are at the end
            busy = outstanding[r] - served_in_full >= n
            outstanding[r] = outstanding[r] - served_in_full if busy else outstanding[r] / (1 + turns)
        clock = time
        load = [outstanding[r] / n if n else np.inf for r, n in enumerate(lanes)]
        cost = [
            rule.latency_weight * latency[source][r] + rule.load_weight * min(load[r], 1e6) for r in range(len(lanes))
        ]
        with_room = [r for r in range(len(lanes)) if alive[r] and load[r] < rule.room_below]
        region = choice
        if lost[source] or not load[choice] < rule.keep_below:
            live = [r for r in range(len(lanes)) if alive[r]]
            if with_room:
                region = min(with_room, key=lambda r: cost[r])
            elif lost[source] or not alive[choice]:
                region = min(live, key=lambda r: cost[r])
        outstanding[region] += 1
        result.append(region)
    return result


@pytest.mark.parametrize("seed", range(12))
def test_overflow_agrees_with_a_loop_over_tasks(seed):
    rng = np.random.default_rng(seed)
    regions, tasks, rows = 4, 25, 32
    rule = Rule(
        keep_below=[0.0, 0.9, 2.0][seed % 3],
        room_below=[0.9, np.inf, 1.5, 0.2][seed % 4],
        latency_weight=rng.uniform(0, 20),
        load_weight=rng.uniform(0.1, 1),
    )
    cluster = reference_cluster(regions, 2)
    outstanding, lanes = rng.integers(0, 9, regions), rng.integers(0, 5, regions)
    service_s, alive = rng.uniform(5, 20, regions), rng.uniform(size=regions) < 0.8
    alive[0] = True
    lost = rng.uniform(size=regions) < 0.3
    times = np.sort(rng.uniform(0, 45, tasks))
    sources, choices = rng.integers(0, regions, (2, tasks))
    at = np.sort(rng.permutation(rows)[:tasks])
    mask, padded = np.zeros(rows, bool), np.zeros((3, rows))
    mask[at], padded[:, at] = True, (times, sources, choices)
    with jax.enable_x64(True):
        load = RegionLoad(jnp.asarray(outstanding), jnp.asarray(lanes), jnp.asarray(service_s))
        found = overflow(
            cluster,
            rule,
            load,
            jnp.asarray(alive),
            jnp.asarray(padded[0]),
            jnp.asarray(padded[1], jnp.int32),
            jnp.asarray(padded[2], jnp.int32),
            jnp.asarray(mask),
            jnp.asarray(lost),
        )
    expected = overflow_by_hand(
        np.asarray(cluster.latency_s, float), rule, outstanding, lanes, service_s, alive, times, sources, choices, lost
    )
    np.testing.assert_array_equal(np.asarray(found)[at], expected)


def test_an_emptier_region_stays_the_emptier_one_however_long_nothing_arrives():
    """Of regions that differ in their outstanding tasks alone; all that arrive go to the one that began with none."""
    load = RegionLoad(jnp.array([9, 3, 0]), jnp.full(3, 10), jnp.full(3, 15.0))
    rule = Rule(keep_below=0.0, latency_weight=0.0, load_weight=1.0)
    for first_s in (1.0, 20.0, 40.0):
        time_s = jnp.array([first_s, 44.0])
        none, every, lost = jnp.zeros(2, jnp.int32), jnp.ones(2, bool), jnp.zeros(3, bool)
        found = overflow(reference_cluster(3, 1), rule, load, jnp.ones(3, bool), time_s, none, none, every, lost)
        assert found[0] == 2, first_s


def test_overflow_never_looks_at_loads_where_the_matrix_decides():
    load = RegionLoad(jnp.array([90, 0]), jnp.array([1, 9]), jnp.ones(2))
    choice = jnp.array([0, 1, 0])
    time_s, source, every = jnp.zeros(3), jnp.zeros(3, jnp.int32), jnp.ones(3, bool)
    both = jnp.ones(2, bool)
    found = overflow(reference_cluster(2, 1), Rule(), load, both, time_s, source, choice, every, both)
    np.testing.assert_array_equal(found, choice)


def test_realised_shares_count_tasks_and_keep_the_row_of_an_origin_without_any():
    previous = jnp.asarray(MATRIX)
    mask = jnp.array([True, True, True, False])
    found = realised_shares(jnp.array([0, 0, 2, 1]), jnp.array([1, 2, 2, 0]), mask, previous)
    np.testing.assert_allclose(found, [[0, 0.5, 0.5], MATRIX[1], [0, 0, 1]])
