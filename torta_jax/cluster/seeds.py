"""Random numbers on the host: one stream per purpose, so that changing one choice leaves the others alone."""

import numpy as np

from torta_jax.errors import require

STREAMS = ("prices", "counts", "placement", "demand")


def generator(seed: int, stream: str) -> np.random.Generator:
    """The generator of a purpose.

    Raises:
        InputError: `seed` is not a whole number from 0.
    """
    whole = isinstance(seed, int | np.integer) and not isinstance(seed, bool)
    require(whole and seed >= 0, f"seed {seed!r} is not a whole number from 0")
    return np.random.default_rng([int(seed), STREAMS.index(stream)])
