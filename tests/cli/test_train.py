"""`torta train`: a small training from the command line, resumed, compared, and every mistake that can be made."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from torta_jax.cli import progress
from torta_jax.cli.main import main
from torta_jax.learn import recipes, train
from torta_jax.plots.curves import TITLES
from torta_jax.schedulers.policy_file import unpack

SMALL = ["--worlds", "2", "--slots", "14", "--regions", "3", "--servers", "3", "-q"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A training of two updates."""
    place = tmp_path_factory.mktemp("train")
    assert main(["train", "torta", "--out", str(place), "--updates", "2", *SMALL]) == 0
    return place


def test_a_training_leaves_policy_log_curves_and_checkpoint(directory):
    log = pq.read_table(directory / "log.parquet")
    assert log["update"].to_pylist() == [1, 2]
    assert set(log.column_names) - {"update"} <= set(TITLES)
    assert (directory / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((directory / "config.json").read_text())["worlds"] == 2
    parameters, facts = unpack(directory / "policy.npz")
    assert facts["policy"] == "torta"
    assert facts["updates_done"] == 2
    assert all(np.isfinite(x).all() for x in parameters["params"]["enter"].values())


def test_a_finished_training_is_kept_unless_asked(directory, capsys):
    before = (directory / "policy.npz").read_bytes()
    assert main(["train", "torta", "--out", str(directory), "--updates", "2", *SMALL]) == 2
    assert "holds a training; --resume goes on" in capsys.readouterr().err
    assert (directory / "policy.npz").read_bytes() == before


def test_a_mistake_in_another_option_does_not_cost_a_training_that_was_to_be_replaced(directory, capsys):
    words = ["train", "torta", "--out", str(directory), "--updates", "2", *SMALL, "--overwrite", "--kinds", "clam"]
    assert main(words) == 2
    assert "unknown kind of world" in capsys.readouterr().err
    assert (directory / "checkpoints" / "2" / "checksums.json").exists()


def test_an_interruption_before_the_first_update_costs_no_training(directory, capsys, monkeypatch):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", interrupted)
    before = {name: (directory / name).read_bytes() for name in ("policy.npz", "config.json", "log.parquet")}
    words = ["train", "torta", "--out", str(directory), "--updates", "3", *SMALL, "--overwrite"]
    assert main(words) == 130
    assert "interrupted; before the first update" in capsys.readouterr().err
    assert {name: (directory / name).read_bytes() for name in before} == before
    assert (directory / "checkpoints" / "2" / "checksums.json").exists()


def test_a_policy_without_checkpoints_is_kept_unless_asked(directory, tmp_path, capsys):
    (tmp_path / "policy.npz").write_bytes((directory / "policy.npz").read_bytes())
    assert main(["train", "torta", "--out", str(tmp_path), "--updates", "2", *SMALL]) == 2
    assert "holds a training" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_named_before_any_work(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["train", "torta", "--out", str(tmp_path / "file" / "new"), *SMALL]) == 2
    assert f"cannot write there ({tmp_path / 'file'} is no directory)" in capsys.readouterr().err


def test_a_training_is_not_written_into_the_result_of_a_comparison(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")
    for more in ([], ["--overwrite"]):
        assert main(["train", "torta", "--out", str(tmp_path), *SMALL, *more]) == 2
        assert "holds a comparison; choose another directory" in capsys.readouterr().err


def test_the_result_of_a_comparison_is_not_written_into_a_training(directory, capsys):
    for more in ([], ["--overwrite"]):
        assert (
            main(["compare", "--policies", "rr", "--seeds", "1", "--slots", "2", "--out", str(directory), *more]) == 2
        )
        assert "holds a training; choose another directory" in capsys.readouterr().err


def test_a_training_that_was_interrupted_and_resumed_ends_with_the_same_bytes(directory, tmp_path, capsys, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    words = ["train", "torta", "--out", str(tmp_path), "--updates", "2", *SMALL]
    monkeypatch.setattr(progress.Updates, "__call__", interrupted)
    assert main(words) == 130
    assert "--resume goes on" in capsys.readouterr().err
    assert unpack(tmp_path / "policy.npz")[1]["updates_done"] == 1
    monkeypatch.undo()
    assert main([*words, "--resume"]) == 0
    for name in ("policy.npz", "config.json", "log.parquet", "curves.png"):
        assert (tmp_path / name).read_bytes() == (directory / name).read_bytes()


def test_a_finished_training_has_nothing_to_resume(directory, capsys):
    before = {path: path.stat().st_mtime_ns for path in directory.iterdir()}
    assert main(["train", "torta", "--out", str(directory), "--updates", "2", *SMALL, "--resume"]) == 0
    assert "all 2 updates are done" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in directory.iterdir()} == before


@pytest.mark.parametrize("lost", [{"policy.npz"}, {"policy.npz", "config.json", "log.parquet", "curves.png"}])
def test_what_is_lost_of_a_finished_training_is_made_again_from_its_checkpoint(directory, tmp_path, capsys, lost):
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    for name in lost:
        (tmp_path / name).write_bytes(b"x")
    assert main(["train", "torta", "--out", str(tmp_path), "--updates", "2", *SMALL, "--resume"]) == 0
    assert ("log.parquet: lost or damaged" in capsys.readouterr().err) == ("log.parquet" in lost)
    for name in {"policy.npz", "config.json"} | ({"log.parquet", "curves.png"} - lost):
        assert (tmp_path / name).read_bytes() == (directory / name).read_bytes()


def test_a_training_of_something_else_is_not_resumed(directory, capsys):
    words = ["train", "torta", "--out", str(directory), "--updates", "2", *SMALL, "--resume", "--regions", "4"]
    assert main(words) == 2
    assert "was made with regions = 3, not 4" in capsys.readouterr().err


def test_a_training_of_another_policy_is_refused_before_any_work(directory, capsys, monkeypatch):
    monkeypatch.setattr(recipes, "torta_paper", None)
    words = ["train", "torta-paper", "--out", str(directory), "--updates", "2", "-q", "--resume"]
    assert main(words) == 2
    assert "was made with policy = 'torta', not 'torta-paper'" in capsys.readouterr().err


def test_the_policy_runs_in_a_comparison_of_another_number_of_regions(directory, capsys):
    words = ["compare", "--policies", "torta", "--policy-file", str(directory / "policy.npz")]
    assert main([*words, "--slots", "4", "--seeds", "1", "--json", "-q"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result["policies"]) == {"torta", "torta-trained"}


PAPER = ["train", "torta-paper", "--envs", "2", "--steps", "6", "-q"]


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """A training of the paper's policy of one update."""
    place = tmp_path_factory.mktemp("paper")
    assert main([*PAPER, "--out", str(place), "--updates", "1"]) == 0
    return place


@pytest.mark.slow
def test_the_papers_policy_is_trained_logged_and_compared(paper, capsys):
    row = pq.read_table(paper / "log.parquet").to_pylist()[0]
    theory = {"k0", "improvement", "deviation", "slope_response_s", "slope_power_usd", "advantage"}
    assert theory | {"reward", "kl", "clip_fraction", "explained_variance"} <= set(row)
    assert set(row) - {"update"} <= set(TITLES)
    words = ["compare", "--policies", "torta-paper", "--policy-file", str(paper / "policy.npz")]
    assert main([*words, "--slots", "4", "--seeds", "1", "--json", "-q"]) == 0
    assert set(json.loads(capsys.readouterr().out)["policies"]) == {"torta-paper", "torta-trained"}


@pytest.mark.slow
def test_on_another_topology_of_as_many_regions_the_papers_policy_runs_with_a_note(paper, capsys):
    file = str(paper / "policy.npz")
    words = ["compare", "--policies", "torta", "--policy-file", file, "--slots", "2", "--seeds", "1", "--json", "-q"]
    assert main(words) == 0
    assert "trained on" not in capsys.readouterr().err
    assert main([*words, "--topology", "polska"]) == 0
    assert f"torta: note: {file}: trained on abilene, this is polska" in capsys.readouterr().err


@pytest.mark.slow
def test_the_papers_policy_is_refused_where_there_are_other_regions(paper, capsys):
    words = ["compare", "--topology", "gabriel", "--policy-file", str(paper / "policy.npz"), "--policies", "torta"]
    assert main([*words, "--slots", "4", "--seeds", "1", "-q"]) == 2
    assert "policy torta-trained: made for 12 regions, the world has 25" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--head", "gait"], "--head: unknown head 'gait'; did you mean 'gate'?"),
        (["--rule", "step"], "--rule: unknown rule 'step'"),
        (["--topology", "abilen"], "--topology: unknown topology 'abilen'; did you mean 'abilene'?"),
        (["--steps", "4"], "--steps = 4: a whole number from 5 to 900"),
        (["--envs", "3", "--steps", "5"], "envs = 3 and steps = 5: a product is needed that 4 divides"),
        (["--worlds", "4"], "--worlds"),
    ],
)
def test_a_mistake_about_the_papers_policy_is_one_message(words, told, tmp_path, capsys):
    assert main([*PAPER, "--out", str(tmp_path / "new"), *words]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--updates", "0"], "--updates = 0: a whole number from 1 to 1000000"),
        (["--slots", "12"], "--slots = 12: a whole number from 13 to 10000"),
        (["--learning-rate", "nan"], "--learning-rate = nan: a number from 1e-08 to 1"),
        (["--warmup-weight", "-1"], "--warmup-weight = -1.0: a number from 0 to 1000"),
        (["--kinds", "clam"], "--kinds: unknown kind of world 'clam'; did you mean 'calm'?"),
        (["--resume"], "no checkpoint to resume from"),
        (["--resume", "--overwrite"], "--resume and --overwrite: only one of them"),
    ],
)
def test_a_mistake_is_one_message_and_exit_status_2(words, told, tmp_path, capsys):
    assert main(["train", "torta", "--out", str(tmp_path / "new"), *words]) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_is_no_policy_is_named(tmp_path, capsys):
    (tmp_path / "it.npz").write_bytes(b"PK nothing")
    assert main(["compare", "--policy-file", str(tmp_path / "it.npz")]) == 2
    assert "not a policy file, or a damaged one" in capsys.readouterr().err
    assert main(["compare", "--policy-file", str(tmp_path / "its.npz")]) == 2
    assert "cannot be read (No such file or directory); did you mean 'it.npz'?" in capsys.readouterr().err


def test_where_a_directory_is_given_the_policy_in_it_is_named(directory, capsys):
    assert main(["compare", "--policy-file", str(directory)]) == 2
    assert f"is a directory; its policy is {directory / 'policy.npz'}" in capsys.readouterr().err
    assert main(["compare", "--policies", "torta-trained"]) == 2
    assert "--policies: torta-trained is the policy of --policy-file" in capsys.readouterr().err
