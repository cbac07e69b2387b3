"""A cache in plain Python."""

from collections import OrderedDict
from collections.abc import Iterable


def lru_misses(requests: Iterable[int], size: int) -> float:
    """Share of the requests that a cache does not hold which keeps the `size` things used last."""
    held, missed, number = OrderedDict(), 0, 0
    for number, thing in enumerate(requests, 1):  # noqa: B007
        missed += thing not in held
        held[thing] = None
        held.move_to_end(thing)
        if len(held) > size:
            held.popitem(last=False)
    return missed / number
