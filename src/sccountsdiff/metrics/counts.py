"""Expected counts against counts that the method has not seen, entry by entry."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from ._registry import metric

Counts = ArrayLike | sp.spmatrix | sp.sparray
TARGET_TOTAL = 1e4
_SMALLEST_MEAN = 1e-6
_LARGEST_SUMMED_MEAN = 15.0
_SUMMED_COUNTS = 50


def dense(counts: Counts) -> NDArray[np.float64]:
    """Return counts of shape ``(n_cells, n_genes)`` as a dense float64 array."""
    return np.asarray(counts.toarray() if sp.issparse(counts) else counts, dtype=np.float64)


def pair(first: Counts, second: Counts) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two dense arrays of one shape.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    one, other = dense(first), dense(second)
    if one.shape != other.shape:
        raise ValueError(f"the two arrays have shapes {one.shape} and {other.shape}; pass the same cells and genes")
    return one, other


def some(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values of entries, of which there must be some.

    Raises
    ------
    ValueError
        If there are none.
    """
    if not values.size:
        raise ValueError(
            f"There is nothing to score: of shape {values.shape}, or behind an all-False mask, no entry is left. At "
            "least one is needed; hide some, or leave these cells out."
        )
    return values


def mean_over_entries(values: NDArray[np.float64]) -> float:
    """Return the mean of values of entries; a ValueError if there are none."""
    return float(np.mean(some(values)))


@metric("lower", "Poisson deviance of held-out counts per entry")
def poisson_deviance(expected: Counts, observed: Counts) -> float:
    r"""Mean Poisson deviance per entry.

    .. math:: \frac{2}{n G} \sum_{n, g} x \log \frac{x}{\mu} - (x - \mu)

    with :math:`x` the observed and :math:`\mu` the expected count, no transform. A proper score of the mean
    (Batson et al. 2019): up to a constant it equals the deviance from the true expression. Expected counts from 0 to
    ``1e-6`` count as ``1e-6``.

    Parameters
    ----------
    expected
        Expected counts at the depth of ``observed``, shape ``(n_cells, n_genes)``.
    observed
        Counts that the method has not seen, shape ``(n_cells, n_genes)``.

    Returns
    -------
    Deviance per entry, at least 0.

    Raises
    ------
    ValueError
        If an expected count is negative or NaN, or there are no entries.
    """
    mean, count = pair(expected, observed)
    wrong = ~(mean >= 0)
    if wrong.any():
        raise ValueError(
            f"{wrong.sum():,} of {mean.size:,} expected counts are negative or NaN, the first being {mean[wrong][0]}; "
            "expected counts are 0 or more. Clip them (numpy.clip(expected, 0, None)), or leave out what is not known."
        )
    mean = np.maximum(mean, _SMALLEST_MEAN)
    return 2 * mean_over_entries(count * np.log(np.where(count > 0, count, 1) / mean) * (count > 0) - count + mean)


@metric("lower", "mean squared error of held-out counts per entry")
def mse_counts(expected: Counts, observed: Counts) -> float:
    """Mean over entries of ``(expected - observed) ** 2``, in squared counts: no transform, no root.

    Parameters
    ----------
    expected
        Expected counts at the depth of ``observed``, shape ``(n_cells, n_genes)``.
    observed
        Counts that the method has not seen, shape ``(n_cells, n_genes)``.

    Returns
    -------
    Squared counts per entry.
    """
    mean, count = pair(expected, observed)
    return mean_over_entries((mean - count) ** 2)


def log1p_cp10k(counts: Counts) -> NDArray[np.float64]:
    """Return ``log(1 + 1e4 * counts / total of the cell)``; a cell without counts stays zero.

    Parameters
    ----------
    counts
        Counts of shape ``(n_cells, n_genes)``.

    Returns
    -------
    Dense values of shape ``(n_cells, n_genes)``, natural logarithm.
    """
    values = dense(counts)
    total = values.sum(axis=1, keepdims=True)
    return np.log1p(values * (TARGET_TOTAL / np.where(total > 0, total, 1)))


def mean_log1p_cp10k(cells: Counts) -> NDArray[np.float64]:
    """Return the mean over cells of :func:`log1p_cp10k`, ``(n_genes,)``; what has one dimension is such a mean already."""
    return dense(cells) if np.ndim(cells) == 1 else log1p_cp10k(cells).mean(axis=0)


