"""Settings for every test: compiled programs are kept between runs, so that a second run is quick."""

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Point JAX at a cache beside pytest's own; processes that a test starts inherit it."""
    cache = getattr(config, "cache", None)
    if cache is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


TOGETHER = {
    "worlds": ("test_causality", "test_conservation", "test_littles_law", "test_same_bits", "test_against_events"),
    "abilene": ("test_readme", "test_notebooks", "test_matching"),
}
"""Files that run the same compiled programs: one worker has them all, or two would compile them at once."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests a worker of pytest-xdist is to have together: those of a file, and of such files."""
    group = {stem: name for name, stems in TOGETHER.items() for stem in stems}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group.get(item.path.stem, str(item.path))))


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Each compiled program takes memory maps, of which Linux grants a process 65,530: a module's go when it ends."""
    yield
    import jax  # not before its cache is named above

    jax.clear_caches()
