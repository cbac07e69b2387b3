"""Round-robin over regions and over servers, within capacity and compatibility (Section VI)."""

from torta_jax.calibration import CALIBRATED
from torta_jax.schedulers.rules import PLANS, Rules, Transport
from torta_jax.sim.affinity import Weights
from torta_jax.sim.dispatch import Rule


def round_robin(max_wait_s: float = CALIBRATED.round_robin_wait_s) -> Rules:
    """Each task goes to the next region, there to the next server that is on and has room.

    A region with as many outstanding tasks as lanes is passed over for the least loaded one.

    Args:
        max_wait_s: a server with a longer queue has no room; tuned by the calibration.
    """
    return Rules(
        transport=Transport(plan=PLANS.index("even")),
        rule=Rule(keep_below=1.0, room_below=1.0, latency_weight=0.0, load_weight=1.0, cyclic=True),
        weights=Weights(turn=1.0),
        max_wait_s=max_wait_s,
    )
