"""One XLA device per core, so that a batch of clusters uses the whole machine."""

import os

VARIABLE = "JAX_NUM_CPU_DEVICES"
FLAG = "xla_force_host_platform_device_count"
MOST = 16
"""More devices than this hold too few clusters each to be worth their compile."""


def use_all_cores() -> None:
    """Ask JAX for a CPU device per core; to be called before JAX is imported. Results do not depend on it."""
    if FLAG not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault(VARIABLE, str(min(os.cpu_count() or 1, MOST)))
