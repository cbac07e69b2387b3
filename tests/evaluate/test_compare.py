import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from tests.evaluate.fakes import POLICIES, episode, episodes
from torta_jax.errors import InputError
from torta_jax.evaluate import compare
from torta_jax.evaluate.episode import counts, measures
from torta_jax.sim.metrics import BIN_EDGES_S, quantile

COUNTS = ("arrived", "completed", "running", "queued", "buffered", "dropped")


def test_the_interval_is_scipys_percentile_interval_as_much_wider_as_t_is_than_the_bootstraps_normal():
    values = np.random.default_rng(1).gamma(2, size=16)
    wider = scipy.stats.t.interval(0.95, 15, scale=scipy.stats.sem(values))[1]
    wider /= scipy.stats.norm.interval(0.95, scale=values.std() / np.sqrt(16))[1]
    low, high = (values.mean() + (end - values.mean()) / wider for end in compare.bootstrap_mean(values))
    oracle = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    np.testing.assert_allclose([low, high], oracle, atol=0.02 * (oracle.high - oracle.low) + 0.02)


@pytest.mark.parametrize("seeds", [4, 8, 16])
def test_the_interval_covers_the_truth_as_often_as_it_says_also_for_few_seeds(seeds):
    low, high = compare.bootstrap_mean(np.random.default_rng(3).normal(size=(seeds, 4_000)), resamples=1_000)
    assert 0.93 < np.mean((low < 0) & (high > 0)) < 0.965


@pytest.mark.parametrize("seeds", [4, 8, 16])
def test_the_interval_of_skewed_values_covers_no_less_than_students(seeds):
    values = np.random.default_rng(3).gamma(2, size=(seeds, 4_000))
    low, high = compare.bootstrap_mean(values, resamples=1_000)
    covered = np.mean((low < 2) & (high > 2))
    low, high = scipy.stats.t.interval(0.95, seeds - 1, values.mean(axis=0), scipy.stats.sem(values, axis=0))
    assert 0.9 < covered < 0.95
    assert covered > np.mean((low < 2) & (high > 2)) - 0.01


def test_the_same_values_give_the_same_interval_and_columns_do_not_disturb_each_other():
    values = np.random.default_rng(4).normal(size=(8, 3))
    together = compare.bootstrap_mean(values)
    alone = compare.bootstrap_mean(values[:, 1])
    np.testing.assert_allclose([side[1] for side in together], alone, rtol=1e-12)


def test_one_seed_has_no_interval():
    assert np.isnan(compare.bootstrap_mean(np.ones(1))).all()


def test_a_tie_counts_half():
    assert compare.probability_of_improvement(np.array([1.0, 0.0, -1.0, 2.0])) == pytest.approx(0.625)


def test_binned_quantiles_agree_with_numpy_to_a_bin():
    times = np.random.default_rng(5).gamma(4, 4, size=20_000)
    counted = np.histogram(times, bins=BIN_EDGES_S)[0]
    for q in (0.5, 0.99):
        assert quantile(counted, q) == pytest.approx(np.quantile(times, q), rel=0.02)


def test_measures_are_those_of_the_tasks():
    one = episode(seeds=3)
    measured = measures(one)
    assert set(measured) == set(compare.METRICS)
    completed = one.slots.completed.sum(axis=1)
    np.testing.assert_allclose(measured["wait_s"], one.slots.wait_s.sum(axis=1) / completed)
    overhead = one.slots.model_load_s + one.slots.migration_s + one.slots.warmup_s
    np.testing.assert_allclose(measured["overhead_s_per_task"], overhead.sum(axis=1) / completed)
    seconds = one.slots.response_s + 45_000 * one.slots.power_cost_usd + 0.3 * one.slots.warmup_s
    seconds = seconds.sum(axis=1) + 150 * one.slots.dropped.sum(axis=(1, 2))
    eq_1 = seconds / one.slots.arrived.sum(axis=1) + 0.05 * one.slots.switching_cost.mean(axis=1)
    np.testing.assert_allclose(measured["objective_s_per_task"], eq_1, rtol=1e-6)
    worst = [
        max(d / a for d, a in zip(*row, strict=True))
        for row in zip(one.dropped_by_origin, one.arrived_by_origin, strict=True)
    ]
    np.testing.assert_allclose(measured["worst_region_drop_fraction"], worst)


