"""Reading and writing a user's files: one wording for what can be wrong with any."""

import contextlib
import os
import tempfile
from pathlib import Path

from torta_jax.errors import InputError, near, require


def unreadable(path: str | Path, error: Exception) -> InputError:
    """The error for a file that is not there or cannot be read, with the nearest name that is there."""
    hint = ""
    if isinstance(error, FileNotFoundError):
        with contextlib.suppress(OSError):
            hint = near(Path(path).name, [each.name for each in Path(path).parent.iterdir()])
    return InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}){hint}")


def writable(option: str, path: str | Path, *, directory: bool = False) -> None:
    """Raise `InputError` unless a file, or files in a directory, can be written; leaves nothing behind."""
    path = Path(path)
    require(directory or not path.is_dir(), f"{option} {path}: is a directory, a file was expected")
    place = path if directory else path.parent
    created = [place for place in (place, *place.parents) if not place.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        files = [str(place) for place in (place, *place.parents) if place.exists() and not place.is_dir()]
        reason = f"{files[0]} is no directory" if files else getattr(error, "strerror", None) or error
        raise InputError(f"{option} {path}: cannot write there ({reason})") from error
    finally:
        for place in created:
            with contextlib.suppress(OSError, ValueError):  # never there, or already somebody's
                place.rmdir()


def put(path: Path, content: bytes) -> None:
    """Put a file of `--out` in its place in one step: a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"--out: cannot write {path} ({error.strerror})") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read_text(path: str | Path) -> str:
    """The content of a UTF-8 text file, without a byte-order mark.

    Raises:
        InputError: it cannot be read, is binary, or is in another encoding; then with the line.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise unreadable(path, error) from error
    require(b"\0" not in data, f"{path}: a binary file, text was expected")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text") from error
