"""The calibrated world: numbers the paper leaves open, chosen or fitted to its baselines alone, and then frozen."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).with_name("calibration.toml")


@dataclass(frozen=True)
class Calibration:
    """Defaults of the synthetic world."""

    load: float  # offered work at the diurnal peak, as a share of the fleet's capacity
    start_hour_utc: float  # of the first slot
    work_mean_s: float  # per task on the reference GPU; uniform between 8/15 and 22/15 of it
    zipf_exponent: float  # of the models' popularity
    noise_sigma: float  # standard deviation of the log rate
    speed_spread: float  # exponent on the GPU types' relative speeds
    mismatch: float  # speed factor of a task on a GPU type meant for another kind
    switch_factor: float  # share of Fig 3a's model switch that a task waits for

    @property
    def work_low_s(self) -> float:
        return 8 / 15 * self.work_mean_s

    @property
    def work_high_s(self) -> float:
        return 22 / 15 * self.work_mean_s


CALIBRATED = Calibration(**tomllib.loads(FILE.read_text()))
