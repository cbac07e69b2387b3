"""A result directory, written part by part; each part is there whole or not at all.

resolved.toml             the configuration that ran, defaults included; `--config` takes it back
versions.json             Python, libraries and devices
slots/POLICY.parquet      one row per policy, seed and slot
seeds/POLICY.parquet      one row per policy and seed: histograms and counts by origin
figures/                  PNG and SVG
summary.json              the document that `--json` prints
manifest.json             SHA-256 of every part above; `complete` once all are written
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from torta_jax.errors import require
from torta_jax.evaluate.episode import Episode
from torta_jax.files import put, writable
from torta_jax.sim.metrics import TIMES
from torta_jax.types import Drop

MANIFEST = "manifest.json"
TABLES = ("slots", "seeds")
FOLDERS = (*TABLES, "figures")


class Store:
    """Writes one result directory.

    Opening it proves that the directory can be written, before anything is computed, and leaves nothing behind. The
    first part creates it, and removes the parts of an earlier run in the same place.

    Args:
        directory: need not be there yet.
        overwrite: replace a finished result; one that was never finished is replaced anyway.

    Raises:
        InputError: the directory cannot be created or written, or holds a finished result, or one without its list.
    """

    def __init__(self, directory: str | Path, *, overwrite: bool = False):
        self.directory = Path(directory)
        for folder in (self.directory, *(self.directory / name for name in FOLDERS)):
            writable("--out", folder, directory=True)
        self.replaces = finished = self._manifest().get("complete") is True
        holds = f"--out {self.directory}: holds a"
        remedy = "choose another directory or add --overwrite"
        require(overwrite or not finished, f"{holds} finished result; {remedy}")
        listed = bool(self._manifest()) or not self._parts()
        require(overwrite or listed, f"{holds} result whose {MANIFEST} is lost or damaged; {remedy}")
        self._checksums: dict[str, str] | None = None

    def write(self, name: str, content: bytes) -> None:
        """Write one part, atomically; `name` is its path inside the directory."""
        if self._checksums is None:
            self._checksums = self._previous()
            self._write_manifest(complete=False)
            self._remove(self._checksums)
            self._checksums = {}
        put(self.directory / name, content)
        self._checksums[name] = hashlib.sha256(content).hexdigest()
        self._write_manifest(complete=False)

    def finish(self) -> None:
        """Mark the directory as complete."""
        self._write_manifest(complete=True)

    def _write_manifest(self, complete: bool) -> None:
        parts = dict(sorted((self._checksums or {}).items()))
        put(self.directory / MANIFEST, json_bytes({"complete": complete, "sha256": parts}))

    def _previous(self) -> dict[str, str]:
        """Parts that an earlier run listed here, or left here where its list is lost."""
        manifest = self._manifest()
        parts = manifest.get("sha256") if manifest else dict.fromkeys(self._parts(), "")
        return {name: str(checksum) for name, checksum in parts.items()} if isinstance(parts, dict) else {}

    def _parts(self) -> list[str]:
        """Files where tables of results would be."""
        found = (path for folder in TABLES for path in (self.directory / folder).glob("*.parquet"))
        return [path.relative_to(self.directory).as_posix() for path in found]

    def _manifest(self) -> dict[str, Any]:
        """What an earlier run left here; empty if it is not there or is no manifest."""
        try:
            found = json.loads((self.directory / MANIFEST).read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}

    def _remove(self, parts: Iterable[str]) -> None:
        inside = self.directory.resolve()
        for part in (self.directory / name for name in parts):
            if part.resolve().is_relative_to(inside) and part.is_file():
                part.unlink()


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as indented JSON with a newline at its end."""
    return (json.dumps(document, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def slots_parquet(policy: str, episode: Episode) -> bytes:
    """One row per seed and slot: policy, seed, slot, then every slot measure; drops by reason."""
    seeds, num_slots = episode.slots.arrived.shape
    columns: dict[str, Any] = {
        "policy": pa.array([policy] * (seeds * num_slots)).dictionary_encode(),
        "seed": np.repeat(np.arange(seeds, dtype=np.int32), num_slots),
        "slot": np.tile(np.arange(num_slots, dtype=np.int32), seeds),
    }
    for field in dataclasses.fields(episode.slots):
        values = np.asarray(getattr(episode.slots, field.name))
        if field.name == "dropped":
            for reason in Drop:
                columns[f"dropped_{reason.name.lower()}"] = values[..., reason].reshape(-1)
        else:
            columns[field.name] = values.reshape(-1)
    return _parquet(columns)


def seeds_parquet(policy: str, episode: Episode) -> bytes:
    """One row per seed: policy, seed, a histogram per time (metrics.BIN_EDGES_S), counts by origin region."""
    columns: dict[str, Any] = {
        "policy": pa.array([policy] * episode.num_seeds).dictionary_encode(),
        "seed": np.arange(episode.num_seeds, dtype=np.int32),
        "arrived_by_origin": np.asarray(episode.arrived_by_origin).tolist(),
        "dropped_by_origin": np.asarray(episode.dropped_by_origin).tolist(),
    }
    for index, name in enumerate(TIMES):
        columns[f"{name}_histogram"] = np.asarray(episode.histogram)[:, index].tolist()
    return _parquet(columns)


def _parquet(columns: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer, compression="zstd")
    return buffer.getvalue()
