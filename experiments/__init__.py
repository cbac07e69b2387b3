"""One script per figure or table, the calibration, and the benchmarks. They use public names only."""

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import tyro

from torta_jax.errors import InputError, require

T = TypeVar("T")


def answer(main: Callable[[], None]) -> None:
    """Run an experiment; a user's mistake is one message and exit status 2, an interruption 130, as for `torta`."""
    try:
        main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def short_names(files: Sequence[Path], taken: Collection[str]) -> list[str]:
    """Names of a user's files: of their folders, or the whole paths where two are alike or one is taken.

    Raises:
        InputError: a file is there twice.
    """
    short = [path.resolve().parent.name for path in files]
    alone = len({*short, *taken}) == len(short) + len(taken)
    names = short if alone else list(map(str, files))
    require(len(set(names)) == len(names), "files: the same one twice")
    return names


def asked(options: type[T], about: str | None, may_be_zero: tuple[str, ...] = ()) -> T:
    """The options of an experiment from the command line; those that count something are 1 or more."""
    found: Any = tyro.cli(options, description=about)
    for field in fields(found):
        value = getattr(found, field.name)
        least = 0 if field.name in may_be_zero else 1
        for each in value if isinstance(value, tuple) else (value,):
            good = not isinstance(each, int) or isinstance(each, bool) or each >= least
            require(good, f"--{field.name.replace('_', '-')} = {each}: {least} or more is needed")
    return found
