import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tests.workload.worlds import KEY, SLOT_S, draw, prepare, small_cluster
from torta_jax.errors import InputError
from torta_jax.workload import Surge, Synthetic, calm, draws, scenario
from torta_jax.workload.synthetic import Prepared, fleet_capacity, padding_for

NOISELESS: dict[str, Any] = {"noise_sigma": 0.0, "amplitude": 0.0}


def flat(rate, *, slots=1):
    """Prepared numbers with the given rate per region in every slot."""
    rate = jnp.broadcast_to(jnp.asarray(rate, float), (slots, len(rate)))
    no_topic = jnp.zeros((8, rate.shape[-1], 0))
    return Prepared(rate, jnp.cumsum(rate, -1), no_topic, jnp.asarray(SLOT_S))


def within(value, expected, standard_error):
    """Inside the 99.99 % interval of a normal estimate."""
    assert abs(value - expected) < 3.9 * standard_error, (value, expected, standard_error)


@pytest.mark.parametrize("max_tasks", [128, 32])
def test_the_count_of_a_slot_is_poisson_whatever_the_padding_cuts_off(max_tasks):
    rate, slots = 40.0, 20_000
    workload = Synthetic.create(embedding_dim=0, max_tasks=max_tasks)
    tasks = draw(workload, flat([rate / 2, rate / 2], slots=slots), slots)
    count = np.asarray(tasks.mask.sum(-1) + tasks.overflow.sum((-2, -1)))
    within(count.mean(), rate, np.sqrt(rate / slots))
    # The variance of a Poisson sample variance is (μ + 2μ²)/n.
    within(count.var(ddof=1), rate, np.sqrt((rate + 2 * rate**2) / slots))
    edges = np.arange(25, 56)
    expected = np.diff(np.concatenate([[0], stats.poisson.cdf(edges, rate), [1]])) * slots
    observed = np.bincount(np.searchsorted(edges, count), minlength=len(edges) + 1)
    assert stats.chisquare(observed, expected).pvalue > 1e-4
    if max_tasks == 32:
        assert (tasks.mask.sum(-1) <= 32).all()
        assert tasks.overflow.sum() > 0


def test_regions_are_independent_poisson_with_their_own_rates():
    rate, slots = np.array([20.0, 0.0, 8.0, 2.0, 0.0]), 20_000
    workload = Synthetic.create(embedding_dim=0, max_tasks=96)
    tasks = draw(workload, flat(rate, slots=slots), slots)
    origin = np.where(tasks.mask, tasks.origin, -1)
    count = np.stack([(origin == region).sum(-1) for region in range(5)])
    for region, expected in enumerate(rate):
        within(count[region].mean(), expected, np.sqrt(expected / slots) + 1e-9)
        within(count[region].var(ddof=1), expected, np.sqrt((expected + 2 * expected**2) / slots) + 1e-9)
    within(np.corrcoef(count[0], count[2])[0, 1], 0.0, 1 / np.sqrt(slots))


def test_arrival_times_are_sorted_inside_the_slot_and_uniform():
    workload = Synthetic.create(embedding_dim=0, max_tasks=128)
    tasks = draw(workload, flat([60.0], slots=500), 500)
    assert (np.diff(tasks.arrival_s, axis=-1) >= 0).all()
    assert (tasks.arrival_s >= 0).all()
    assert (tasks.arrival_s < SLOT_S).all()
    assert stats.kstest(np.asarray(tasks.arrival_s)[np.asarray(tasks.mask)] / SLOT_S, "uniform").pvalue > 1e-4
    masked = np.asarray(tasks.mask)
    assert (masked == (np.arange(128) < masked.sum(-1, keepdims=True))).all(), "tasks come before padding"


