"""What can be said about a problem before it is traced: shapes always, values where they are known."""

from typing import Any

import numpy as np
from jax.core import Tracer

from torta_jax.errors import require
from torta_jax.solvers.matching import NEVER_INTEGER


def assignment(
    value: Any, room: Any, outside: Any = None, task_mask: Any = None, mask: Any = None, init_price: Any = None
) -> None:
    """Raise `InputError` unless this is an assignment problem."""
    require(np.ndim(value) == 2, f"value: an array [N, S] is needed, its shape is {np.shape(value)}")
    tasks, servers = np.shape(value)
    require(tasks > 0 and servers > 0, f"value: a task and a server are needed, its shape is {(tasks, servers)}")
    shape("room", room, (servers,), "one number per column of value")
    optional = {
        "outside": (outside, (tasks,), "one number per row of value"),
        "task_mask": (task_mask, (tasks,), "one per row of value"),
        "mask": (mask, (tasks, servers), "as value has"),
        "init_price": (init_price, (servers,), "one price per column of value"),
    }
    for name, (array, wanted, why) in optional.items():
        if array is not None:
            shape(name, array, wanted, why)
    if init_price is not None:
        finite("init_price", init_price)
    if task_mask is None and mask is None:
        finite("value", value)
        finite("outside", 0.0 if outside is None else outside)
        countable(value, outside)
    if known(room):
        finite("room", room, low=0)
        require(bool(np.all(np.asarray(room) < 2**31)), "room: numbers below 2**31 are needed")
        require(bool(np.all(np.asarray(room) == np.floor(np.asarray(room)))), "room: whole numbers are needed")


def countable(value: Any, outside: Any = None) -> None:
    """Raise `InputError` for known integers that an exact auction cannot count."""
    if not known(value) or not known(outside) or not np.issubdtype(np.asarray(value).dtype, np.integer):
        return
    every = np.append(np.asarray(value, float), 0.0 if outside is None else np.asarray(outside, float))
    widest = NEVER_INTEGER // (np.shape(value)[0] + 1)
    message = (
        f"value: integers (with outside) that differ by at most {widest} are needed for {np.shape(value)[0]} tasks"
    )
    require(bool(np.ptp(every) <= widest), f"{message}, they differ by {np.ptp(every):.0f}; floats have no such limit")


def transport(cost: Any, demand: Any, capacity: Any, mask: Any = None, init: Any = None) -> None:
    """Raise `InputError` unless this is a transport problem, as far as can be seen."""
    require(np.ndim(cost) == 2, f"cost: an array [N, C] is needed, its shape is {np.shape(cost)}")
    rows, columns = np.shape(cost)
    require(rows > 0 and columns > 0, f"cost: a row and a column are needed, its shape is {(rows, columns)}")
    shape("demand", demand, (rows,), "one number per row of cost")
    shape("capacity", capacity, (columns,), "one number per column of cost")
    finite("demand", demand, low=0)
    finite("capacity", capacity, low=0)
    if known(capacity):
        require(bool(np.any(np.asarray(capacity) > 0)), "capacity: no column has any")
    if mask is None:
        finite("cost", cost)
    else:
        shape("mask", mask, (rows, columns), "as cost has")
        if known(mask) and known(cost):
            finite("cost", np.where(np.asarray(mask, bool), cost, 0))
        if known(mask):
            require(bool(np.any(mask)), "mask: every pair is forbidden")
    if init is not None:
        shape("init", init, (columns,), "one price per column of cost")
        finite("init", init)


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
