"""`torta trace check FILE`: is a trace valid, and what does it hold?"""

from torta_jax.cli.options import TraceCheck
from torta_jax.cli.rules import text


def run(command: TraceCheck) -> None:
    """Print the report on a trace.

    Raises:
        InputError: the trace cannot be used.
    """
    from torta_jax.workload import check

    print(check(text("FILE", command.file)))
