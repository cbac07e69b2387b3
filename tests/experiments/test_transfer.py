"""Which world each comparison is in."""

import sys
from importlib.resources import files

from experiments import compared, transfer
from torta_jax.schedulers.policy_file import pack, unpack


def test_topologies_have_the_room_of_the_experiment_and_a_trace_that_of_the_command(tmp_path, monkeypatch):
    """Less room than a trace needs makes tasks wait that `torta compare` serves."""
    asked = []
    monkeypatch.setattr(compared.world, "build", lambda options: asked.append(options))
    monkeypatch.setattr(transfer, "measured", lambda world, files, trainings: {})
    network = str(files("torta_jax.schedulers") / "weights" / "torta.npz")
    parameters, facts = unpack(network)
    blind = tmp_path / "policy.npz"
    blind.write_bytes(pack(parameters, facts | {"blind": True}))
    monkeypatch.setattr(sys, "argv", ["transfer", str(blind), "--topologies", "polska", "--trace", "t.csv"])
    transfer.main()
    assert [(one.topology, one.trace, one.room) for one in asked] == [
        ("polska", None, transfer.ROOM),
        ("abilene", "t.csv", None),
    ]