def test_a_world_without_demand_has_no_tasks(cluster):
    workload = Synthetic.create()
    silent = scenario.compile([Surge(0, 4, 0.0)], 4, 3)
    prepared = prepare(workload, cluster, silent, num_slots=4)
    tasks = draw(workload, prepared, 4)
    assert not tasks.mask.any()
    assert tasks.overflow.sum() == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tasks))


def test_overflow_is_booked_to_the_busiest_region_and_kind_0():
    workload = Synthetic.create(embedding_dim=0, max_tasks=10)
    tasks = draw(workload, flat([5.0, 50.0, 20.0], slots=100), 100)
    elsewhere = tasks.overflow.at[:, 1, 0].set(0)
    assert elsewhere.sum() == 0
    assert (tasks.overflow[:, 1, 0] > 0).all()


def test_load_is_offered_work_over_capacity_at_the_busiest_hour_of_the_fleet(cluster):
    workload = Synthetic.create(
        load=0.7, noise_sigma=0.0, prefill_share=0.2, start_hour_utc=0.0, work_low_s=8.0, work_high_s=22.0
    )
    day = 24 * 60
    rate = prepare(workload, cluster, calm(day, 3), num_slots=day, slot_s=60.0).rate
    offered = np.asarray(rate.sum(-1)) / 60.0 * 15.0  # tasks/s × mean seconds of work
    # Two lanes each of speed 1 and of 1 / (.2/.5 + .8/.25), in three regions.
    capacity = 3 * 2 * (1 + 1 / (0.2 / 0.5 + 0.8 / 0.25))
    np.testing.assert_allclose(fleet_capacity(cluster, 0.2), capacity, rtol=1e-6)
    np.testing.assert_allclose(offered.max(), 0.7 * capacity, rtol=1e-4)


def test_demand_peaks_at_the_local_peak_hour_of_every_region(cluster):
    workload = Synthetic.create(noise_sigma=0.0, peak_hour=15.0, start_hour_utc=0.0, amplitude=0.31)
    rate = np.asarray(prepare(workload, cluster, calm(1440, 3), num_slots=1440, slot_s=60.0).rate)
    peak_utc = (rate.argmax(0) + 0.5) / 60
    np.testing.assert_allclose((peak_utc + np.asarray(cluster.utc_offset_h)) % 24, 15.0, atol=0.1)
    np.testing.assert_allclose(rate.max(0) / rate.min(0), 1.31 / 0.69, rtol=1e-3)
    np.testing.assert_allclose(rate.mean(0) / rate.mean(0).sum(), cluster.demand_share, rtol=1e-4)


def test_noise_has_mean_one_and_the_stated_correlations(cluster):
    settings: dict[str, Any] = {"noise_sigma": 0.3, "noise_time_s": 90.0, "noise_shared": 0.4, "amplitude": 0.0}
    worlds, slots = 400, 200
    noisy, quiet = Synthetic.create(**settings), Synthetic.create(**NOISELESS)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(KEY, jnp.arange(worlds))
    world = partial(prepare, noisy, cluster, calm(slots, 3), num_slots=slots)
    rate = jax.jit(jax.vmap(lambda key: world(key).rate))(keys)
    factor = np.asarray(rate / prepare(quiet, cluster, calm(slots, 3), num_slots=slots).rate)
    by_world = factor.mean((1, 2))
    within(by_world.mean(), 1.0, by_world.std() / np.sqrt(worlds))
    z = (np.log(factor) + 0.3**2 / 2) / 0.3

    def check(product, expected):  # worlds are independent, slots are not
        by_world = product.mean((1, 2)) if product.ndim == 3 else product.mean(1)
        within(by_world.mean(), expected, by_world.std() / np.sqrt(worlds))

    check(z**2, 1.0)
    check(z[:, 1:] * z[:, :-1], np.exp(-SLOT_S / 90.0))
    check(z[:, :, 0] * z[:, :, 1], 0.4)
    check(z[:, :1] ** 2, 1.0)  # stationary from the first slot


