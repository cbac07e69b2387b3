"""Single-slot optimal transport on the last slot's demand: the reactive method the paper argues against."""

from torta_jax.schedulers.rules import PLANS, Rules, Transport
from torta_jax.schedulers.torta import EQ_7
from torta_jax.schedulers.tuned import tuned


def reactive_ot() -> Rules:
    """Eq 2 per slot without memory, TORTA's micro layer, autoscaling on the last slot's demand."""
    return tuned("reactive-ot", _eq_2())


def reactive_hysteresis() -> Rules:
    """`reactive_ot` on smoothed demand with headroom: what engineering gains without smoothing the matrix."""
    return tuned("reactive-hysteresis", _eq_2())


def _eq_2() -> Rules:
    return Rules(transport=Transport(plan=PLANS.index("balanced")), weights=EQ_7, by_urgency=True)
