"""`torta solve transport|assignment FILE`: one problem from a CSV file, its solution and what certifies it."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from torta_jax.cli.options import SolveAssignment, SolveTransport
from torta_jax.cli.rules import text
from torta_jax.cli.tableau import Tableau, read
from torta_jax.errors import InputError, require

THOROUGH: dict[str, Any] = {"scaling_iters": 100, "newton_iters": 80}
"""One problem at a time may take its time."""

NOT_SOLVED = 1
"""Exit status where demand finds no capacity, or the solver has not converged."""

NOTHING = 1e-12
"""Share of all demand that is shown as none."""


def run(command: SolveTransport | SolveAssignment) -> int:
    """Print the solution, as a table, CSV or JSON.

    Returns:
        Exit status: 0 if the solver has converged, else `NOT_SOLVED`.

    Raises:
        InputError: the file is no such problem, or the result cannot be written.
    """
    import jax

    path = text("FILE", command.file)
    with jax.enable_x64(True):
        if isinstance(command, SolveTransport):
            table, summary = transport(path, command)
        else:
            table, summary = assignment(path, command)
    output = json.dumps(summary | {"solution": records(table)}, indent=2) + "\n" if command.json else as_csv(table)
    if command.out is not None:
        try:
            Path(command.out).write_text(output)
        except OSError as error:
            raise InputError(f"--out {command.out}: cannot be written ({error.strerror})") from error
    else:
        print(output, end="")
    if not command.json or command.out is not None:
        print(certificate(summary))
    return 0 if summary["status"] == "converged" else NOT_SOLVED


def may_write(path: str, command: SolveTransport | SolveAssignment) -> None:
    """Raise `InputError` where `--out` would replace a file that it should not."""
    out = command.out
    try:
        there = out is not None and Path(out).is_file()
        itself = there and Path(str(out)).samefile(path)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise InputError(f"--out {out}: cannot be written ({getattr(error, 'strerror', None) or error})") from error
    require(not itself, f"--out {out}: is the problem itself")
    require(not there or command.overwrite, f"--out {out}: is there already; choose another file or add --overwrite")


def transport(path: str, command: SolveTransport) -> tuple[list[list[Any]], dict[str, Any]]:
    """The plan as a table like the file, and its certificate."""
    from torta_jax.solvers import sinkhorn
    from torta_jax.types import Status

    require(0 < command.epsilon <= 10, f"--epsilon {command.epsilon:g}: a share of the mean cost in (0, 10] is needed")
    problem = read(path, "demand", "capacity")
    may_write(path, command)
    solve = sinkhorn.balanced if command.balanced else sinkhorn.capacitated
    assert problem.side is not None
    args = problem.cells, problem.side, problem.foot
    for what, names, taken in (("column", problem.columns, ("name", "buffered")), ("row", problem.rows, ("price",))):
        for name in taken:
            require(name not in names, f"{path}: no {what} may be called {name!r}, the result has one")
    try:
        found = solve(*args, mask=problem.mask, epsilon=command.epsilon, **THOROUGH)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    every = np.column_stack([np.asarray(found.plan), np.asarray(found.buffered)])
    every = np.where(every > NOTHING * every.sum(), every, 0.0)
    plan, buffered = every[:, :-1], every[:, -1].sum()
    cost = float((plan * problem.cells).sum())
    summary = {
        "value": float(found.value),
        "cost_of_sent": cost,
        "charge_for_buffered": float(found.value) - cost if buffered > 0 else 0.0,
        "lower_bound": float(found.lower_bound),
        "sent": float(plan.sum()),
        "buffered": float(buffered),
        "marginal_error": float(found.marginal_error),
        "capacity_violation": float(found.capacity_violation),
        "status": Status(int(found.status)).name.lower(),
    }
    return table_of(problem, "buffered", "price", every.tolist(), found.price.tolist()), summary


def assignment(path: str, command: SolveAssignment) -> tuple[list[list[Any]], dict[str, Any]]:
    """The server of each row, and the certificate."""
    from torta_jax.solvers import auction
    from torta_jax.types import Status

    problem = read(path, "outside", "room", optional=True, most=2**31 - 1)
    may_write(path, command)
    outside = np.zeros(len(problem.rows)) if problem.side is None else problem.side
    whole = not (problem.cells % 1).any() and not (outside % 1).any() and not command.floats
    number = int if whole else float
    largest = max(np.abs(problem.cells).max(), np.abs(outside).max())
    limit = "whole numbers below 2**53 are needed"
    require(not whole or largest < 2**53, f"{path}: {limit}, {largest:g} is not (--floats)")
    args = problem.cells.astype(number), problem.foot.astype(int)
    try:
        found = auction.solve(*args, outside=outside.astype(number), mask=problem.mask)
    except InputError as error:
        raise InputError(f"{path}: {error}{' (--floats)' * ('floats' in str(error))}") from None
    server = [problem.columns[j] if j >= 0 else "" for j in found.server.tolist()]
    value = [problem.cells[i, j] if j >= 0 else outside[i] for i, j in enumerate(found.server.tolist())]
    summary = {
        "value": found.value.item(),
        "upper_bound": found.dual_value.item(),
        "assigned": int((found.server >= 0).sum()),
        "unassigned": int((found.server < 0).sum()),
        "rounds": int(found.rounds),
        "prices": dict(zip(problem.columns, found.price.tolist(), strict=True)),
        "status": Status(int(found.status)).name.lower(),
    }
    return [["task", "server", "value"], *map(list, zip(problem.rows, server, value, strict=True))], summary


def table_of(problem: Tableau, side: str, foot: str, body: list[list[Any]], last: list[Any]) -> list[list[Any]]:
    """A tableau like the one that was read."""
    rows = [[name, *cells] for name, cells in zip(problem.rows, body, strict=True)]
    return [["", *problem.columns, side], *rows, [foot, *last, ""]]


def records(table: list[list[Any]]) -> list[dict[str, Any]]:
    """The lines of a table by the names of its columns; the column of names is `name`."""
    names = [name or "name" for name in table[0]]
    return [{name: cell for name, cell in zip(names, line, strict=True) if cell != ""} for line in table[1:]]


def as_csv(table: list[list[Any]]) -> str:
    output = io.StringIO()
    number = lambda cell: f"{cell:.12g}" if isinstance(cell, float) else cell  # noqa: E731
    csv.writer(output, lineterminator="\n").writerows([map(number, line) for line in table])
    return output.getvalue()


def certificate(summary: dict[str, Any]) -> str:
    """One line for people; the prices of an assignment are in the JSON document."""
    told = {name: number for name, number in summary.items() if name != "prices"}
    return "# " + ", ".join(
        f"{name.replace('_', ' ')} {number:.9g}" if isinstance(number, float) else f"{name.replace('_', ' ')} {number}"
        for name, number in told.items()
    )
