"""SDIB, after MERL-LB (arXiv 2305.03463): even load over servers, little mean idle time."""

from torta_jax.schedulers.rules import PLANS, Rules, Transport
from torta_jax.schedulers.tuned import tuned
from torta_jax.sim.affinity import Weights
from torta_jax.sim.dispatch import Rule


def sdib() -> Rules:
    """Each task goes to the least loaded region, there to the least loaded server, the longest idle of equals."""
    return tuned(
        "sdib",
        Rules(
            transport=Transport(plan=PLANS.index("stay")),
            rule=Rule(keep_below=0.0, latency_weight=0.0, load_weight=1.0),
            weights=Weights(wait=1.0, idle_time=0.1),
        ),
    )
