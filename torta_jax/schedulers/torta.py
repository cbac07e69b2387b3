"""TORTA twice: to the letter of the paper, and what we know to be better."""

from torta_jax.schedulers.rules import PLANS, Forecast, Rules, Transport
from torta_jax.sim.activation import ActivationRule
from torta_jax.sim.affinity import Weights
from torta_jax.sim.dispatch import Rule

EQ_7 = Weights(hardware=0.2, load=1.0, model_locality=0.03, embedding_locality=0.003)
"""Eq 7, tuned by `experiments.tune`. Eq 10 is not normalised: with (0.3, 1, 0.3, 0.3) it outweighs the load, tasks
queue for the server that knows their model, and waits reach 27 s."""


def torta_paper() -> Rules:
    """Eq 2 by ott-jax, closed-form smoothing in place of the learned policy, Eq 6, Eq 7-10, Algorithm 1."""
    return Rules(
        transport=Transport(plan=PLANS.index("balanced"), smoothing=1.0),
        forecast=Forecast(level=0.5, trend=0.1, horizon=1.0),
        weights=EQ_7,
        activation=ActivationRule(max_starts=4.0, max_stops=2.0),
    )


def torta() -> Rules:
    """Capacity as an upper bound, smoothed demand with headroom, a cool-down, earliest finish.

    The matrix names a task's region; if that is full when the task arrives, the nearest region with room takes it. The
    numbers are those of `experiments.tune`. It found no use for a trend over the cold start in the calibrated world, so
    the forecast is plain smoothing; `Forecast(trend=..., horizon=4)` looks ahead.
    """
    return Rules(
        transport=Transport(
            plan=PLANS.index("capacitated"), price_weight=0.92, latency_weight=0.11, utilisation=0.58, smoothing=3.8
        ),
        rule=Rule(keep_below=0.97, room_below=0.91),
        forecast=Forecast(level=0.36),
        weights=Weights(wait=1.0, service=1.0),
        activation=ActivationRule(sigma=2.0, utilisation=0.6, cooldown_s=73.0),
    )
