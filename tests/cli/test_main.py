import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from tests.evaluate.fakes import episode
from torta_jax.cli.main import main
from torta_jax.evaluate import rollout

SMALL = ["compare", "--policies", "skylb,torta", "--seeds", "2", "--slots", "4"]


@pytest.fixture
def invented(monkeypatch):
    """Comparisons return invented episodes at once."""

    def evaluate(cluster, workload, scenario, policies, seeds, num_slots, *, information, progress):
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
    assert "of 4 slots" not in capsys.readouterr().err


def test_json_is_the_document_alone(invented, capsys):
    assert main([*SMALL, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert list(document) == ["world", "policies", "paired"]
    assert list(document["paired"]) == ["torta"]
    assert document["world"]["information"] == "online"


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
        ([], "compare, doctor, trace"),
        (["comprae"], "compare, doctor, trace"),
        (["compare", "--seed", "3"], "did you mean --seeds?"),
        (["compare", "--seeds", "many"], "--seeds = 'many': a whole number from 1 to 65536"),
        (["compare", "--seeds", "0"], "--seeds = 0: a whole number from 1 to 65536"),
        (["compare", "--slots", "-3"], "--slots"),
        (["compare", "--load", "nan"], "--load = nan: a number from 0.001 to 100"),
        (["compare", "--policies", "tortta"], "did you mean 'torta'"),
        (["compare", "--topology", "abilen"], "did you mean 'abilene'"),
        (["compare", "--fleet-scope", "region"], "--fleet-scope: unknown value 'region'"),
        (["compare", "--trace", "none.csv"], "none.csv"),
        (["trace", "check"], "FILE"),
        (["trace", "check", "none.csv"], "none.csv"),
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


def test_an_interruption_ends_with_130_and_no_traceback(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(rollout, "evaluate", interrupted)
    assert main([*SMALL, "-q"]) == 130
    assert capsys.readouterr().err == "torta: interrupted\n"


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


@pytest.mark.parametrize("words", [["--help"], ["doctor", "--help"], ["compare", "--help"]])
def test_help_needs_no_jax(words):
    program = (
        "import sys\nfrom torta_jax.cli.main import main\n"
        f"try: main({words!r})\nexcept SystemExit as end: assert not end.code\n"
        "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "usage: torta" in ended.stdout


def test_a_closed_pipe_is_no_error():
    command = f"'{sys.executable}' -m torta_jax.cli.main --help | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert ended.stderr == ""