def test_slots_in_which_no_server_worked_are_no_evidence_of_balance():
    whole = episode(seeds=2, slots=4)
    utilisation, balance = np.array([[0.5, 0.0, 0.5, 0.5], [0.0] * 4]), np.array([[0.4, 1.0, 0.6, 0.8], [1.0] * 4])
    idle = whole.replace(slots=whole.slots.replace(utilisation=utilisation, load_balance=balance))
    np.testing.assert_allclose(measures(idle)["load_balance"], [0.6, np.nan])


def test_tasks_are_conserved_in_the_summary_to_the_task():
    summary = compare.summarise(episode(seeds=3))
    assert all(isinstance(summary[name], int) for name in COUNTS)
    assert summary["arrived"] == sum(summary[name] for name in COUNTS[1:])
    assert summary["completed"] == counts(episode(seeds=3))["completed"].sum()


def test_the_document_has_the_published_shape():
    document = compare.document({"topology": "abilene"}, episodes(seeds=2))
    entry = document["policies"]["torta"]
    assert list(document) == ["world", "policies", "paired"]
    assert set(document["policies"]) == set(POLICIES)
    assert set(document["paired"]) == set(POLICIES) - {"skylb"}
    assert list(entry) == [
        *("response_s", "wait_s", "inference_s", "network_s", "objective_s_per_task"),
        *("load_balance", "power_cost_usd", "energy_kwh"),
        *("overhead_s_per_task", "switching_cost", "server_starts", *COUNTS, "worst_region_drop_fraction"),
    ]
    assert list(entry["response_s"]) == ["mean", "p50", "p99"]
    assert list(document["paired"]["torta"]["response_s"]) == [
        *("difference", "low", "high", "probability_of_improvement")
    ]


def test_a_paired_difference_is_the_difference_of_two_entries():
    document = compare.document({}, episodes(seeds=5))
    difference = document["paired"]["torta"]["response_s"]
    own, reference = (document["policies"][name]["response_s"]["mean"] for name in ("torta", "skylb"))
    assert difference["difference"] == pytest.approx(own - reference)
    assert difference["low"] <= difference["difference"] <= difference["high"]


def test_more_load_balance_is_better_and_less_of_all_else():
    better = {name: np.full(4, float(sign)) for name, sign in compare.METRICS.items()}
    worse = {name: np.zeros(4) for name in compare.METRICS}
    differences = compare.paired({"skylb": worse, "torta": better})["torta"]
    assert {difference.probability_of_improvement for difference in differences.values()} == {1.0}
    assert [name for name, sign in compare.METRICS.items() if sign > 0] == ["load_balance"]


def test_an_episode_without_a_completed_task_has_no_times_and_stays_valid_json():
    empty = episode(seeds=2)
    slots = dataclasses.replace(empty.slots, completed=np.zeros_like(empty.slots.completed))
    empty = dataclasses.replace(empty, slots=slots, histogram=np.zeros_like(empty.histogram))
    document = compare.document({}, {"skylb": episode(seeds=2), "torta": empty})
    assert document["policies"]["torta"]["response_s"] == {"mean": None, "p50": None, "p99": None}
    assert document["paired"]["torta"]["response_s"]["probability_of_improvement"] is None
    json.dumps(document, allow_nan=False)


def test_without_the_reference_nothing_is_paired():
    assert compare.document({}, {"torta": episode()})["paired"] == {}
    with pytest.raises(InputError, match="did you mean 'skylb'"):
        compare.paired({"skylb": {}}, "skylbb")


def test_every_policy_has_an_interval_around_its_mean():
    for interval in compare.intervals(measures(episode(seeds=6))).values():
        assert interval.low <= interval.mean <= interval.high