def test_a_surge_multiplies_the_rate_of_its_region_and_slots_only(cluster):
    workload = Synthetic.create()
    surge = scenario.compile([Surge(3, 2, 5.0, ["b"])], 8, ["a", "b", "c"])
    ratio = (
        prepare(workload, cluster, surge, num_slots=8).rate / prepare(workload, cluster, calm(8, 3), num_slots=8).rate
    )
    expected = np.ones((8, 3))
    expected[3:5, 1] = 5.0
    np.testing.assert_allclose(ratio, expected, rtol=1e-6)


def test_models_follow_zipf_and_kinds_their_shares():
    workload = Synthetic.create(zipf_exponent=1.2, kind_share=(0.5, 0.2, 0.3), max_tasks=128, embedding_dim=0)
    tasks = draw(workload, flat([90.0], slots=1000), 1000)
    mask = np.asarray(tasks.mask)
    rank = np.arange(1, 9.0) ** -1.2
    for drawn, share in ((tasks.model, rank / rank.sum()), (tasks.kind, np.array([0.5, 0.2, 0.3]))):
        count = np.bincount(np.asarray(drawn)[mask])
        assert stats.chisquare(count, share * mask.sum()).pvalue > 1e-4


def test_the_numbers_of_a_task_are_uniform_and_uncorrelated():
    workload = Synthetic.create(max_tasks=128, prefill_share=0.25, work_low_s=8, work_high_s=22, embedding_dim=0)
    tasks = draw(workload, flat([50.0, 50.0], slots=500), 500)
    mask = np.asarray(tasks.mask)
    work = np.asarray(tasks.prefill_s + tasks.decode_s)[mask]
    patience, luck = np.asarray(tasks.patience_s)[mask], np.asarray(tasks.draw)[mask]
    assert stats.kstest(work, "uniform", (8, 14)).pvalue > 1e-4
    assert stats.kstest(patience, "uniform", (90, 90)).pvalue > 1e-4
    assert stats.kstest(luck, "uniform").pvalue > 1e-4
    assert (luck < 1).all()
    np.testing.assert_allclose(np.asarray(tasks.prefill_s)[mask] / work, 0.25, rtol=1e-5)
    others = [work, patience, luck, *(np.asarray(x)[mask] for x in (tasks.origin, tasks.kind, tasks.model))]
    correlation = np.corrcoef(others)[np.triu_indices(len(others), 1)]
    assert abs(correlation).max() < 4.5 / np.sqrt(len(work))


@pytest.mark.parametrize("dim", [1, 3, 8])
def test_embeddings_are_unit_vectors_around_the_topic_of_model_and_region(cluster, dim):
    workload = Synthetic.create(embedding_dim=dim, embedding_spread=0.5)
    prepared = prepare(workload, cluster, calm(2, 3), num_slots=2)
    tasks = draw(workload, prepared, 2)
    np.testing.assert_allclose(np.linalg.norm(tasks.embedding, axis=-1), 1.0, rtol=1e-5)
    own = prepared.topic[tasks.model, tasks.origin]
    cosine = (own * tasks.embedding).sum(-1)
    assert cosine.mean() > 0.8
    noiseless = dataclasses.replace(workload, embedding_spread=jnp.zeros(()))
    same = draw(noiseless, prepared, 2)
    np.testing.assert_allclose(same.embedding, own, atol=3e-4)


def test_more_padding_or_a_longer_horizon_changes_no_task(cluster, bits):
    small, large = Synthetic.create(max_tasks=64), Synthetic.create(max_tasks=200)
    a = draw(small, prepare(small, cluster, calm(4, 3), num_slots=4), 4)
    b = draw(large, prepare(large, cluster, calm(9, 3), num_slots=9), 4)
    assert a.overflow.sum() == 0
    for name in ("mask", "arrival_s", "origin", "kind", "model", "prefill_s", "draw", "embedding"):
        assert bits(getattr(a, name)) == bits(getattr(b, name)[:, :64]), name
    assert not b.mask[:, 64:].any()


