"""Where compiled programs are kept between runs."""

import os
import sys
from pathlib import Path

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
"""JAX's own variable; whoever sets it decides."""


def enable() -> Path | None:
    """Point JAX at its cache; to be called before JAX is imported.

    Returns:
        The directory, or `None` where none can be written: then everything is compiled anew.
    """
    if VARIABLE in os.environ:
        return Path(os.environ[VARIABLE])
    try:
        directory = _platform_directory() / "torta_jax" / "jax"
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: no home
        return None
    if not os.access(directory, os.W_OK):
        return None
    os.environ[VARIABLE] = str(directory)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    return directory


def size_mb(directory: Path) -> float:
    """Megabytes of the files in a directory; 0 where there is none."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6


def _platform_directory() -> Path:
    if sys.platform == "win32" and "LOCALAPPDATA" in os.environ:
        return Path(os.environ["LOCALAPPDATA"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
