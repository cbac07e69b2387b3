"""What every workload is: a pytree of numbers with two pure functions."""

from typing import Any, Protocol

import jax

from torta_jax.types import Cluster, Scenario, Tasks


class Workload(Protocol):
    """The arrivals of a cluster. A user's own workload needs these names and nothing else.

    `key` is the typed key of the world, the same in every slot: a workload folds the slot and its own
    stream into it, so that arrivals depend neither on the policy nor on the batch.
    """

    @property
    def model_gb(self) -> jax.Array:
        """[K] memory of each model in GB."""
        ...

    @property
    def max_tasks(self) -> int:
        """N, rows of `Tasks`: static."""
        ...

    @property
    def embedding_dim(self) -> int:
        """E, width of the embeddings: static, may be 0."""
        ...

    @property
    def start_hour_utc(self) -> jax.Array:
        """[] hour of the day of the first slot, UTC: the clock of the prices."""
        ...

    def prepare(self, cluster: Cluster, scenario: Scenario, key: jax.Array, num_slots: int, slot_s: float) -> Any:
        """What does not change from slot to slot, once before the scan; pure, and can be vmapped."""
        ...

    def arrivals(self, prepared: Any, key: jax.Array, slot: jax.Array) -> Tasks:
        """The tasks that arrive in `slot` (a traced int32), sorted by arrival time."""
        ...