def expected_log1p_cp10k(expected: Counts, total: ArrayLike) -> NDArray[np.float64]:
    r"""Return the mean of log1p(CP10k) when counts are Poisson.

    :math:`E[\log(1 + 10^4 Y / L)]` with :math:`Y \sim \mathrm{Poisson}(\mu)` and a fixed total :math:`L`: the value
    that minimises the squared error of the transform, which is *not* the transform of the expected count. Batson et
    al. 2019 call it "converting expectations"; without it the score rewards shrinkage. Summed exactly up to a mean
    of 15, by the second-order expansion beyond.

    Parameters
    ----------
    expected
        Expected counts :math:`\mu`, shape ``(n_cells, n_genes)``.
    total
        Total :math:`L` of each cell, shape ``(n_cells,)``.

    Returns
    -------
    Values of shape ``(n_cells, n_genes)``.
    """
    mean = dense(expected)
    scale = (TARGET_TOTAL / np.maximum(np.asarray(total, dtype=np.float64), 1))[:, None]
    summed = np.minimum(mean, _LARGEST_SUMMED_MEAN)
    mass = np.exp(-summed)
    exact = np.zeros_like(mean)
    for count in range(1, _SUMMED_COUNTS + 1):
        mass *= summed / count
        exact += mass * np.log1p(scale * count)
    expansion = np.log1p(scale * mean) - mean * scale**2 / (2 * (1 + scale * mean) ** 2)
    return np.where(mean > _LARGEST_SUMMED_MEAN, expansion, exact)


@metric("lower", "mean squared error of log1p(CP10k) of held-out counts")
def mse_log1p_cp10k(expected: Counts, observed: Counts) -> float:
    r"""Mean over entries of the squared error of log1p(CP10k) against its posterior mean.

    The observed counts are scaled to a total of 10,000 a cell and transformed by ``log1p``; the prediction is
    :func:`expected_log1p_cp10k` of the expected counts at the observed total. Natural logarithm, no root.

    Parameters
    ----------
    expected
        Expected counts at the depth of ``observed``, shape ``(n_cells, n_genes)``.
    observed
        Counts that the method has not seen, shape ``(n_cells, n_genes)``.

    Returns
    -------
    Squared natural logarithms per entry.
    """
    mean, count = pair(expected, observed)
    return mean_over_entries((expected_log1p_cp10k(mean, count.sum(axis=1)) - log1p_cp10k(count)) ** 2)


def masked(imputed: Counts, truth: Counts, mask: ArrayLike | None) -> NDArray[np.float64]:
    """Return ``imputed - truth`` of the entries where ``mask`` is true, all entries if it is None."""
    guess, count = pair(imputed, truth)
    return (guess - count)[slice(None) if mask is None else np.asarray(mask, dtype=bool)]


@metric("lower", "root mean squared error of hidden entries, zeros included")
def rmse(imputed: Counts, truth: Counts, mask: ArrayLike | None = None) -> float:
    """Root of the mean squared error over the entries of ``mask``, in counts.

    Parameters
    ----------
    imputed, truth
        Counts of shape ``(n_cells, n_genes)``, no transform.
    mask
        True where the entry was hidden, shape ``(n_cells, n_genes)``. Hide zeros as well as counts: an error over
        non-zero entries alone rewards inflation. All entries if None.

    Returns
    -------
    Counts.

    Raises
    ------
    ValueError
        If there are no entries.
    """
    return float(np.sqrt(mean_over_entries(masked(imputed, truth, mask) ** 2)))


@metric("lower", "mean absolute error of hidden entries, zeros included")
def mae(imputed: Counts, truth: Counts, mask: ArrayLike | None = None) -> float:
    """Mean absolute error over the entries of ``mask``, in counts; arguments as in :func:`rmse`.

    Parameters
    ----------
    imputed, truth
        Counts of shape ``(n_cells, n_genes)``, no transform.
    mask
        True where the entry was hidden, shape ``(n_cells, n_genes)``; all entries if None.

    Returns
    -------
    Counts.

    Raises
    ------
    ValueError
        If there are no entries.
    """
    return mean_over_entries(np.abs(masked(imputed, truth, mask)))


@metric(0.0, "mean of imputed minus true over hidden entries, zeros included")
def bias(imputed: Counts, truth: Counts, mask: ArrayLike | None = None) -> float:
    """Mean of ``imputed - truth`` over the entries of ``mask``, in counts; arguments as in :func:`rmse`.

    Parameters
    ----------
    imputed, truth
        Counts of shape ``(n_cells, n_genes)``, no transform.
    mask
        True where the entry was hidden, shape ``(n_cells, n_genes)``; all entries if None.

    Returns
    -------
    Counts; negative where the imputation is too small.

    Raises
    ------
    ValueError
        If there are no entries.
    """
    return mean_over_entries(masked(imputed, truth, mask))


@metric(1.0, "total of expected over total of observed counts")
def total_ratio(expected: Counts, observed: Counts) -> float:
    """Sum of all expected counts divided by the sum of all observed counts.

    Parameters
    ----------
    expected
        Expected counts at the depth of ``observed``, shape ``(n_cells, n_genes)``.
    observed
        Counts that the method has not seen, shape ``(n_cells, n_genes)``.

    Returns
    -------
    A ratio; 1 keeps the total, above 1 invents molecules.
    """
    mean, count = pair(expected, observed)
    return float(mean.sum() / count.sum())
