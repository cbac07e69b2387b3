"""A run that is not watched on a terminal still says how far it is."""

import time
from contextlib import AbstractContextManager

import pytest

from torta_jax.cli import progress


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE_S", 0.01)


def lines_of(capsys, shown: AbstractContextManager) -> list[str]:
    with shown:
        time.sleep(0.2)
    return capsys.readouterr().err.splitlines()


def test_the_time_before_the_first_slots_is_not_silent(impatient, capsys):
    assert "compiling or in the first slots" in lines_of(capsys, progress.Steps(1, quiet=False))[0]
    assert lines_of(capsys, progress.Steps(1, quiet=True)) == []


def test_the_time_before_the_first_updates_is_not_silent(impatient, capsys):
    first, second, *_ = lines_of(capsys, progress.Updates(quiet=False))
    assert first == "torta: compiling first"
    assert "compiling or in the first updates" in second
    assert lines_of(capsys, progress.Updates(quiet=True)) == []


def test_the_first_slots_are_told_at_once_and_then_each_finished_policy(capsys):
    with progress.Steps(2, quiet=False) as steps:
        steps("torta", 5, 100)
        steps("torta", 10, 100)
        steps("torta", 100, 100)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "torta: torta (1 of 2): 5 of 100 slots"
    assert last.startswith("torta: torta (1 of 2): 100 of 100 slots, about ")


def test_policies_may_overlap_and_the_last_to_end_ends_the_run(capsys):
    with progress.Steps(2, quiet=False) as steps:
        for policy, done in (("a", 50), ("b", 60), ("b", 100), ("a", 100)):
            steps(policy, done, 100)
    _, second, first = capsys.readouterr().err.splitlines()
    assert second.startswith("torta: b (2 of 2): 100 of 100 slots, about ")
    assert first.startswith("torta: a (1 of 2): 100 of 100 slots, ")
    assert first.endswith("s in all")
