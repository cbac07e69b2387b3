"""Ctrl-C: when it is raised, and what it leaves."""

import gc
import os
import signal
import sys
import threading
import time
import types

import pytest

from torta_jax.cli.main import interrupt, main
from torta_jax.evaluate import rollout
from torta_jax.learn import checkpoint, train

SMALL = ["compare", "--policies", "skylb,torta", "--seeds", "2", "--slots", "4"]


def test_an_interruption_inside_a_callback_of_the_garbage_collector_is_raised_after_it():
    def callback(*_):
        interrupt(signal.SIGINT, sys._getframe())
        gc.callbacks.remove(callback)

    before = signal.signal(signal.SIGINT, interrupt)
    gc.callbacks.append(callback)
    try:
        gc.collect()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(5)
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interruption_while_a_training_is_saved_is_raised_after_it(tmp_path, monkeypatch):
    done = []

    def write(_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        done.append("policy")

    monkeypatch.setattr(checkpoint, "save", lambda *_: done.append("checkpoint"))
    keep = train.keep_in(tmp_path, {}, write)

    def save_and_wait():
        keep(train.Trained(types.SimpleNamespace(updates=1), [{"cost": 1.0}]))
        time.sleep(5)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            save_and_wait()
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["policy", "checkpoint"]


def test_an_interruption_ends_with_130_and_no_traceback(monkeypatch, tmp_path, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(rollout, "evaluate", interrupted)
    assert main([*SMALL, "-q", "--out", str(tmp_path / "deep" / "run")]) == 130
    assert capsys.readouterr().err == "torta: interrupted\n"
    assert not list(tmp_path.iterdir())


def test_an_interruption_while_python_ends_its_threads_comes_too_late():
    def ending(code):
        return types.SimpleNamespace(f_code=code, f_globals={}, f_back=None)

    interrupt(signal.SIGINT, ending(threading._shutdown.__code__))  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        interrupt(signal.SIGINT, ending(ending.__code__))  # type: ignore[arg-type]
