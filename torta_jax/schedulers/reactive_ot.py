"""Single-slot optimal transport on the last slot's demand: the reactive method the paper argues against."""

from torta_jax.schedulers.rules import PLANS, Forecast, Rules, Transport
from torta_jax.schedulers.torta import EQ_7
from torta_jax.sim.activation import ActivationRule


def reactive_ot() -> Rules:
    """Eq 2 per slot without memory, TORTA's micro layer, autoscaling on the last slot's demand."""
    return Rules(transport=Transport(plan=PLANS.index("balanced")), weights=EQ_7)


def reactive_hysteresis() -> Rules:
    """`reactive_ot` with smoothed demand, headroom and a cool-down: what engineering gains without foresight.

    Tuned by `experiments.tune` with the same budget and objective as `torta`.
    """
    return reactive_ot().replace(
        weights=EQ_7.replace(hardware=0.7, model_locality=0.1, embedding_locality=0.05),
        forecast=Forecast(level=0.86),
        activation=ActivationRule(sigma=2.0, utilisation=0.6, cooldown_s=464.0),
    )
