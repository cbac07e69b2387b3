"""What tables say of values in many worlds and of several trainings: means and differences, with 95 % intervals."""

import numpy as np
from scipy import stats

from torta_jax.evaluate.compare import bootstrap_mean


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Values [..., clusters] whose mean is the ratio of the sum of [..., clusters] to that of [clusters].

    Their spread is the ratio's, too, linearised, as the whole is a sample (Cochran, Sampling Techniques, 3rd ed. 1977,
    section 6.3).
    """
    share = part.sum(axis=-1, keepdims=True) / whole.sum()
    return share + (part - share * whole) / whole.mean()


def relative(new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """By how much [..., clusters] is more than [clusters], in per cent of the latter's mean."""
    return 100 * ratio(new - old, old)


def with_interval(values: np.ndarray, form: str = "+.2f") -> str:
    """The mean of values [trainings, clusters], and its 95 % interval over clusters and, of several, trainings."""
    if values.shape[1] < 2:
        return f"{values.mean():{form}}"
    low, high = crossed_mean(values) if len(values) > 1 else bootstrap_mean(values[0])
    return bracketed(values.mean(), float(low), float(high), form)


def bracketed(mean: float, low: float, high: float, form: str = "+.2f") -> str:
    """A mean and its interval, if there is one."""
    return f"{mean:{form}}" if np.isnan(low) else f"{mean:{form}} [{low:{form}}, {high:{form}}]"


def share_of_gap(closed: np.ndarray, gap: np.ndarray) -> str:
    """What was closed [trainings, clusters] of all gaps [clusters], in per cent, with its interval."""
    return with_interval(100 * ratio(closed, gap), ".0f")


def crossed_mean(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of values [trainings, clusters], both of which are samples.

    The variance is the sum of those over either (crossed random effects; a little too wide, as each has the other's
    noise in it), Student's t that of the smaller sample.
    """
    spread = sum(values.mean(axis=1 - axis).var(ddof=1) / values.shape[axis] for axis in (0, 1))
    half = stats.t.ppf(0.975, min(values.shape) - 1) * spread**0.5
    return values.mean() - half, values.mean() + half
