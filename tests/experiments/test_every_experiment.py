"""Every experiment on learning runs to its table at the smallest size, and answers a mistake in one line."""

import importlib
import sys
from importlib.resources import files

import jax
import numpy as np
import pytest

from experiments import answer
from torta_jax.schedulers.policy_file import pack, unpack

WEIGHTS = files("torta_jax.schedulers") / "weights"
CASES = {
    "ablation": "--seeds 1 --slots 4",
    "fluid_gap": "--seeds 1 --slots 8 --clusters 8 --cluster-slots 8",
    "forecasting": "--seeds 1 --slots 24",
    "foresight": "--topologies abilene --seeds 1 --slots 12 --steps 2",
    "foretold": "BLIND NETWORK --kinds calm --updates 2 --clusters 8 --steps 2 --slots 12",
    "generalise": "BLIND NETWORK --kinds calm --clusters 8 --foresight 8 --steps 2 --servers 4 --slots 12 --regions 3",
    "observed": "--clusters 1 --seeds 2 --slots 26",
    "paper_heads": "PAPER --episodes 2 --slots 4",
    "planner": "BLIND NETWORK --kinds calm --clusters 8 --slots 10 --steps 1 --draws 1 --foresight-steps 2",
    "regimes": "--noise 0.1 --switching 0.05 --trainings 2 --updates 2 --worlds 2 --clusters 8 --slots 8",
    "retune": "NETWORK --out OUT --evaluations 2 --clusters 8 --slots 4",
    "slopes": "--file BLIND --kinds calm --clusters 2 --slots 4",
    "transfer": "NETWORK BLIND --topologies abilene --seeds 2 --slots 4",
    "theory": "--topologies abilene --seeds 2 --slots 24 --probes 2",
}
MISTAKES = {
    "generalise": ("NETWORK", "one of `torta train torta --blind` is needed"),
    "generalise SLOTS": ("BLIND NETWORK --slots 8", "--slots = 8: more than 8 are needed"),
    "foretold SLOTS": ("BLIND NETWORK --slots 8", "--slots = 8: more than 8 are needed"),
    "planner SLOTS": ("BLIND NETWORK --slots 11", "--slots = 11: a multiple of 2 is needed"),
    "planner": ("NETWORK BLIND", "the blind one first"),
    "foresight": ("--slots 8", "--slots = 8: more than 8 are needed"),
    "generalise PAPER": ("PAPER", "not a policy of `torta train torta`"),
    "foretold": ("NETWORK BLIND", "the blind one first"),
    "theory": ("--slots 20", "--slots = 20: more than 21 are needed"),
    "paper_heads SLOTS": ("PAPER --slots 2000", "2000 slots and 24 before them need a day of 2024, not 1920"),
    "slopes CLUSTERS": ("--clusters 1", "--clusters = 1: 2 or more are needed"),
    "slopes": ("--file NETWORK", "no policy of `torta train torta --blind`"),
    "paper_heads": ("missing.npz", "missing.npz"),
    "retune": ("NETWORK --out NETWORK", "is there already; choose another file"),
    "transfer": ("BLIND NETWORK --seeds 0", "--seeds = 0: 1 or more is needed"),
    "transfer REFERENCE": ("NETWORK", "one of `torta train torta --blind` is needed"),
    "paper_heads TOPOLOGY": ("PAPER --topology gabriel", "made for 12 regions, the world has 25"),
    "regimes": ("--out /dev/null/x.png", "--out /dev/null/x.png: cannot write there"),
    "forecasting": ("--out /dev/null/x.png", "--out /dev/null/x.png: cannot write there (/dev/null is no directory)"),
    "forecasting SLOTS": ("--slots 20", "--slots = 20: more than 20 are needed"),
    "regimes PNG": ("--out x.txt", "--out x.txt: a name that ends in .png is needed"),
    "regimes NOISE": ("--noise -1", "--noise = -1: a finite number is needed, 0 or more"),
    "regimes NAN": ("--switching nan", "--switching = nan: a finite number is needed, 0 or more"),
    "generalise EMPTY": ("BLIND NETWORK --regions", "--regions: one or more are needed"),
    "generalise DIRECTORY": ("BLIND NETWORK --out .", "--out .: is a directory, a file was expected"),
    "transfer TRACE": ("BLIND NETWORK --trace nope.csv", "nope.csv: cannot be read"),
    "transfer NOTHING": ("BLIND NETWORK --topologies", "--topologies: one or more are needed, or --trace"),
    "foresight NAME": ("--topologies abilen", "--topologies: unknown topology 'abilen'; did you mean 'abilene'?"),
    "generalise OUT": ("BLIND NETWORK --out /dev/null/x.json", "--out /dev/null/x.json: cannot write there"),
}


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Runs an experiment with words in which files are named; what it prints, and its exit status."""
    (tmp_path / "blind").mkdir()
    parameters, facts = unpack(str(WEIGHTS / "torta.npz"))
    (tmp_path / "blind" / "policy.npz").write_bytes(pack(parameters, facts | {"blind": True}))
    named = {
        "NETWORK": str(WEIGHTS / "torta.npz"),
        "PAPER": str(WEIGHTS / "torta-paper-abilene.npz"),
        "BLIND": str(tmp_path / "blind" / "policy.npz"),
        "OUT": str(tmp_path / "out.npz"),
    }

    def found(name: str, words: str) -> tuple[str, int]:
        monkeypatch.setattr(sys, "argv", [name, *(named.get(word, word) for word in words.split())])
        status = 0
        try:
            answer(importlib.import_module(f"experiments.{name}").main)
        except SystemExit as error:
            status = int(error.code or 0)
        return "".join(capfd.readouterr()), status

    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_it_runs_to_its_table(run, name):
    jax.clear_caches()  # of the experiments before: all together take more memory maps than a process may have
    printed, status = run(name, CASES[name])
    assert status == 0
    assert "%" in printed or "│" in printed
    assert "nan" not in printed


def test_an_interruption_is_one_line(run, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.transfer.measured", interrupted)
    printed, status = run("transfer", "BLIND NETWORK")
    assert status == 130
    assert printed.endswith("interrupted\n")
    assert "Traceback" not in printed


def test_an_interruption_of_a_long_experiment_does_not_cost_what_is_done(run, tmp_path, monkeypatch):
    def cell(noise, switching, options, tell):
        if switching > 1:
            raise KeyboardInterrupt
        costs = {"plan of each slot": 10.0, "fixed numbers": 9.0, "network": 8.1}
        return {name: (np.full((2, 8), cost) + np.arange(8), np.full((2, 8), cost)) for name, cost in costs.items()}

    monkeypatch.setattr("experiments.regimes.cell", cell)
    picture = tmp_path / "regimes.png"
    printed, status = run("regimes", f"--noise 0.3 --switching 0.5 5 --out {picture}")
    assert status == 130
    assert "│   0.3 │       0.5 │   13.5 │" in printed
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(run, name):
    words, told = MISTAKES[name]
    printed, status = run(name.split()[0], words)
    assert status == 2
    assert told in printed
    assert "Traceback" not in printed
