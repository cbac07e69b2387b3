"""Policy files: parameters come back with their facts, what is damaged is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torta_jax.errors import InputError
from torta_jax.schedulers import policy_file

FACTS = {"policy": "torta", "regions": 12}
PARAMETERS = {"params": {"layer": {"kernel": jax.random.normal(jax.random.key(3), (3, 2)), "bias": jnp.ones(2)}}}


def test_parameters_come_back_with_their_facts(tmp_path):
    parameters = PARAMETERS
    path = tmp_path / "it.npz"
    path.write_bytes(policy_file.pack(parameters, FACTS))
    found, facts = policy_file.unpack(path)
    assert facts == FACTS
    assert jax.tree.structure(found) == jax.tree.structure(parameters)
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(parameters), strict=True))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_damaged_policy_file_is_refused_or_still_the_same(data):
    whole = policy_file.pack(PARAMETERS, FACTS)
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place]
    else:
        damaged = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    try:
        found, facts = policy_file.unpack("it.npz", damaged)
    except InputError:
        return
    original, _ = policy_file.unpack("it.npz", whole)  # a byte that nobody reads, such as a date
    assert facts == FACTS
    assert jax.tree.structure(found) == jax.tree.structure(original)
    assert all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(original), strict=True))


def test_a_file_that_is_not_there_or_of_another_version_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"no\.npz: cannot be read"):
        policy_file.unpack(tmp_path / "no.npz")
    monkeypatch.setattr(policy_file, "VERSION", 2)
    newer = policy_file.pack({"a": jnp.ones(1)}, {})
    monkeypatch.undo()
    with pytest.raises(InputError, match="of version 2, this program reads 1"):
        policy_file.unpack("it.npz", newer)
