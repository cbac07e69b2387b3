"""SkyLB (SkyWalker, arXiv 2505.24095): local first, selective pushing, prefix affinity.

A request stays in its region while that has a free replica, else it goes to the nearest region that reports one, else
it waits at home. Inside a region only replicas without pending work are considered while there are any, among them
those that hold the model and the longest matching prefix; otherwise the first to become free takes it, which is what
waiting at the balancer for the next free replica amounts to.
"""

from torta_jax.calibration import CALIBRATED
from torta_jax.schedulers.rules import PLANS, Rules, Transport
from torta_jax.schedulers.tuned import tuned
from torta_jax.sim.affinity import Weights
from torta_jax.sim.dispatch import Rule


def skylb(keep_local: float = CALIBRATED.keep_local) -> Rules:
    """SkyLB with an autoscaler on the last slot's demand (Eq 6).

    Args:
        keep_local: load (outstanding tasks per lane) from which a region counts as full; tuned by the calibration.
    """
    return Rules(
        transport=Transport(plan=PLANS.index("stay")),
        rule=Rule(keep_below=keep_local, room_below=keep_local),
        weights=Weights(idle=1000.0, wait=1.0, resident=0.5, embedding_locality=0.5),
        max_wait_s=90.0,
    )


def skylb_engineered() -> Rules:
    """SkyLB's routing with `torta`'s engineering: earliest finish, smoothed demand, headroom, cool-down.

    Not in any paper; it stands in the tables so that engineering is not mistaken for routing or learning. It is tuned
    as `torta` is.
    """
    return tuned("skylb-engineered", skylb().replace(weights=Weights(wait=1.0, service=1.0)))
