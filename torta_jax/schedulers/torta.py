"""TORTA twice: to the letter of the paper, and what we know to be better."""

from torta_jax.schedulers.rules import PLANS, Forecast, Rules, Transport
from torta_jax.sim.activation import ActivationRule
from torta_jax.sim.affinity import Weights

EQ_7 = Weights(hardware=0.3, load=1.0, model_locality=0.3, embedding_locality=0.3)
"""Eq 7 with weights that do not starve the load term (equal ones give waits of several seconds)."""


def torta_paper() -> Rules:
    """Eq 2 by ott-jax, closed-form smoothing in place of the learned policy, Eq 6, Eq 7-10, Algorithm 1."""
    return Rules(
        transport=Transport(plan=PLANS.index("balanced"), smoothing=1.0),
        forecast=Forecast(level=0.5, trend=0.1, horizon=1.0),
        weights=EQ_7,
        activation=ActivationRule(max_starts=4.0, max_stops=2.0),
    )


def torta() -> Rules:
    """Capacity as an upper bound, a forecast over the cold start, hysteresis, earliest finish."""
    return Rules(
        transport=Transport(plan=PLANS.index("capacitated"), smoothing=1.0),
        forecast=Forecast(level=0.3, trend=0.1, damping=0.9, horizon=4.0),
        weights=Weights(wait=1.0, service=1.0),
        activation=ActivationRule(cooldown_s=180.0, power_weight=1.0),
    )
