import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.evaluate.fakes import episode
from torta_jax.cli import rules
from torta_jax.cli.main import main
from torta_jax.evaluate import rollout
from torta_jax.evaluate.store import Store
from torta_jax.types import Drop
from torta_jax.workload.models import MODELS

SMALL = ["compare", "--policies", "skylb,torta", "--seeds", "2", "--slots", "4"]


@pytest.fixture
def invented(monkeypatch):
    """Comparisons return invented episodes at once."""

    def evaluate(cluster, workload, scenario, policies, seeds, num_slots, *, physics, information, progress):
        for name in policies:
            progress(name, num_slots, num_slots)
        return {name: episode(name, seeds=seeds, slots=num_slots, regions=cluster.num_regions) for name in policies}

    monkeypatch.setattr(rollout, "evaluate", evaluate)


def mistake(capsys, *words):
    """The message of a command that must fail, which is one line and all there is."""
    assert main(list(words)) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("torta: ")
    assert printed.err.count("\n") == 1
    return printed.err


def test_the_table_is_on_stdout_and_progress_on_stderr(invented, capsys):
    assert main(SMALL) == 0
    printed = capsys.readouterr()
    assert "abilene: 12 regions" in printed.out
    for word in ("skylb", "torta", "p99", "worst region", "Difference against skylb", "["):
        assert word in printed.out
    assert "…" not in printed.out
    assert "\x1b" not in printed.out
    assert "torta (2 of 2): 4 of 4 slots" in printed.err


def test_quiet_says_nothing_but_the_result(invented, capsys):
    assert main([*SMALL, "-q"]) == 0
    err = capsys.readouterr().err
    assert "of 4 slots" not in err
    assert "cluster-slots" not in err


def test_the_size_of_a_run_is_told_before_it_starts(monkeypatch, capsys):
    def evaluate(*_, **__):
        assert "policies × seeds × slots = 2 × 2 × 4 = 16 cluster-slots" in capsys.readouterr().err
        raise KeyboardInterrupt

    monkeypatch.setattr(rollout, "evaluate", evaluate)
    assert main(SMALL) == 130


def test_what_had_finished_before_an_interruption_is_kept(monkeypatch, tmp_path, capsys):
    def evaluate(cluster, *_, **__):
        raise rollout.Interrupted({"skylb": episode("skylb", seeds=2, slots=4, regions=cluster.num_regions)})

    monkeypatch.setattr(rollout, "evaluate", evaluate)
    out = tmp_path / "run"
    assert main([*SMALL, "--out", str(out)]) == 130
    printed = capsys.readouterr()
    assert "skylb" in printed.out
    assert printed.err.endswith("torta: interrupted before torta had finished\n")
    assert [path.name for path in (out / "slots").iterdir()] == ["skylb.parquet"]
    assert not json.loads((out / "manifest.json").read_text())["complete"]
    assert json.loads((out / "summary.json").read_text())["world"]["unfinished"] == ["torta"]

    earlier = Store(tmp_path / "earlier")
    earlier.write("summary.json", b"mine")
    earlier.finish()
    assert main([*SMALL, "--out", str(tmp_path / "earlier"), "--overwrite"]) == 130
    assert capsys.readouterr().err.endswith("earlier keeps its finished result\n")
    assert (tmp_path / "earlier" / "summary.json").read_bytes() == b"mine"


def test_tasks_without_room_are_told_and_the_option_that_helps(monkeypatch, capsys):
    def evaluate(cluster, *_, physics, **__):
        assert physics.carry_tasks < 1152  # the arrivals of a slot
        crowded = episode("skylb", seeds=2, slots=4, regions=cluster.num_regions)
        dropped = np.zeros((2, 4, 3), int)
        dropped[0, 2, Drop.OVERFLOW] = 1234
        slots = crowded.slots.replace(dropped=dropped, unmatched=np.full((2, 4), 2))
        return {"skylb": crowded.replace(slots=slots)}

    monkeypatch.setattr(rollout, "evaluate", evaluate)
    assert main([*SMALL, "--policies", "skylb", "--room", "0.5"]) == 0
    told = capsys.readouterr().err
    assert "policy skylb: tasks dropped because the simulator had no room for them: 1,234" in told
    assert "policy skylb: times a task waited a slot for lack of room in its region: 16" in told
    assert "--room 2 makes more room" in told


