"""One script per figure or table, the calibration, and the benchmarks. They use public names only."""

import math
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import tyro

from torta_jax.errors import InputError, require
from torta_jax.files import writable

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
    """The options of an experiment from the command line.

    Those that count something are 1 or more, measures are finite and not negative, lists are not empty; but for those
    that may be zero, or empty.
    """
    module = sys.modules["__main__"].__spec__
    found: Any = tyro.cli(options, description=about, prog=module and f"python -m {module.name}")
    for field in fields(found):
        value, option = getattr(found, field.name), f"--{field.name.replace('_', '-')}"
        least = 0 if field.name in may_be_zero else 1
        require(value != () or not least, f"{option}: one or more are needed")
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, int) and not isinstance(each, bool):
                require(each >= least, f"{option} = {each}: {least} or more is needed")
            if isinstance(each, float):
                require(0 <= each < math.inf, f"{option} = {each:g}: a finite number is needed, 0 or more")
    return found


def drawable(out: Path) -> None:
    """Raise `InputError` unless a picture can be written there."""
    require(out.suffix == ".png", f"--out {out}: a name that ends in .png is needed")
    writable("--out", out)
