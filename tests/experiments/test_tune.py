"""Tuning changes what it says, and what it writes is what policies read."""

import tomllib

import pytest
from rich.console import Console

from experiments import tune
from torta_jax import cluster, schedulers
from torta_jax.schedulers import tuned
from torta_jax.workload import Synthetic


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    """A file and a table of numbers that no other test reads."""
    file = tmp_path / "tuned.toml"
    file.write_text("[sdib]\nmax_wait_s = 7.0\n")
    monkeypatch.setattr(tune, "FILE", file)
    monkeypatch.setattr(tune, "TUNED", dict(tuned.TUNED))
    return file


def test_every_policy_has_a_space_of_numbers_that_it_has():
    assert set(tune.SPACES) == set(schedulers.NAMES)
    for name, space in tune.SPACES.items():
        policy = schedulers.get(name)
        new = tuned.with_numbers(policy, tune.nested({leaf: low for leaf, (low, _) in space.items()}))
        for leaf, (low, _) in space.items():
            value = new
            for part in leaf.split("."):
                value = getattr(value, part)
            assert value == low, (name, leaf)


def test_every_tuned_number_is_in_the_space_of_its_policy():
    for name, numbers in tuned.TUNED.items():
        flat = {
            f"{part}.{leaf}" if isinstance(value, dict) else part: number
            for part, value in numbers.items()
            for leaf, number in (value.items() if isinstance(value, dict) else {"": value}.items())
        }
        assert set(flat) == set(tune.SPACES[name]), name
        for leaf, number in flat.items():
            low, high = tune.SPACES[name][leaf]
            assert low <= number <= high, (name, leaf)


def test_a_search_writes_its_policy_and_leaves_the_others(own_file, monkeypatch):
    monkeypatch.setattr(tune, "objective", lambda cluster, workload, policy, options: float(policy.max_wait_s))
    options = tune.Options(policies=("round-robin",), evaluations=6)
    tune.search_all(cluster.build("abilene"), Synthetic.create(), options, Console(quiet=True), tune.save)
    written = tomllib.loads(own_file.read_text())
    assert written["sdib"] == {"max_wait_s": 7.0}
    assert written["round-robin"]["max_wait_s"] < 20  # the objective is lowest at 0
    assert set(written["round-robin"]["activation"]) == {"sigma", "cooldown_s"}
