"""The worlds of `torta compare` that an experiment is asked for: the paper's topologies, a trace."""

from collections.abc import Sequence
from pathlib import Path

from torta_jax import cluster as clusters
from torta_jax.cli import world
from torta_jax.cli.options import Compare
from torta_jax.errors import about, require


def compared(
    topologies: Sequence[str],
    trace: Path | None,
    *,
    policies: tuple[str, ...],
    seeds: int,
    slots: int | None,
    room: float | None = None,
) -> dict[str, world.World]:
    """Worlds by name, all of them made before any is played, so that mistakes are told at once.

    Args:
        trace: replayed on Abilene, with the room that `torta compare` gives it.
        slots: of 45 s; None: those of `torta compare`.
        room: of the topologies, in slots of waiting tasks; None: that of `torta compare`.

    Raises:
        InputError: neither topologies nor a trace, an unknown topology, or a file that is no trace.
    """
    size = {"policies": policies, "seeds": seeds, "slots": slots}
    with about("--topologies"):
        for name in topologies:
            clusters.load(name)
    every = {name: Compare(topology=name, room=room, **size) for name in topologies}
    if trace is not None:
        every[trace.stem] = Compare(trace=str(trace), **size)
    require(bool(every), "--topologies: one or more are needed, or --trace")
    return {title: world.build(options) for title, options in every.items()}
