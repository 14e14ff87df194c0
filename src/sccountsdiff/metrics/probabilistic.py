"""Whole predicted distributions against the counts that came: CRPS and log score, both proper."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from ._registry import metric
from .calibration import negative_binomial_cdf
from .counts import mean_over_entries

#: Dispersions beyond which the hypergeometric series loses its digits; the law is Poisson but for a factor there.
_LARGEST_SIZE = 1e4


def half_mean_difference(mean: ArrayLike, size: ArrayLike = np.inf) -> NDArray[np.float64]:
    r"""Half the mean absolute difference of two independent negative-binomial counts.

    .. math:: \frac{\mu (s + \mu)}{s + 2 \mu} \; {}_2F_1\!\left(1 - s, \tfrac12; 2;
              \frac{4 \mu (s + \mu)}{(s + 2 \mu)^2}\right)

    with mean :math:`\mu` and size :math:`s`; Poisson, :math:`\mu e^{-2\mu} (I_0(2\mu) + I_1(2\mu))`, at infinity.

    Parameters
    ----------
    mean, size
        Mean and dispersion (variance ``mean + mean ** 2 / size``), broadcast against each other.

    Returns
    -------
    Values in the broadcast shape.
    """
    mean, size = np.broadcast_arrays(np.asarray(mean, dtype=np.float64), np.asarray(size, dtype=np.float64))
    poisson = mean * (special.ive(0, 2 * mean) + special.ive(1, 2 * mean)) * np.sqrt(1 + mean / size)
    finite = np.where(size > _LARGEST_SIZE, 1.0, size)  # what is not used is at least cheap: long series are slow
    whole, double = finite + mean, finite + 2 * mean
    exact = mean * whole / double * special.hyp2f1(1 - finite, 0.5, 2, 4 * mean * whole / double**2)
    return np.where(size > _LARGEST_SIZE, poisson, exact)


def crps_negative_binomial(count: ArrayLike, mean: ArrayLike, size: ArrayLike = np.inf) -> NDArray[np.float64]:
    r"""Continuous ranked probability score of each count under a negative binomial, in closed form.

    .. math:: E |Y - x| - \tfrac12 E |Y - Y'| = x (2 F_s(x) - 1) - \mu (2 F_{s+1}(x - 1) - 1)
              - \tfrac12 E |Y - Y'|

    where :math:`F_{s+1}` has size :math:`s + 1` and the same success probability. In counts; the absolute error of a
    forecast without spread.

    Parameters
    ----------
    count
        Counts that came, any shape.
    mean, size
        Mean and dispersion, broadcast against ``count``; an infinite size is Poisson.

    Returns
    -------
    Scores in the broadcast shape; lower is better.

    References
    ----------
    Wei and Held, Test 23 (2014); Jordan, Krueger and Lerch, J. Stat. Softw. 90 (2019).
    """
    count, mean, size = np.broadcast_arrays(*(np.asarray(array, dtype=np.float64) for array in (count, mean, size)))
    at = negative_binomial_cdf(count, mean, size)
    tilted_mean = np.where(np.isinf(size), mean, mean + mean / size)  # size + 1 at the same success probability
    below = negative_binomial_cdf(count - 1, tilted_mean, size + 1)
    return count * (2 * at - 1) - mean * (2 * below - 1) - half_mean_difference(mean, size)


def crps_draws(count: ArrayLike, samples: ArrayLike) -> NDArray[np.float64]:
    r"""Continuous ranked probability score of each count under a set of draws, unbiased for their law.

    .. math:: \frac1M \sum_m |y_m - x| - \frac{1}{2 M (M - 1)} \sum_{m, k} |y_m - y_k|

    Parameters
    ----------
    count
        Counts that came, any shape.
    samples
        Draws of shape ``(n_samples, *count.shape)``, at least two.

    Returns
    -------
    Scores in the shape of ``count``; lower is better.

    Raises
    ------
    ValueError
        If there are fewer than two draws.
    """
    draws = np.sort(np.asarray(samples, dtype=np.float64), axis=0)
    n = len(draws)
    if n < 2:
        raise ValueError(f"The spread of draws needs at least two of them, got {n}.")
    weights = (2 * np.arange(1, n + 1) - n - 1).reshape(-1, *[1] * (draws.ndim - 1))
    spread = (weights * draws).sum(axis=0) / (n * (n - 1))
    return np.abs(draws - np.asarray(count)).mean(axis=0) - spread


@metric("lower", "continuous ranked probability score of hidden entries, in counts")
def crps(observed: ArrayLike, mean: ArrayLike, size: ArrayLike = np.inf) -> float:
    """Mean over entries of :func:`crps_negative_binomial`.

    Parameters
    ----------
    observed
        Counts that came, any shape.
    mean, size
        Mean and dispersion of the predicted negative binomial, broadcast against ``observed``; Poisson by default.

    Returns
    -------
    Counts.

    Raises
    ------
    ValueError
        If there are no entries.
    """
    return mean_over_entries(crps_negative_binomial(observed, mean, size))


@metric("lower", "mean negative log probability of hidden entries, in nats")
def log_score(observed: ArrayLike, mean: ArrayLike, size: ArrayLike = np.inf) -> float:
    """Mean over entries of the negative log probability under a negative binomial.

    Parameters
    ----------
    observed
        Counts that came, any shape.
    mean, size
        Mean and dispersion of the predicted negative binomial, broadcast against ``observed``; Poisson by default.

    Returns
    -------
    Nats per entry.

    Raises
    ------
    ValueError
        If there are no entries.
    """
    count, mean, size = np.broadcast_arrays(*(np.asarray(array, dtype=np.float64) for array in (observed, mean, size)))
    finite = np.where(np.isinf(size), 1.0, size)
    log_probability = np.where(
        np.isinf(size), stats.poisson.logpmf(count, mean), stats.nbinom.logpmf(count, finite, finite / (finite + mean))
    )
    return -mean_over_entries(log_probability)
