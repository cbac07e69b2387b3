"""Settings for every test: compiled programs are kept between runs, so that a second run is quick."""

import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Point JAX at a cache beside pytest's own; processes that a test starts inherit it."""
    cache = getattr(config, "cache", None)
    if cache is not None:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache.mkdir("jax")))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Each compiled program takes memory maps, of which Linux grants a process 65,530: a module's go when it ends."""
    yield
    import jax  # not before its cache is named above

    jax.clear_caches()
