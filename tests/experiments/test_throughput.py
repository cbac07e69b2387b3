"""The benchmark's command: what it prints, not how fast it is."""

import json

import pytest

from experiments.benchmarks import compilation, throughput
from experiments.benchmarks.stopwatch import Contestant, race


@pytest.fixture
def quick(monkeypatch):
    """The command without the simulator: a policy and a peer that take no time."""
    contestants = [Contestant(name, 16, 60, lambda: 100) for name in ("torta", "SimPy")]
    measured = {"compile_s": 20.0, "memory_mb_per_cluster": 0.5, "state_kb_per_cluster": 90.0}
    monkeypatch.setattr(throughput, "contestants", lambda options, num_slots: contestants)
    monkeypatch.setattr(compilation, "in_subprocess", lambda *_: measured)
    monkeypatch.setattr(throughput.jax.config, "update", lambda *_: None)


@pytest.mark.usefixtures("quick")
def test_json_alone_is_on_stdout(capsys):
    throughput.main(throughput.Options(quick=True, json=True))
    document = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in document["speed"]] == ["torta", "SimPy"]
    assert {entry["name"]: entry["met"] for entry in document["targets"]} == {
        "cluster-slots/s, 16 clusters": True,
        "compile s, cold": False,
        "compile s, from the cache": False,
        "MB per cluster, 16 clusters": True,
    }


@pytest.mark.usefixtures("quick")
def test_the_table_has_every_contestant_and_target(capsys):
    throughput.main(throughput.Options(quick=True))
    out, progress = capsys.readouterr()
    assert all(word in out for word in ("torta", "SimPy", "compile s, cold", "missed", "met"))
    assert "warm-up: torta" in progress


def test_contestants_take_turns_after_a_warm_up():
    calls = []
    contestants = [Contestant(name, 2, 3, lambda name=name: calls.append(name) or 7) for name in "ab"]
    times = race(contestants, 2, lambda _: None)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert all(time.tasks == 7 and time.worst_s >= time.median_s >= 0 for time in times.values())