def test_the_heading_names_placement_prices_and_events(invented, tmp_path, capsys):
    path = tmp_path / "world.toml"
    path.write_text("[[surge]]\nstart_slot = 1\nnum_slots = 1\nfactor = 2\n" * 2)
    assert main([*SMALL, "-q", "--config", str(path), "--fleet-seed", "7", "--prices", "hourly"]) == 0
    heading = capsys.readouterr().out.splitlines()[0]
    assert "placement 7," in heading
    assert heading.endswith("prices: hourly, information: online, 2 × surge")


def test_models_of_a_trace_are_said_to_be_served_by_others(invented, tmp_path, capsys):
    path = tmp_path / "trace.csv"
    path.write_text("timestamp,input_tokens,output_tokens,model\n0,9,9,rare\n1,9,9,gpt\n2,9,9,gpt\n")
    assert main([*SMALL, "--trace", str(path)]) == 0
    note = f"'gpt' as {MODELS[0][0]} (13.5 GB), 'rare' as {MODELS[1][0]} (14.5 GB)"
    told = [line for line in capsys.readouterr().err.splitlines() if "gpt" in line]
    assert len(told) == 1
    assert note in told[0]
    assert main(["trace", "check", str(path)]) == 0
    assert note in capsys.readouterr().out


def test_more_models_than_can_be_served_are_a_mistake_that_a_check_notes(tmp_path, capsys):
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["timestamp,input_tokens,output_tokens,model", *(f"{i},1,1,m{i}" for i in range(9))]))
    assert f"{path}: 9 models, at most 8 are allowed" in mistake(capsys, "compare", "--trace", str(path))
    assert main(["trace", "check", str(path)]) == 0
    assert "9 models are named, `torta compare` takes at most 8" in capsys.readouterr().out


def test_requests_after_the_last_slot_are_counted_before_the_run(invented, tmp_path, capsys):
    path = tmp_path / "trace.csv"
    path.write_text("timestamp,input_tokens,output_tokens\n0,9,9\n179,9,9\n180,9,9\n99999,9,9\n")
    assert main([*SMALL, "--trace", str(path)]) == 0
    printed = capsys.readouterr()
    assert f"{path}: 2 of 4 requests come later and are left out" in printed.err
    assert "over seeds of what the trace leaves open" in printed.out


def test_prices_that_are_drawn_are_said_to_be(invented, capsys):
    for topology, why in (("polska", "all regions have the same"), ("gabriel", "25 of 25 regions have none")):
        assert main([*SMALL, "--topology", topology]) == 0
        assert f"prices are drawn (--prices spread): {why}" in capsys.readouterr().err
    assert main([*SMALL, "--topology", "polska", "--prices", "spread"]) == 0
    assert "drawn" not in capsys.readouterr().err


