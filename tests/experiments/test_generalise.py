"""Whose worlds are whose."""

import numpy as np

from experiments.generalise import DEVELOP, HELD_OUT, Options, held_out
from torta_jax.learn.worlds import CALM


def test_whoever_tries_a_change_does_not_see_the_worlds_that_results_are_published_of():
    published, tried = (
        np.asarray(held_out(Options((), clusters=2, slots=2, servers=4, root=root), CALM, 2).prepared.rate)
        for root in (HELD_OUT, DEVELOP)
    )
    assert not np.isclose(published, tried).any()
