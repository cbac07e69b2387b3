"""Round-robin over regions and over servers, within capacity and compatibility (Section VI)."""

from torta_jax.schedulers.rules import PLANS, Rules, Transport
from torta_jax.schedulers.tuned import tuned
from torta_jax.sim.affinity import Weights
from torta_jax.sim.dispatch import Rule


def round_robin() -> Rules:
    """Each task goes to the next region, there to the next server that is on and has room.

    A region with as many outstanding tasks as lanes is passed over for the least loaded one; a server whose queue is
    longer than `max_wait_s` has no room.
    """
    return tuned(
        "round-robin",
        Rules(
            transport=Transport(plan=PLANS.index("even")),
            rule=Rule(keep_below=1.0, room_below=1.0, latency_weight=0.0, load_weight=1.0, cyclic=True),
            weights=Weights(turn=1.0),
        ),
    )
