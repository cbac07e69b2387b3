"""`torta doctor`: devices, versions and the compilation cache."""

from torta_jax.cli import cache
from torta_jax.cli.options import Doctor


def run(command: Doctor) -> None:
    """Print Python, devices, versions and the compilation cache."""
    directory = cache.enable()
    from torta_jax.cli.versions import devices, versions

    for name, value in versions().items():
        print(f"{name:<12}{value}")
    for device in devices():
        print(f"{'device':<12}{device}")
    if directory is None:
        print(f"{'cache':<12}none: no directory could be written; set {cache.VARIABLE}")
    else:
        print(f"{'cache':<12}{directory} ({cache.size_mb(directory):.1f} MB)")
