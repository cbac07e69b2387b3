"""Single-slot optimal transport on the last slot's demand: the reactive method the paper argues against."""

from torta_jax.schedulers.rules import PLANS, Forecast, Rules, Transport
from torta_jax.schedulers.torta import EQ_7
from torta_jax.sim.activation import ActivationRule


def reactive_ot() -> Rules:
    """Eq 2 per slot without memory, TORTA's micro layer, autoscaling on the last slot's demand."""
    return Rules(transport=Transport(plan=PLANS.index("balanced")), weights=EQ_7)


def reactive_hysteresis() -> Rules:
    """`reactive_ot` with smoothed demand and a cool-down: what plain engineering gains without foresight."""
    return reactive_ot().replace(
        forecast=Forecast(level=0.3),
        activation=ActivationRule(cooldown_s=180.0),
    )
