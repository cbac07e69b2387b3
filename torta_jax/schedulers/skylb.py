"""SkyLB (SkyWalker, arXiv 2505.24095): local first, selective pushing, prefix affinity.

A request stays in its region while that has a free replica, else it goes to the nearest region that reports one, else
it waits at home. Inside a region only replicas without pending work are considered while there are any, among them
those that hold the model and the longest matching prefix; otherwise the first to become free takes it, which is what
waiting at the balancer for the next free replica amounts to.
"""

from torta_jax.schedulers.rules import PLANS, Rules, Toll, Transport
from torta_jax.schedulers.tuned import tuned
from torta_jax.sim.affinity import Weights
from torta_jax.sim.dispatch import Rule


def skylb() -> Rules:
    """SkyLB with an autoscaler on the last slot's demand (Eq 6).

    A region counts as full from `rule.keep_below` outstanding tasks per lane on, and as having room for other regions'
    tasks below `rule.room_below`.
    """
    return tuned("skylb", _skylb())


def skylb_engineered() -> Rules:
    """SkyLB's routing with `torta`'s engineering: earliest finish with a toll, smoothed demand, headroom.

    Not in any paper; it stands in the tables so that engineering is not mistaken for routing or learning. It is tuned
    as `torta` is.
    """
    return tuned(
        "skylb-engineered",
        _skylb().replace(weights=Weights(wait=1.0, service=1.0), toll=Toll(weight=1.0), by_auction=True),
    )


def _skylb() -> Rules:
    return Rules(
        transport=Transport(plan=PLANS.index("stay")),
        rule=Rule(keep_below=1.0, room_below=1.0),
        weights=Weights(idle=100.0, wait=100.0, resident=10.0, prefix_hit=1.0),
    )
