import hashlib
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.evaluate.fakes import episode
from torta_jax.errors import InputError
from torta_jax.evaluate import store
from torta_jax.evaluate.store import Store


def test_slots_read_back_row_by_row():
    one = episode("torta", seeds=3, slots=5)
    table = pq.read_table(io.BytesIO(store.slots_parquet("torta", one)))
    assert table.num_rows == 15
    assert set(table["policy"].to_pylist()) == {"torta"}
    row = table.slice(2 * 5 + 4, 1).to_pylist()[0]
    assert (row["seed"], row["slot"]) == (2, 4)
    assert row["arrived"] == one.slots.arrived[2, 4]
    assert row["response_s"] == one.slots.response_s[2, 4]
    assert row["dropped_overflow"] == one.slots.dropped[2, 4, 1]


def test_histograms_and_origins_read_back():
    one = episode("torta", seeds=3)
    table = pq.read_table(io.BytesIO(store.seeds_parquet("torta", one)))
    np.testing.assert_array_equal(table["wait_histogram"].to_pylist(), one.histogram[:, 1])
    np.testing.assert_array_equal(table["dropped_by_origin"].to_pylist(), one.dropped_by_origin)


def test_every_part_has_its_checksum_and_the_last_word_is_complete(tmp_path):
    out = Store(tmp_path / "deep" / "run")
    out.write("slots/a.parquet", b"data")
    manifest = json.loads((out.directory / "manifest.json").read_text())
    assert manifest == {"complete": False, "sha256": {"slots/a.parquet": hashlib.sha256(b"data").hexdigest()}}
    out.finish()
    assert json.loads((out.directory / "manifest.json").read_text())["complete"]
    assert sorted(path.name for path in out.directory.rglob("*") if path.is_file()) == [*("a.parquet", "manifest.json")]


def test_a_new_run_removes_the_parts_of_the_old_one_and_nothing_else(tmp_path):
    first = Store(tmp_path)
    first.write("slots/old.parquet", b"old")
    first.finish()
    (tmp_path / "notes.txt").write_text("mine")
    second = Store(tmp_path, overwrite=True)
    assert (tmp_path / "slots/old.parquet").exists()
    second.write("slots/new.parquet", b"new")
    assert not (tmp_path / "slots/old.parquet").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_finished_result_is_replaced_only_if_asked_and_an_unfinished_one_at_once(tmp_path):
    first = Store(tmp_path)
    first.write("part", b"first")
    Store(tmp_path).write("part", b"second")
    first.finish()
    with pytest.raises(InputError, match=f"--out {tmp_path}: holds a finished result; .* --overwrite"):
        Store(tmp_path)
    assert (tmp_path / "part").read_bytes() == b"second"
    Store(tmp_path, overwrite=True).write("part", b"third")
    assert (tmp_path / "part").read_bytes() == b"third"


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b'"complete"', b'{"complete": 1}', b'{"sha256": [1]}', b"[" * 100_000]
)
def test_a_file_that_is_no_manifest_of_ours_is_no_finished_result(tmp_path, manifest):
    (tmp_path / "manifest.json").write_bytes(manifest)
    Store(tmp_path).write("part", b"")
    assert (tmp_path / "part").exists()


@pytest.mark.parametrize("manifest", [None, b"", b'{"complete": tr'])
def test_a_result_whose_manifest_is_lost_is_replaced_only_if_asked_and_then_whole(tmp_path, manifest):
    first = Store(tmp_path)
    for name in ("slots/a.parquet", "seeds/a.parquet"):
        first.write(name, b"old")
    first.finish()
    (tmp_path / "slots" / "mine.txt").write_text("")
    (tmp_path / "manifest.json").unlink() if manifest is None else (tmp_path / "manifest.json").write_bytes(manifest)
    with pytest.raises(InputError, match=r"holds a result whose manifest.json is lost or damaged; .* --overwrite"):
        Store(tmp_path)
    Store(tmp_path, overwrite=True).write("slots/b.parquet", b"new")
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert names == {"manifest.json", "slots/b.parquet", "slots/mine.txt"}


def test_opening_leaves_nothing_behind_before_the_first_part(tmp_path):
    (tmp_path / "mine").mkdir()
    Store(tmp_path / "mine")
    out = Store(tmp_path / "deep" / "run")
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]
    out.write("part", b"")
    assert (tmp_path / "deep" / "run" / "part").exists()


def test_a_manifest_cannot_point_outside_its_directory(tmp_path):
    outside = tmp_path / "precious"
    outside.write_text("keep")
    run = tmp_path / "run"
    run.mkdir()
    (run / "manifest.json").write_text(json.dumps({"sha256": {"../precious": "", "no such file": ""}}))
    Store(run).write("part", b"")
    assert outside.exists()


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "run", "a\0b", "/proc/torta"):
        with pytest.raises(InputError, match=r"--out .*cannot write"):
            Store(place)
    assert (tmp_path / "file").read_text() == ""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "figures").write_text("")
    with pytest.raises(InputError, match=r"--out .*run/figures: cannot write there"):
        Store(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["figures"]


def test_a_part_that_cannot_be_written_is_an_input_error(tmp_path):
    out = Store(tmp_path)
    (tmp_path / "figures").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*a\.png"):
        out.write("figures/a.png", b"")


def test_a_failed_write_leaves_the_old_content(tmp_path):
    out = Store(tmp_path)
    out.write("part", b"old")
    with pytest.raises(TypeError):
        out.write("part", "not bytes")  # type: ignore[arg-type]
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["manifest.json", "part"]
    assert (tmp_path / "part").read_bytes() == b"old"
