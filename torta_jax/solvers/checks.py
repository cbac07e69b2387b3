"""What can be said about a problem before it is traced: shapes always, values where they are known."""

from typing import Any

import numpy as np
from jax.core import Tracer

from torta_jax.errors import require


def assignment(value: Any, room: Any, outside: Any = None, task_mask: Any = None, mask: Any = None) -> None:
    """Raise `InputError` unless this is an assignment problem."""
    require(np.ndim(value) == 2, f"value: an array [N, S] is needed, its shape is {np.shape(value)}")
    tasks, servers = np.shape(value)
    require(tasks > 0 and servers > 0, f"value: a task and a server are needed, its shape is {(tasks, servers)}")
    shape("room", room, (servers,), "one number per column of value")
    optional = {"outside": (outside, (tasks,)), "task_mask": (task_mask, (tasks,)), "mask": (mask, (tasks, servers))}
    for name, (array, wanted) in optional.items():
        if array is not None:
            shape(name, array, wanted, "as value has")
    if task_mask is None and mask is None:
        finite("value", value)
        finite("outside", 0.0 if outside is None else outside)
    if known(room):
        finite("room", room, low=0)
        require(bool(np.all(np.asarray(room) < 2**31)), "room: numbers below 2**31 are needed")
        require(bool(np.all(np.asarray(room) == np.floor(np.asarray(room)))), "room: whole numbers are needed")


def known(array: Any) -> bool:
    """Whether the values can be looked at: not while a function is being traced."""
    return not isinstance(array, Tracer)


def shape(name: str, array: Any, wanted: tuple[int, ...], why: str) -> None:
    require(np.shape(array) == wanted, f"{name}: shape {wanted} is needed ({why}), its shape is {np.shape(array)}")


def finite(name: str, array: Any, low: float = -np.inf) -> None:
    """Raise `InputError` for a known value that is not finite or is below `low`, naming its place."""
    if not known(array):
        return
    values = np.asarray(array)
    bad = ~(np.isfinite(values) & (values >= low))
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        allowed = "a finite number" if low == -np.inf else f"a finite number of at least {low:g}"
        where = f"[{', '.join(map(str, place))}]" if place else ""
        require(False, f"{name}{where} = {values[place]}: {allowed} is needed")
