from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.workload.worlds import SLOT_S, draw, prepare
from torta_jax.errors import InputError
from torta_jax.types import KINDS
from torta_jax.workload import Surge, Trace, TraceTable, calm, check, read, scenario
from torta_jax.workload.report import measure
from torta_jax.workload.synthetic import MAX_TASKS
from torta_jax.workload.trace import kind_of

AZURE = Path(__file__).parents[3] / "shared" / "data" / "azure_llm_2023_conv.csv"
NAMES = ("north", "east", "south")


def table(times, *, tokens=100, **named):
    times = np.asarray(times, float)
    count = np.arange(len(times)) + tokens
    return TraceTable("made.csv", times, count, 2 * count, **named)


def replay(cluster, trace, happens=None, slots=None):
    slots = trace.count.shape[0] if slots is None else slots
    return draw(trace, prepare(trace, cluster, happens or calm(slots, 3), num_slots=slots), slots)


def test_every_request_keeps_its_time_and_tokens(cluster):
    times = np.sort(np.random.default_rng(0).uniform(0, 8 * SLOT_S, 200))
    made = table(times)
    trace = Trace.from_table(made, prefill_tokens_per_s=1000.0, decode_tokens_per_s=50.0)
    tasks = replay(cluster, trace)
    mask = np.asarray(tasks.mask)
    slot = np.nonzero(mask)[0]
    np.testing.assert_allclose(np.asarray(tasks.arrival_s)[mask] + slot * SLOT_S, times, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(tasks.prefill_s)[mask], made.input_tokens / 1000, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(tasks.decode_s)[mask], made.output_tokens / 50, rtol=1e-6)
    assert (np.diff(np.where(mask, tasks.arrival_s, SLOT_S), axis=-1) >= 0).all()
    assert (tasks.patience_s >= 90).all()
    assert (tasks.patience_s <= 180).all()
    np.testing.assert_allclose(np.linalg.norm(tasks.embedding, axis=-1), 1.0, rtol=1e-5)
    assert tasks.overflow.shape == (trace.count.shape[0], 3, 3)
    assert tasks.overflow.sum() == 0


def test_times_at_the_end_of_a_slot_stay_inside_it(cluster):
    times = np.array([0.0, np.nextafter(SLOT_S, 0), SLOT_S, np.nextafter(1000 * SLOT_S, 0)])
    trace = Trace.from_table(table(times))
    assert (trace.arrival_s >= 0).all()
    assert (trace.arrival_s < SLOT_S).all()
    assert trace.count.sum() == 4


def test_named_regions_and_models_are_kept(cluster):
    named = table(
        [0.0, 1.0, 50.0],
        region=np.array([1, 0, 1], np.int32),
        regions=("south", "north"),
        model=np.array([0, 0, 1], np.int32),
        models=("big", "small"),
    )
    tasks = replay(cluster, Trace.from_table(named, regions=NAMES, model_gb=(60.0, 14.0)))
    mask = np.asarray(tasks.mask)
    np.testing.assert_array_equal(np.asarray(tasks.origin)[mask], [0, 2, 0])
    np.testing.assert_array_equal(np.asarray(tasks.model)[mask], [0, 0, 1])


def test_unnamed_regions_and_models_are_drawn_by_share_and_zipf(cluster):
    trace = Trace.from_table(table(np.linspace(0, 100 * SLOT_S, 20_000)), zipf_exponent=1.0)
    tasks = replay(cluster, trace)
    mask = np.asarray(tasks.mask)
    rank = 1 / np.arange(1, 9)
    for drawn, share in ((tasks.origin, cluster.demand_share), (tasks.model, rank / rank.sum())):
        found = np.bincount(np.asarray(drawn)[mask], minlength=len(share)) / mask.sum()
        share = np.asarray(share)
        assert (abs(found - share) < 4 * np.sqrt(share * (1 - share) / mask.sum())).all()


def test_a_longer_trace_is_cut_and_a_shorter_one_leaves_empty_slots(cluster):
    made = table([0.0, 50.0, 100.0, 400.0])
    np.testing.assert_array_equal(Trace.from_table(made, num_slots=2).count, [1, 1])
    np.testing.assert_array_equal(Trace.from_table(made, num_slots=12).count, [1, 1, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0])
    assert replay(cluster, Trace.from_table(made, num_slots=12)).mask.sum() == 4