def test_the_reference_is_the_policy_that_the_others_are_compared_with(invented, capsys):
    assert main([*SMALL, "--reference", "torta", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["world"]["reference"] == "torta"
    assert list(document["paired"]) == ["skylb"]
    assert main(["compare", "--policies", "sdib,torta", "--seeds", "2", "--slots", "4"]) == 0
    assert "Difference" not in capsys.readouterr().out


def test_notes_on_the_world_are_told_to_the_quiet_too(invented, tmp_path, capsys):
    path = tmp_path / "trace.csv"
    path.write_text("timestamp,input_tokens,output_tokens\n0,9,9\n50,9,9\n")
    assert main([*SMALL, "-q", "--trace", str(path)]) == 0
    assert capsys.readouterr().err.startswith(f"torta: note: {path}: ends in slot 2 of 4; nothing arrives after it\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no full device")
def test_a_result_that_cannot_be_written_is_one_message():
    command = [sys.executable, "-m", "torta_jax.cli.main", "doctor"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "torta: the result could not be written to standard output (No space left on device)\n"


def test_one_world_has_no_intervals(invented, capsys):
    assert main([*SMALL, "--seeds", "1"]) == 0
    out = capsys.readouterr().out
    assert "Difference against skylb, in one world: no intervals" in out
    assert "95 %" not in out


def test_json_is_the_document_alone(invented, capsys):
    assert main([*SMALL, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["world", "policies", "paired"]
    assert list(document["paired"]) == ["torta"]
    assert document["world"]["information"] == "online"
    assert document["world"]["fleet_seed"] == 0


def test_a_result_directory_is_complete_and_takes_itself_back(invented, tmp_path, capsys):
    config = tmp_path / "surge.toml"
    config.write_text("[[surge]]\nstart_slot = 1\nnum_slots = 2\nfactor = 3.0\n")
    out = tmp_path / "run"
    assert main([*SMALL, "--json", "--out", str(out), "--config", str(config)]) == 0
    printed = capsys.readouterr().out
    assert (out / "summary.json").read_text() == printed
    assert json.loads((out / "manifest.json").read_text())["complete"]
    assert pq.read_table(out / "slots").num_rows == 2 * 2 * 4
    assert {path.suffix for path in (out / "figures").iterdir()} == {".png", ".svg"}
    assert "jax" in json.loads((out / "versions.json").read_text())
    assert 'prices = "flat"' in (out / "resolved.toml").read_text()
    assert main(["compare", "--config", str(out / "resolved.toml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(printed)


def test_a_real_comparison_conserves_every_task(capsys):
    assert main([*SMALL, "--json", "-q"]) == 0
    for entry in json.loads(capsys.readouterr().out)["policies"].values():
        assert entry["arrived"] > 0
        assert entry["arrived"] == sum(
            entry[name] for name in ("completed", "running", "queued", "buffered", "dropped")
        )


def test_a_trace_is_replayed_for_as_long_as_it_lasts(tmp_path, capsys):
    path = tmp_path / "trace.csv"
    rows = [f"{1.5 * i},{100 + i},{20 + i}" for i in range(90)]
    path.write_text("\n".join(["timestamp,input_tokens,output_tokens", *rows]))
    assert main(["compare", "--policies", "skylb", "--seeds", "2", "--trace", str(path), "--json", "-q"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["world"]["slots"] == 3
    assert document["policies"]["skylb"]["arrived"] == 2 * 90


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "compare, train, doctor, solve, trace"),
        (["comprae"], "unknown command 'comprae'; did you mean 'compare'?"),
        (["--seeds", "3"], "unknown command '--seeds'"),
        (["doctor", "--seeds", "3"], "--seeds, 3; --seeds is an option of `torta compare` (see"),
        (["train", "torta-paper", "--out", "x", "--kinds", "hard"], "is an option of `torta train torta` (see"),
        (["train", "torta", "--out", "x", "--kind", "hard"], "--kind, hard; did you mean --kinds?"),
        (["compare", "--sead", "3"], "Unrecognized options: --sead, 3 (see"),
        (["compare", "--seed", "3"], "did you mean --fleet-seed or --seeds?"),
        (["compare", "--kinds", "hard"], "--kinds, hard; --kinds is an option of `torta train torta` (see"),
        (
            ["train", "torta", "--out", "x", "--topology", "polska"],
            "--topology is an option of `torta train torta-paper` and of `torta compare` (see",
        ),
        (["compare", "--seeds", "many"], "--seeds = 'many': a whole number from 1 to 65536"),
        (["compare", "--seeds", "0"], "--seeds = 0: a whole number from 1 to 65536"),
        (["compare", "--slots", "-3"], "--slots"),
        (["compare", "--load", "nan"], "--load = nan: a number from 0.001 to 100"),
        (["compare", "--load", "high"], "--load = 'high': a number from 0.001 to 100"),
        (["compare", "--load", "it's"], """--load = "it's": a number from 0.001 to 100"""),
        (["compare", "--fleet-seed", "-1"], "--fleet-seed = -1: a whole number from 0 to 2147483647"),
        (
            ["compare", "--seeds", "50", "--slots", "100000"],
            "keep seeds × slots within 3,800,000",
        ),
        (["compare", "--config", ""], "--config = ''"),
        (["compare", "--policies", "tortta"], "did you mean 'torta'"),
        (["compare", "--policies"], "--policies = (): a list of names"),
        (["compare", "--reference", "tortta"], "--reference: unknown policy 'tortta'; did you mean 'torta'?"),
        (
            ["compare", "--policies", "skylb,sdib", "--reference", "torta"],
            "--reference: 'torta' is not one of the policies",
        ),
        (["compare", "--topology", "abilen"], "did you mean 'abilene'"),
        (["compare", "--fleet-scope", "region"], "--fleet-scope: unknown value 'region'"),
        (["compare", "--trace", "none.csv"], "none.csv"),
        (["trace"], "check"),
        (["trace", "chek", "none.csv"], "unknown command 'chek'; did you mean 'check'?"),
        (["trace", "check"], "Missing from torta trace check: FILE"),
        (["trace", "check", "none.csv"], "none.csv"),
        (["trace", "check", ""], "FILE = ''"),
        (["trace", "check", "two\nlines.csv"], "two lines.csv: cannot be read (No such file"),
    ],
)
def test_a_mistake_is_one_message_and_exit_status_2(capsys, words, told):
    assert told in mistake(capsys, *words)


def test_a_mistake_in_the_file_names_the_file(tmp_path, capsys):
    path = tmp_path / "mine.toml"
    path.write_text('policies = ["skylbb"]\n')
    assert "mine.toml: policies: unknown policy 'skylbb'; did you mean 'skylb'" in mistake(
        capsys, "compare", "--config", str(path)
    )
    path.write_text("[[failure]]\nstart_slot = 9\nnum_slots = 2\n")
    told = mistake(capsys, "compare", "--slots", "4", "--config", str(path))
    assert "mine.toml" in told
    assert "start_slot = 9, allowed are 0 to 3" in told


def test_a_directory_that_cannot_be_written_is_found_before_computing(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(rollout, "evaluate", lambda *_, **__: pytest.fail("computed"))
    (tmp_path / "file").write_text("")
    assert "cannot write" in mistake(capsys, *SMALL, "--out", str(tmp_path / "file" / "run"))


def test_a_finished_result_is_found_before_computing_and_replaced_only_if_asked(monkeypatch, tmp_path, capsys):
    def computed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(rollout, "evaluate", computed)
    earlier = Store(tmp_path)
    earlier.write("part", b"")
    earlier.finish()
    words = [*SMALL, "-q", "--out", str(tmp_path)]
    assert f"--out {tmp_path}: holds a finished result; choose another" in mistake(capsys, *words)
    assert main([*words, "--overwrite"]) == 130


def test_a_trace_is_checked(tmp_path, capsys):
    path = tmp_path / "trace.csv"
    path.write_text("timestamp,input_tokens,output_tokens\n0.0,10,5\n50.0,20,7\n")
    assert main(["trace", "check", str(path)]) == 0
    assert "2 requests" in capsys.readouterr().out


def test_doctor_names_device_versions_and_cache(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for word in ("python", "jaxlib", "device", "cache", "MB"):
        assert word in printed


def test_the_program_and_every_command_name_themselves_in_their_help(capsys):
    for words in ([], ["compare"], ["doctor"], ["trace"], ["trace", "check"]):
        with pytest.raises(SystemExit) as ended:
            main([*words, "--help"])
        assert not ended.value.code
        assert capsys.readouterr().out.startswith(" ".join(["usage: torta", *words, "[-h]"]))


@pytest.mark.parametrize(
    ("words", "ranges"),
    [
        (["compare"], rules.NUMBERS),
        (
            ["train", "torta"],
            {"updates", "seed", "worlds", "slots", "regions", "servers", "learning_rate", "warmup_weight"},
        ),
        (["train", "torta-paper"], {"updates", "seed", "envs", "steps", "learning_rate"}),
    ],
)
def test_help_says_which_numbers_are_allowed(words, ranges, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    allowed = rules.TRAINING_NUMBERS if words[0] == "train" else rules.NUMBERS
    for name in ranges:
        after = re.split(rf" --{name.replace('_', '-')} [A-Z]+ ", shown)[1]
        assert after.split(" (default: ")[0].endswith(f"; {allowed[name]}"), name


@pytest.mark.parametrize("words", [["--help"], ["doctor", "--help"], ["compare", "--help"], ["--version"]])
def test_help_and_version_need_no_jax(words):
    program = (
        "import sys\nfrom torta_jax.cli.main import main\n"
        f"try: main({words!r})\nexcept SystemExit as end: assert not end.code\n"
        "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    expected = f"torta-jax {metadata.version('torta-jax')}\n" if words == ["--version"] else "usage: torta"
    assert ended.stdout.startswith(expected)


def test_a_closed_pipe_is_no_error():
    command = f"'{sys.executable}' -m torta_jax.cli.main --help | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert ended.stderr == ""


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (["train", "torta", "--out", "new", "--updates", "abc"], "torta train torta --help"),
        (["train", "--updates", "4"], "torta train --help"),
        (["compare", "--seeds"], "torta compare --help"),
        (["solve", "transport", "--nope"], "torta solve transport --help"),
        (["compere"], "torta --help"),
    ],
)
def test_a_command_that_cannot_be_read_points_to_its_own_help(words, page, capsys):
    assert main(words) == 2
    assert capsys.readouterr().err.endswith(f" (see {page})\n")
