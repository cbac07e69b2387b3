"""How far a comparison is: a bar on a terminal, plain lines elsewhere, nothing if asked."""

import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY_S = 10.0
"""Between two plain lines."""

PATIENCE_S = 30.0
"""Between two plain lines before the first slots or updates are done, which compiling can put off."""


class Steps:
    """Progress over policies and slots on stderr; a context manager.

    Args:
        policies: how many will run.
        quiet: say nothing.
    """

    def __init__(self, policies: int, quiet: bool):
        self._policies = policies
        self._done: dict[str, int] = {}  # slots of every policy that has begun; policies may overlap
        self._start = self._last = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first slots were done, and how many
        self._moved = threading.Event()
        self._plain = not quiet and not sys.stderr.isatty()
        self._bar = None if quiet or self._plain else _bar()

    def __enter__(self) -> "Steps":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("compiling", total=None)
        if self._plain:
            _reassure(self._moved, "slots")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None):
        self._moved.set()
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, policy: str, done: int, total: int) -> None:
        """`done` of `total` slots of a policy are simulated."""
        self._moved.set()
        self._done[policy] = done
        finished, needed = sum(self._done.values()), self._policies * total
        compiled = self._first is None
        self._first = self._first or (time.monotonic(), finished)
        if self._bar is not None:
            self._bar.update(self._task, description=policy, completed=finished, total=needed)
        elif self._plain and (compiled or done == total or time.monotonic() - self._last > EVERY_S):
            place = f"{policy} ({list(self._done).index(policy) + 1} of {self._policies}): {done} of {total} slots"
            print(f"torta: {place}{self._remaining(finished, needed)}", file=sys.stderr, flush=True)

    def _remaining(self, finished: int, needed: int) -> str:
        """Estimated from what followed the first slots, whose time is mostly compilation."""
        self._last = now = time.monotonic()
        if finished >= needed:
            return f", {now - self._start:.0f} s in all"
        since, start = self._first or (now, finished)
        if finished == start:
            return ""
        return f", about {(now - since) / (finished - start) * (needed - finished):.0f} s left"


LIVE = (
    *("cost", "reward", "improvement", "farthest", "advantage"),
    *("explained_variance", "kl", "clip_fraction", "gradient_norm", "learning_rate"),
)
"""Numbers of an update that are shown, of those that are logged."""


class Updates:
    """Progress over the updates of a training on stderr, with numbers of the last one; a context manager.

    Args:
        quiet: say nothing.
    """

    def __init__(self, quiet: bool):
        self._start = self._last = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._plain = not quiet and not sys.stderr.isatty()
        self._moved = threading.Event()
        self._bar = None if quiet or self._plain else _bar(TextColumn("{task.fields[numbers]}"))

    def __enter__(self) -> "Updates":
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("compiling", total=None, numbers="")
        elif self._plain:
            print("torta: compiling first", file=sys.stderr, flush=True)
            _reassure(self._moved, "updates")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None):
        self._moved.set()
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, row: Mapping[str, float]) -> None:
        """`done` of `total` updates are made; `row` is what the last one logged."""
        self._moved.set()
        now = time.monotonic()
        first = self._first is None
        self._first = self._first or (now, done)
        shown = {name: row[name] for name in LIVE if name in row}
        numbers = ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in shown.items())
        if self._bar is not None:
            self._bar.update(self._task, description="updates", completed=done, total=total, numbers=numbers)
        elif self._plain and (first or done == total or now - self._last > EVERY_S):
            since, start = self._first
            left = f", about {(now - since) / (done - start) * (total - done):.0f} s left" if done > start else ""
            left = f", {now - self._start:.0f} s in all" if done == total else left
            print(f"torta: update {done} of {total}: {numbers}{left}", file=sys.stderr, flush=True)
            self._last = now


def _reassure(moved: threading.Event, what: str) -> None:
    """Say now and then that nothing is lost, until the event is set."""
    start = time.monotonic()

    def say() -> None:
        while not moved.wait(PATIENCE_S):
            waited = f"{time.monotonic() - start:.0f} s"
            print(f"torta: compiling or in the first {what} for {waited}", file=sys.stderr, flush=True)

    threading.Thread(target=say, daemon=True).start()


def _bar(*more: TextColumn) -> Progress:
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *more,
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
