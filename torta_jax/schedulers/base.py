"""What a policy is: a few pure functions on a pytree of numbers."""

from typing import Any, Protocol

import jax

from torta_jax.sim.activation import ActivationRule
from torta_jax.sim.affinity import Offer
from torta_jax.sim.dispatch import Rule
from torta_jax.sim.observe import Observation
from torta_jax.types import Cluster


class Scheduler(Protocol):
    """A policy. Every method is pure, jittable and vmappable; `State` is any pytree of arrays."""

    rule: Rule  # what happens task by task after the matrix
    activation: ActivationRule
    by_urgency: Any  # [] bool: a slot that is known at its start is decided by deadline, then size (Algorithm 1)
    by_auction: (
        Any  # [] bool: or else by an auction, for which `affinity` must be in seconds that a lane costs, negative
    )
    max_wait_s: Any  # [] a server with a longer queue takes no task; it stays buffered

    def init(self, cluster: Cluster) -> Any:
        """The policy's state before the first slot."""
        ...

    def route(self, state: Any, observation: Observation) -> tuple[Any, jax.Array]:
        """The next state and the routing matrix [R, R] of shares >= 0; a row need not sum to one."""
        ...

    def demand(self, state: Any, observation: Observation, matrix: jax.Array) -> jax.Array:
        """[R] tasks per slot each region should have servers for."""
        ...

    def affinity(self, state: Any, offer: Offer) -> jax.Array:
        """[R, S] score of each server for its region's task; the highest that is allowed wins."""
        ...
