"""One script per figure or table, the calibration, and the benchmarks. They use public names only."""

import sys
from collections.abc import Callable

from torta_jax.errors import InputError


def answer(main: Callable[[], None]) -> None:
    """Run an experiment; a user's mistake is one message and exit status 2, as for `torta`."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