def test_a_surge_does_not_change_a_replay(cluster):
    trace = Trace.from_table(table([0.0, 1.0, 50.0]))
    surge = scenario.compile([Surge(0, 2, 5.0)], 2, 3)
    np.testing.assert_array_equal(replay(cluster, trace, surge).mask, replay(cluster, trace).mask)


def test_the_kind_follows_the_tokens():
    kinds = kind_of(np.array([300, 300, 4000, 1000, 512, 0]), np.array([100, 300, 1000, 300, 0, 0]))
    assert [KINDS[kind] for kind in kinds] == ["light", "memory", "compute", "memory", "light", "light"]


def test_numbers_that_do_not_fit_are_refused(cluster):
    made = table(np.linspace(50, 80, 40) - 50)
    with pytest.raises(InputError, match=r"made.csv: slot 0 of 45 s holds 40 requests, max_tasks = 39"):
        Trace.from_table(made, max_tasks=39)
    assert Trace.from_table(made, max_tasks=40).max_tasks == 40
    assert Trace.from_table(made).max_tasks == 64

    with pytest.raises(InputError, match="slot_s"):
        Trace.from_table(made, slot_s=0.0)
    with pytest.raises(InputError, match="num_slots"):
        Trace.from_table(made, num_slots=0)
    regional = table([0.0, 1.0, 2.0], region=np.array([1, 0, 1], np.int32), regions=("nort", "south"))
    with pytest.raises(InputError, match=r"made.csv, request 2: unknown region 'nort'; did you mean 'north'"):
        Trace.from_table(regional, regions=NAMES)
    with pytest.raises(InputError, match="region names"):
        Trace.from_table(regional)
    with pytest.raises(InputError, match="2 models"):
        Trace.from_table(table([0.0], model=np.zeros(1, np.int32), models=("a", "b")), model_gb=(1.0,))
    trace = Trace.from_table(made, num_slots=2)
    with pytest.raises(InputError, match="3 slots asked of a trace of 2"):
        trace.prepare(cluster, calm(3, 3), jnp.zeros(()), 3, SLOT_S)
    with pytest.raises(InputError, match="slot_s = 30"):
        trace.prepare(cluster, calm(2, 3), jnp.zeros(()), 2, 30.0)


def test_more_requests_in_a_slot_than_can_be_simulated_are_refused_and_noted_by_a_check():
    made = table(np.zeros(MAX_TASKS + 1))
    with pytest.raises(InputError, match=r"slot 0 of 45 s holds 30001 requests, at most 30000 are allowed"):
        Trace.from_table(made)
    assert any("a slot holds 30001 requests" in problem for problem in measure(made).problems)


@pytest.mark.skipif(not AZURE.exists(), reason="the Azure trace is not beside the repository")
def test_the_azure_conversation_trace_is_read_whole(cluster):
    report = check(AZURE)
    assert report.rows == 19_366
    assert report.span_s / 60 == pytest.approx(58.4, abs=0.05)
    assert report.rate_mean == pytest.approx(250, abs=1)
    assert (report.rate_min, report.rate_max) == (113, 389)
    assert report.dispersion == pytest.approx(12.5, abs=0.5)
    assert (report.input_tokens[0.5], report.output_tokens[0.5]) == (1020, 129)
    # An independent reading.
    tokens = np.loadtxt(AZURE, delimiter=",", skiprows=1, usecols=(1, 2), dtype=int)
    moment = np.loadtxt(AZURE, delimiter=",", skiprows=1, usecols=0, dtype="datetime64[ns]")
    azure = read(AZURE)
    np.testing.assert_array_equal(np.stack([azure.input_tokens, azure.output_tokens], 1), tokens)
    np.testing.assert_allclose(azure.time_s, (moment - moment[0]).astype(int) / 1e9, rtol=0, atol=1e-9)
    trace = Trace.from_table(azure)
    assert int(trace.count.sum()) == 19_366
    tasks = replay(cluster, trace)
    share = np.bincount(np.asarray(tasks.kind)[np.asarray(tasks.mask)]) / 19_366
    np.testing.assert_allclose(share, [0.30, 0.39, 0.32], atol=0.01)
