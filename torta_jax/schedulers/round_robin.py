"""Round-robin over regions and over servers, within capacity and compatibility (Section VI)."""

from torta_jax.calibration import CALIBRATED
from torta_jax.schedulers.rules import PLANS, Rules, Transport
from torta_jax.sim.affinity import Weights
from torta_jax.sim.dispatch import Rule


def round_robin(full_at: float = CALIBRATED.full_at) -> Rules:
    """Each task goes to the next region, there to the next server that is on and can hold its model.

    Args:
        full_at: load (outstanding tasks per lane) at which a region is passed over for the least loaded one.
    """
    return Rules(
        transport=Transport(plan=PLANS.index("even")),
        rule=Rule(keep_below=full_at, room_below=full_at, latency_weight=0.0, load_weight=1.0, cyclic=True),
        weights=Weights(turn=1.0),
        max_wait_s=45.0,
    )
