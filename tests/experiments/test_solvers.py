"""The solvers' benchmark measures what it says, at toy size."""

import json

import pytest

from experiments.benchmarks import solvers


def test_every_solver_has_a_row_with_its_time_and_its_quality(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(solvers, "REGIONS", (4,))
    monkeypatch.setattr(solvers, "SIZES", ((12, 4),))
    monkeypatch.setattr(solvers, "BATCHES", (1, 3))
    solvers.main(solvers.Options(quick=True, out=tmp_path, repeats=1))
    assert "us per problem" in capsys.readouterr().out
    document = json.loads((tmp_path / "solvers.json").read_text())
    rows = {row["solver"]: row for row in document["transport"] + document["assignment"]}
    assert all(row["us_per_problem"] > 0 and row["batch"] == 3 for row in rows.values())
    assert rows["capacitated"]["worst_error"] < 1e-3
    assert rows["auction, integers"]["certified_gap"] == 0
    assert rows["SciPy assignment"]["mean_gap"] == pytest.approx(0, abs=1e-9)
    assert rows["optax Hungarian"]["mean_gap"] == pytest.approx(0, abs=1e-6)
    assert 0 <= rows["auction"]["worst_gap"] <= rows["auction"]["certified_gap"] + 1e-6
    assert rows["greedy scan"]["mean_gap"] >= 0
    assert (tmp_path / "solvers.png").stat().st_size > 10_000
