"""Checkpoints: what is written comes back, what is damaged or of something else is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from torta_jax.errors import InputError
from torta_jax.learn import checkpoint
from torta_jax.learn.checkpoint import CHECKSUMS
from torta_jax.learn.pathwise import Training

FACTS = {"policy": "torta", "regions": 12}


def state_of(seed: int) -> Training:
    parameters = {"params": {"layer": {"kernel": jax.random.normal(jax.random.key(seed), (3, 2)), "bias": jnp.ones(2)}}}
    return Training(parameters, (jnp.int32(seed), parameters), jnp.int32(seed), jax.random.key(seed))


def same(one, other) -> bool:
    raw = [[jax.random.key_data(x) if x is y.key else x for x in jax.tree.leaves(y)] for y in (one, other)]
    return all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(*raw, strict=True))


def test_a_state_comes_back_to_the_bit_and_older_ones_go(tmp_path):
    checkpoint.save(tmp_path, 10, state_of(1), FACTS)
    checkpoint.save(tmp_path, 20, state_of(2), FACTS)
    assert checkpoint.steps(tmp_path) == [20]
    step, state = checkpoint.restore(tmp_path, state_of(0), FACTS)
    assert step == 20
    assert same(state, state_of(2))


def test_what_was_not_finished_is_not_there(tmp_path):
    checkpoint.save(tmp_path, 10, state_of(1), FACTS)
    (tmp_path / "20" / "state").mkdir(parents=True)
    assert checkpoint.restore(tmp_path, state_of(0), FACTS)[0] == 10
    with pytest.raises(InputError, match="no checkpoint to resume from"):
        checkpoint.restore(tmp_path / "elsewhere", state_of(0), FACTS)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    checkpoint.save(tmp_path, 10, state_of(1), FACTS)
    with pytest.raises(InputError, match="was made with regions = 12, not 25"):
        checkpoint.restore(tmp_path, state_of(0), FACTS | {"regions": 25})


@pytest.mark.parametrize("of_checksums", [False, True])
def test_a_flipped_bit_or_a_missing_end_is_refused(tmp_path, of_checksums):
    checkpoint.save(tmp_path, 10, state_of(1), FACTS)
    files = (path for path in tmp_path.rglob("*") if path.is_file() and (path.name == CHECKSUMS) == of_checksums)
    file = max(files, key=lambda path: path.stat().st_size)
    whole = file.read_bytes()
    for at in (0, len(whole) // 3, 2 * len(whole) // 3):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(InputError, match=r"damaged|cannot be read|other arrays|was made with|of version"):
            checkpoint.restore(tmp_path, state_of(0), FACTS)
    file.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"damaged|cannot be read"):
        checkpoint.restore(tmp_path, state_of(0), FACTS)
