"""`torta`: results on stdout, progress on stderr, and one message with exit status 2 for a user's mistake."""

import errno
import gc
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from torta_jax.cli.options import Compare, Doctor, SolveAssignment, SolveTransport, TraceCheck, TrainPaper, TrainTorta
from torta_jax.cli.parse import parse
from torta_jax.cli.rules import INTERRUPTED
from torta_jax.errors import InputError

COMMANDS = {
    Compare: "compare",
    Doctor: "doctor",
    SolveAssignment: "solve",
    SolveTransport: "solve",
    TraceCheck: "trace",
    TrainPaper: "train",
    TrainTorta: "train",
}
"""Module of each sub-command, imported when it runs: `--help` needs no JAX."""

WRONG_INPUT = 2
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What standard output says on a disk that is full or failing; other files have messages of their own."""

RETRY_S = 0.05
IMPORTING = "<frozen importlib._bootstrap>"
"""File of the frames that import a module."""
WEAK = ("weakref", "_weakrefset")
"""Modules with callbacks of weak references."""
ENDING = getattr(getattr(threading, "_shutdown", None), "__code__", None)
"""Of the frame in which Python ends its threads: all is done by then."""
SAVING = "keep_in.<locals>.keep"
"""Frame that writes a checkpoint (`torta_jax.learn.train`)."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        words: the command line after the program's name; default: this process's.

    Returns:
        0, or what the command returns, or 2 after a user's mistake, or 130 after an interruption.
    """
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heard and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)
    status = None
    try:
        command = parse(sys.argv[1:] if words is None else words)
        status = importlib.import_module(f"torta_jax.cli.{COMMANDS[type(command)]}").run(command)
        sys.stdout.flush()
    except InputError as error:
        print("torta:", *str(error).splitlines(), file=sys.stderr)  # one line, whatever a file's name holds
        return WRONG_INPUT
    except KeyboardInterrupt:
        print("torta: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"torta: the result could not be written to standard output ({error.strerror})", file=sys.stderr)
        return WRONG_INPUT
    return status or 0


def interrupt(_: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, or a bit later where that would do harm.

    Python ignores it inside a callback of the garbage collector, of which JAX has one, and of a weak reference. A
    compiled module may abort the process if it comes while the module is imported. Half a checkpoint would lose the
    training.
    """
    collecting = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        code = frame.f_code
        if code is ENDING:
            return
        called = code in collecting or frame.f_globals.get("__name__") in WEAK
        if called or code.co_filename == IMPORTING or code.co_qualname == SAVING:
            threading.Timer(RETRY_S, os.kill, (os.getpid(), signal.SIGINT)).start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
