"""Numbers of policies that the paper leaves open, as `experiments.tune` found them and wrote them to `tuned.toml`."""

import tomllib
from pathlib import Path

from torta_jax.schedulers.rules import Rules

FILE = Path(__file__).with_name("tuned.toml")
TUNED = tomllib.loads(FILE.read_text())


def tuned(name: str, policy: Rules) -> Rules:
    """The policy with the numbers of the table `name` in place of its own."""
    return with_numbers(policy, TUNED.get(name, {}))


def with_numbers(policy: Rules, parts: dict[str, dict[str, float]]) -> Rules:
    """The policy with other numbers, by part and leaf: `{"forecast": {"level": 0.5}}`."""
    return policy.replace(**{part: getattr(policy, part).replace(**leaves) for part, leaves in parts.items()})
