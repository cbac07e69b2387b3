import numpy as np
import pytest

from tests.workload.worlds import small_cluster
from torta_jax.types import Cluster


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return small_cluster()


@pytest.fixture
def bits():
    """An array as its bytes, to compare without tolerance."""
    return lambda array: np.asarray(array).tobytes()
