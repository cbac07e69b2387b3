"""Numbers of policies that the paper leaves open, as `experiments.tune` found them and wrote them to `tuned.toml`."""

import tomllib
from pathlib import Path
from typing import Any

from torta_jax.schedulers.rules import Rules

FILE = Path(__file__).with_name("tuned.toml")
TUNED = tomllib.loads(FILE.read_text())


def tuned(name: str, policy: Rules) -> Rules:
    """The policy with the numbers of the table `name` in place of its own."""
    return with_numbers(policy, TUNED.get(name, {}))


def with_numbers(policy: Rules, numbers: dict[str, Any]) -> Rules:
    """The policy with other numbers, of its own or of its parts: `{"max_wait_s": 5.0, "forecast": {"level": 0.5}}`."""

    def new(name: str, value: Any) -> Any:
        return getattr(policy, name).replace(**value) if isinstance(value, dict) else value

    return policy.replace(**{name: new(name, value) for name, value in numbers.items()})