def test_the_padding_helper_leaves_less_than_one_overflow_in_a_billion_slots(cluster):
    for rate in (0.5, 10.0, 500.0, 5000.0):
        room = padding_for(rate)
        assert room % 32 == 0
        assert stats.poisson.sf(room, rate) < 1e-9
        assert room == 32 or stats.poisson.sf(room - 32, rate) >= 1e-9
    workload = Synthetic.create(load=3.0, max_tasks=1)
    keys = jax.random.split(KEY, 5)
    world = partial(prepare, workload, cluster, calm(50, 3), num_slots=50)
    prepared = jax.jit(jax.vmap(world))(keys)
    fitted = workload.padded_for(prepared)
    assert fitted.max_tasks == padding_for(float(prepared.rate.sum(-1).max()))
    with pytest.raises(InputError, match="30000 are allowed"):
        padding_for(1e6)


def test_double_precision_gives_the_same_world_more_finely():
    def world():
        workload = Synthetic.create(max_tasks=256)
        prepared = prepare(workload, small_cluster(speed=10.0), calm(3, 3), num_slots=3)
        return draw(workload, prepared, 3)

    single = world()
    with jax.enable_x64(True):
        double = jax.device_get(world())
    assert double.arrival_s.dtype == double.embedding.dtype == jnp.float64
    assert double.origin.dtype == double.model.dtype == double.overflow.dtype == jnp.int32
    assert (np.asarray(single.mask) == np.asarray(double.mask)).all()
    assert (np.asarray(single.model) == np.asarray(double.model)).all()
    np.testing.assert_array_equal(single.draw, double.draw)
    np.testing.assert_allclose(single.prefill_s, double.prefill_s, rtol=1e-5)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"load": -0.1}, "load = -0.1: allowed are numbers from 0"),
        ({"load": float("nan")}, "load"),
        ({"load": "much"}, "load"),
        ({"amplitude": 1.5}, "amplitude = 1.5: allowed are numbers from 0 to 1"),
        ({"work_low_s": 30.0}, "work_low_s = 30.0 is above work_high_s"),
        ({"patience_low_s": 200.0}, "patience_low_s"),
        ({"kind_share": (1.0, 1.0)}, "kind_share needs 3 weights"),
        ({"kind_share": (0.0, 0.0, 0.0)}, "at least one weight"),
        ({"kind_share": (1.0, -1.0, 1.0)}, "kind_share"),
        ({"model_gb": ()}, "model_gb"),
        ({"model_gb": (0.0,)}, "model_gb"),
        ({"max_tasks": 0}, "max_tasks = 0: allowed are whole numbers from 1 to 30000"),
        ({"max_tasks": 10.5}, "max_tasks"),
        ({"embedding_dim": -1}, "embedding_dim"),
    ],
)
def test_a_number_out_of_range_is_named(numbers: dict[str, Any], message):
    with pytest.raises(InputError, match=message):
        Synthetic.create(**numbers)


@pytest.mark.parametrize("mean", [0.0, 0.3, 9.0, 31.9, 32.1, 300.0])
def test_one_word_gives_a_poisson_number(mean):
    word = jax.random.bits(KEY, (200_000,), jnp.uint32)
    count = np.asarray(jax.jit(jax.vmap(draws.poisson, (None, 0)))(mean, word))
    within(count.mean(), mean, np.sqrt(mean / len(word)) + 1e-9)
    within(count.var(), mean, np.sqrt((mean + 2 * mean**2) / len(word)) + 1e-9)
    if mean > 0:
        reach = np.arange(int(mean + 6 * np.sqrt(mean)) + 3)
        gap = np.searchsorted(np.sort(count), reach, side="right") / len(word) - stats.poisson.cdf(reach, mean)
        assert abs(gap).max() < 0.006
