"""Reading and writing a user's files: one wording for what can be wrong with any."""

import tempfile
from pathlib import Path

from torta_jax.errors import InputError, require


def unreadable(path: str | Path, error: Exception) -> InputError:
    """The error for a file that is not there or cannot be read."""
    return InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})")


def writable(option: str, path: str | Path, *, directory: bool = False) -> None:
    """Make the directory of a file, or one itself, and raise `InputError` unless files can be written there."""
    path = Path(path)
    place = path if directory else path.parent
    require(directory or not path.is_dir(), f"{option} {path}: is a directory, a file was expected")
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(f"{option} {path}: cannot write there ({error.strerror})") from error


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
