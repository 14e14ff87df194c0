"""Do predicted distributions mean what they say? PIT values and interval coverage for counts.

Counts are discrete: the plain interval of a calibrated model covers more than its level. Here the probability
integral transform is randomised over the jump of the distribution at the observed count (Brockwell 2007; Czado,
Gneiting and Held 2009), which makes it exactly uniform for a calibrated model; coverage is read off the same values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ._registry import metric


def negative_binomial_cdf(count: ArrayLike, mean: ArrayLike, size: ArrayLike = np.inf) -> NDArray[np.float64]:
    """Return ``P(Y <= count)`` of a negative binomial with variance ``mean + mean ** 2 / size``; Poisson at infinity.

    Parameters
    ----------
    count
        Counts, any shape; -1 gives 0.
    mean, size
        Mean and dispersion, broadcast against ``count``.

    Returns
    -------
    Probabilities in the broadcast shape.
    """
    count, mean, size = np.broadcast_arrays(*(np.asarray(array, dtype=np.float64) for array in (count, mean, size)))
    poisson = np.isinf(size)
    finite = np.where(poisson, 1.0, size)
    return np.where(poisson, stats.poisson.cdf(count, mean), stats.nbinom.cdf(count, finite, finite / (finite + mean)))


def sample_cdf(count: ArrayLike, samples: ArrayLike) -> NDArray[np.float64]:
    """Return the share of draws at or below each count.

    Parameters
    ----------
    count
        Counts of any shape.
    samples
        Draws of shape ``(n_samples, *count.shape)``.

    Returns
    -------
    Shares in the shape of ``count``.
    """
    return np.mean(np.asarray(samples) <= np.asarray(count), axis=0)


def randomized_pit(below: ArrayLike, at: ArrayLike, seed: int | None = 0) -> NDArray[np.float64]:
    r"""Return randomised PIT values ``F(x - 1) + v (F(x) - F(x - 1))`` with uniform :math:`v`.

    Parameters
    ----------
    below
        Predicted probability of a count smaller than the observed one, any shape.
    at
        Predicted probability of a count up to the observed one, same shape.
    seed
        Seed of the uniform numbers.

    Returns
    -------
    Values between 0 and 1 in the shape of ``at``.

    Raises
    ------
    ValueError
        If ``at < below`` anywhere.
    """
    low, high = np.asarray(below, dtype=np.float64), np.asarray(at, dtype=np.float64)
    if np.any(high < low):
        raise ValueError("P(Y <= x) must not be smaller than P(Y < x): pass the distribution at x - 1 first, then at x")
    return low + np.random.default_rng(seed).random(low.shape) * (high - low)


@metric("lower", "Kolmogorov-Smirnov distance of randomised PIT values from uniform")
def pit_ks(pit: ArrayLike) -> float:
    """Largest distance between the distribution of PIT values and the uniform one; 0 is calibrated.

    Parameters
    ----------
    pit
        Values of :func:`randomized_pit`, any shape; all entries are pooled.

    Returns
    -------
    Distance between 0 and 1.
    """
    return float(stats.kstest(np.ravel(pit), "uniform").statistic)


def interval_coverage(pit: ArrayLike, level: float = 0.9) -> float:
    """Share of counts inside the central predictive interval of the given level, randomised at its ends.

    Parameters
    ----------
    pit
        Values of :func:`randomized_pit`, any shape.
    level
        Probability of the interval, between 0 and 1; a calibrated model covers exactly this share.

    Returns
    -------
    Share between 0 and 1.
    """
    return float(np.mean(np.abs(2 * np.ravel(pit) - 1) <= level))


@metric("lower", "mean distance of interval coverage from its level at 50, 80, 90 and 95 %")
def coverage_error(pit: ArrayLike, levels: tuple[float, ...] = (0.5, 0.8, 0.9, 0.95)) -> float:
    """Mean over ``levels`` of ``|interval_coverage(pit, level) - level|``; 0 is calibrated.

    Parameters
    ----------
    pit
        Values of :func:`randomized_pit`, any shape.
    levels
        Probabilities of the intervals.

    Returns
    -------
    Distance between 0 and 1.
    """
    return float(np.mean([abs(interval_coverage(pit, level) - level) for level in levels]))
