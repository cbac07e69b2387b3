"""How far a comparison is: a bar on a terminal, plain lines elsewhere, nothing if asked."""

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY_S = 10.0
"""Between two plain lines."""

PATIENCE_S = 30.0
"""Between two plain lines before the first slots are done, which a large fleet's compilation can put off."""


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
            threading.Thread(target=self._reassure, daemon=True).start()
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

    def _reassure(self) -> None:
        while not self._moved.wait(PATIENCE_S):
            print(f"torta: compiling or in the first slots for {time.monotonic() - self._start:.0f} s", file=sys.stderr)

    def _remaining(self, finished: int, needed: int) -> str:
        """Estimated from what followed the first slots, whose time is mostly compilation."""
        self._last = now = time.monotonic()
        if finished >= needed:
            return f", {now - self._start:.0f} s in all"
        since, start = self._first or (now, finished)
        if finished == start:
            return ""
        return f", about {(now - since) / (finished - start) * (needed - finished):.0f} s left"


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description:<20}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)
