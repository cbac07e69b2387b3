"""Every core is used, unless the user has said otherwise."""

import os

from torta_jax.cli.cores import FLAG, VARIABLE, use_all_cores


def test_jax_gets_a_device_per_core(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XLA_FLAGS", "")
    use_all_cores()
    assert 1 <= int(os.environ[VARIABLE]) <= max(os.cpu_count() or 1, 1)


def test_a_user_who_has_chosen_is_left_alone(monkeypatch):
    monkeypatch.setenv(VARIABLE, "3")
    use_all_cores()
    assert os.environ[VARIABLE] == "3"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XLA_FLAGS", f"--{FLAG}=5")
    use_all_cores()
    assert VARIABLE not in os.environ
