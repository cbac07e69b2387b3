"""The one error a user's own mistake raises, and the help it gives."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Input that cannot be used: the message names the place, the allowed range and a near name.

    The command line prints the message alone and exits with status 2.
    """


def unknown(what: str, name: object, known: Iterable[str]) -> InputError:
    """An error for a name that is not in `known`, with the nearest one suggested."""
    names = sorted(known)
    return InputError(f"unknown {what} {name!r}{near(str(name), names)} (known: {', '.join(names)})")


def near(name: str, known: Iterable[str]) -> str:
    """The end of a message: the name that may be meant, or nothing."""
    lower = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    return f"; did you mean {lower[found[0]]!r}?" if found else ""


@contextmanager
def about(place: str) -> Iterator[None]:
    """Let an `InputError` that is raised inside begin with the place it is about: an option, a file."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)
