"""What a network has learned as one small file: NumPy's arrays, without pickles, with a checksum."""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from torta_jax.errors import InputError, require
from torta_jax.files import unreadable

VERSION = 1
"""Of the form of the file."""


def pack(parameters: Any, facts: Mapping[str, Any]) -> bytes:
    """A network's parameters, and what they are of, as the bytes of a file."""
    arrays = {"/".join(key.key for key in path): np.asarray(x) for path, x in jax.tree.leaves_with_path(parameters)}
    document = {"version": VERSION, "facts": dict(facts), "sha256": _digest(arrays)}
    buffer = io.BytesIO()
    about = np.frombuffer(json.dumps(document).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, about=about, **arrays)
    return buffer.getvalue()


def unpack(path: str | Path, content: bytes | None = None) -> tuple[Any, dict[str, Any]]:
    """Parameters, a nested dict of arrays, and the facts of a file that `pack` made.

    Raises:
        InputError: the file cannot be read, is no such file, is damaged, or of another version.
    """
    try:
        content = Path(path).read_bytes() if content is None else content
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        document = json.loads(arrays.pop("about").tobytes())
        version, facts, digest = document["version"], document["facts"], document["sha256"]
    except Exception as error:  # whatever NumPy, zipfile, zlib and json make of any bytes
        raise InputError(f"{path}: not a policy file, or a damaged one") from error
    require(version == VERSION, f"{path}: a policy file of version {version}, this program reads {VERSION}")
    require(_digest(arrays) == digest, f"{path}: damaged; its numbers are not those that were written")
    nested: dict[str, Any] = {}
    for name, array in arrays.items():
        *parents, leaf = name.split("/")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = array
    return nested, facts


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()
