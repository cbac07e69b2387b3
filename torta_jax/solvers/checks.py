"""What can be said about a problem before it is traced: shapes always, values where they are known."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from torta_jax.errors import require
from torta_jax.solvers.matching import NEVER_INTEGER


def assignment(
    value: Any, room: Any, outside: Any = None, task_mask: Any = None, mask: Any = None, init_price: Any = None
) -> None:
    """Raise `InputError` unless this is an assignment problem."""
    numeric(value=value, room=room, outside=outside, task_mask=task_mask, mask=mask, init_price=init_price)
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
    outside = np.zeros(tasks, int) if outside is None else outside
    task_mask = np.ones(tasks, bool) if task_mask is None else task_mask
    mask = np.ones((tasks, servers), bool) if mask is None else mask
    finite("task_mask", task_mask, low=0)
    finite("mask", mask, low=0)
    if all(known(array) for array in (value, outside, task_mask, mask)):
        there = np.asarray(task_mask, bool)
        value, outside = np.asarray(value), np.where(there, outside, 0)
        value = np.where(np.asarray(mask, bool) & there[:, None], value, 0)
        finite("value", value)
        finite("outside", outside)
        countable(value, outside)
    if known(room):
        finite("room", room, low=0)
        require(bool(np.all(np.asarray(room) < 2**31)), "room: numbers below 2**31 are needed")
        require(bool(np.all(np.asarray(room) == np.floor(np.asarray(room)))), "room: whole numbers are needed")


def countable(value: np.ndarray, outside: np.ndarray) -> None:
    """Raise `InputError` for integers that an exact auction cannot count."""
    if not all(np.issubdtype(array.dtype, np.integer) for array in (value, outside)):
        return
    every, tasks = np.append(value.astype(float), outside), value.shape[0]
    widest, most = NEVER_INTEGER // (tasks + 1), 2.0 ** (63 if jax.config.read("jax_enable_x64") else 31)
    message = f"value: integers (with outside) that differ by at most {widest} are needed for {tasks} tasks"
    require(bool(np.ptp(every) <= widest), f"{message}, they differ by {np.ptp(every):.0f}; floats have no such limit")
    largest = np.abs(every).max()
    message = f"value: integers (with outside) of at most {most / tasks:.0f} are needed for {tasks} tasks"
    require(bool(largest * tasks < most), f"{message}, {largest:.0f} is larger; floats have no such limit")


def transport(cost: Any, demand: Any, capacity: Any, mask: Any = None, init: Any = None) -> None:
    """Raise `InputError` unless this is a transport problem, as far as can be seen."""
    table("cost", cost, demand, capacity, mask)
    if known(capacity):
        require(bool(np.any(np.asarray(capacity) > 0)), "capacity: no column has any")
    if mask is not None and known(mask):
        require(bool(np.any(mask)), "mask: every pair is forbidden")
    if init is not None:
        numeric(init=init)
        shape("init", init, (np.shape(cost)[1],), "one price per column of cost")
        finite("init", init)


def table(name: str, matrix: Any, demand: Any, capacity: Any, mask: Any = None, low: float = -np.inf) -> None:
    """Raise `InputError` unless demand and capacity fit the rows and columns of a matrix of at least `low`."""
    numeric(**{name: matrix}, demand=demand, capacity=capacity, mask=mask)
    require(np.ndim(matrix) == 2, f"{name}: an array [N, C] is needed, its shape is {np.shape(matrix)}")
    rows, columns = np.shape(matrix)
    require(rows > 0 and columns > 0, f"{name}: a row and a column are needed, its shape is {(rows, columns)}")
    shape("demand", demand, (rows,), f"one number per row of {name}")
    shape("capacity", capacity, (columns,), f"one number per column of {name}")
    finite("demand", demand, low=0)
    finite("capacity", capacity, low=0)
    if mask is None:
        finite(name, matrix, low)
    else:
        shape("mask", mask, (rows, columns), f"as {name} has")
        finite("mask", mask, low=0)
        if known(mask) and known(matrix):
            finite(name, np.where(np.asarray(mask, bool), matrix, 0), low)


def known(array: Any) -> bool:
    """Whether the values can be looked at: not while a function is being traced."""
    return not isinstance(array, Tracer)


def numeric(**arrays: Any) -> None:
    """Raise `InputError` for what is no array of real numbers: text, rows of different lengths; None is left out."""
    for name, array in arrays.items():
        if array is None or not known(array):
            continue
        try:
            dtype = np.asarray(array).dtype
        except ValueError:
            dtype = np.dtype(object)
        right = dtype.kind == "b" or any(jax.numpy.issubdtype(dtype, kind) for kind in (np.integer, np.floating))
        require(right, f"{name}: an array of real numbers is needed")


def positive(name: str, number: Any) -> None:
    """Raise `InputError` unless this is one number above zero, as far as can be seen."""
    numeric(**{name: number})
    shape(name, number, (), "one number")
    if known(number):
        require(0 < float(number) < np.inf, f"{name} = {number}: a finite number above 0 is needed")


def count(name: str, number: Any) -> None:
    """Raise `InputError` unless this is a whole number of at least zero, as far as can be seen."""
    if known(number):
        require(
            isinstance(number, int | np.integer) and bool(number >= 0),
            f"{name} = {number}: a whole number of at least 0 is needed",
        )


def shape(name: str, array: Any, wanted: tuple[int, ...], why: str) -> None:
    require(np.shape(array) == wanted, f"{name}: shape {wanted} is needed ({why}), its shape is {np.shape(array)}")


def finite(name: str, array: Any, low: float = -np.inf) -> None:
    """Raise `InputError` for a known value that is not finite or is below `low`, naming its place."""
    if not known(array):
        return
    values = np.asarray(array)
    kept = jax.dtypes.canonicalize_dtype(values.dtype)
    with np.errstate(over="ignore"):
        bad = ~(np.isfinite(values.astype(kept)) & (values >= low))
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        allowed = "a finite number" if low == -np.inf else f"a finite number of at least {low:g}"
        allowed += f" in {kept}" if np.isfinite(values[place]) and values[place] >= low else ""
        where = f"[{', '.join(map(str, place))}]" if place else ""
        require(False, f"{name}{where} = {values[place]}: {allowed} is needed")
