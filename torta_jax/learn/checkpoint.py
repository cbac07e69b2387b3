"""Checkpoints of a whole training state by Orbax.

A checkpoint is a directory `STEP` with Orbax's files and `checksums.json`, which is written last: without it, or where
a file is not as it says, the checkpoint is refused.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from torta_jax.errors import require
from torta_jax.files import unreadable

CHECKSUMS = "checksums.json"
VERSION = 3
"""Of the form of a checkpoint."""


def save(directory: Path, step: int, state: Any, facts: Mapping[str, Any]) -> None:
    """Write the checkpoint `step` and remove older ones.

    Args:
        facts: what the training was made of, as JSON; `restore` wants the same.
    """
    place = directory.absolute() / str(step)
    if step in steps(directory):
        return  # a step has one state
    if place.exists():
        shutil.rmtree(place)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(place / "state", state)
    document = {"version": VERSION, "facts": dict(facts), "shapes": _shapes(state), "sha256": _checksums(place)}
    partial = place / f".{CHECKSUMS}"
    partial.write_text(json.dumps(document, indent=2))
    partial.replace(place / CHECKSUMS)
    for older in steps(directory):
        if older < step:
            shutil.rmtree(directory / str(older))


def steps(directory: Path) -> list[int]:
    """Steps of the checkpoints that are complete, in order."""
    found = [path.parent.name for path in directory.glob(f"*/{CHECKSUMS}")]
    return sorted(int(name) for name in found if name.isdigit())


def restore(directory: Path, like: Any, facts: Mapping[str, Any]) -> tuple[int, Any]:
    """The newest checkpoint: its step, and its state in the form of `like`.

    Raises:
        InputError: there is none, it is damaged, of another version, or of a training with other facts.
    """
    step, shapes = check(directory, facts)
    place = directory.absolute() / str(step)
    require(shapes == _shapes(like), f"{place}: of another version of this program (other arrays)")
    with ocp.StandardCheckpointer() as checkpointer:
        return step, checkpointer.restore(place / "state", jax.tree.map(_abstract, like))


def check(directory: Path, facts: Mapping[str, Any]) -> tuple[int, dict[str, str]]:
    """The newest checkpoint's step and the shapes of its arrays.

    Raises:
        InputError: there is none, it is damaged, of another version, or of a training with other facts.
    """
    found = steps(directory)
    require(bool(found), f"{directory}: no checkpoint to resume from")
    place = directory.absolute() / str(found[-1])
    try:
        document = json.loads((place / CHECKSUMS).read_bytes())
        version, before, shapes, sha256 = (document.get(name) for name in ("version", "facts", "shapes", "sha256"))
    except (OSError, ValueError, AttributeError) as error:
        raise unreadable(place / CHECKSUMS, error) from error
    require(version == VERSION, f"{place}: a checkpoint of version {version}, this program reads {VERSION}")
    require(
        _checksums(place) == sha256 and isinstance(before, dict), f"{place}: damaged; a file is not as it was written"
    )
    for name, value in facts.items():
        old = before.get(name)
        require(old == value, f"{place}: was made with {name} = {old!r}, not {value!r}; the same is needed")
    return found[-1], shapes


def _shapes(state: Any) -> dict[str, str]:
    leaves = jax.tree.leaves_with_path(state)
    return {jax.tree_util.keystr(path): f"{x.dtype} {list(x.shape)}" for path, x in leaves if hasattr(x, "dtype")}


def _abstract(x: Any) -> Any:
    return jax.ShapeDtypeStruct(x.shape, x.dtype) if hasattr(x, "dtype") else x


def _checksums(place: Path) -> dict[str, str]:
    files = sorted(path for path in place.rglob("*") if path.is_file() and path.name.lstrip(".") != CHECKSUMS)
    return {path.relative_to(place).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
