"""TORTA twice: to the letter of the paper, and what we know to be better. `tuned.toml` has the numbers left open."""

from torta_jax.schedulers.rules import PLANS, Forecast, Rules, Toll, Transport
from torta_jax.schedulers.tuned import tuned
from torta_jax.sim.affinity import Weights
from torta_jax.sim.dispatch import Rule

EQ_7 = Weights(hardware=1.0, load=1.0, model_locality=0.1, embedding_locality=0.1)
"""Eq 7; the load's weight is the unit, the others are tuned. Eq 10 is not normalised: with (0.3, 1, 0.3, 0.3) it
outweighs the load and tasks queue for the server that knows their model."""


def torta_paper() -> Rules:
    """Eq 2, closed-form smoothing in place of the learned policy, Eq 6, Eq 7-10, Algorithm 1."""
    return tuned(
        "torta-paper",
        Rules(
            transport=Transport(plan=PLANS.index("balanced")),
            forecast=Forecast(horizon=1.0),
            weights=EQ_7,
            by_urgency=True,
        ),
    )


def torta() -> Rules:
    """Capacity as an upper bound, smoothed demand with headroom, earliest finish with a toll on busy servers.

    The matrix names a task's region; if that is full when the task arrives, the nearest region with room takes it.
    """
    return tuned(
        "torta",
        Rules(
            transport=Transport(plan=PLANS.index("capacitated")),
            rule=Rule(keep_below=1.0, room_below=1.0),
            weights=Weights(wait=1.0, service=1.0),
            toll=Toll(weight=1.0),
            by_auction=True,
        ),
    )
