"""Versions and devices, as a result directory records them."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = (
    *("torta-jax", "jax", "jaxlib", "flax", "optax", "ott-jax", "numpy", "scipy"),
    *("pyarrow", "matplotlib", "topohub", "tyro", "rich"),
)


def versions() -> dict[str, str]:
    """Python, the platform and the packages that results depend on."""
    system = {"python": platform.python_version(), "platform": platform.platform()}
    return system | {name: version_of(name) for name in PACKAGES}


def devices() -> list[str]:
    """The devices that JAX found, such as `cpu:0 (cpu)`; where it found none, why."""
    import jax  # not above: the version of a package needs none

    try:
        found = jax.devices()
    except (RuntimeError, AssertionError) as error:
        return [f"none ({(str(error).splitlines() or ['a platform that was asked for is not there'])[0]})"]
    return [f"{device.platform}:{device.id} ({device.device_kind})" for device in found]


def version_of(name: str) -> str:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
