"""The one error a user's own mistake raises, and the help it gives."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Input that cannot be used: the message names the place, the allowed range and a near name.

    The command line prints the message alone and exits with status 2.
    """


def unknown(what: str, name: object, known: Iterable[str]) -> InputError:
    """An error for a name that is not in `known`, with the nearest one suggested."""
    names = sorted(known)
    lower = {each.lower(): each for each in names}
    near = difflib.get_close_matches(str(name).lower(), lower, n=1, cutoff=0.5)
    hint = f"; did you mean {lower[near[0]]!r}?" if near else ""
    return InputError(f"unknown {what} {name!r}{hint} (known: {', '.join(names)})")


def require(condition: bool, message: str) -> None:
    """Raise `InputError(message)` unless `condition` holds."""
    if not condition:
        raise InputError(message)
