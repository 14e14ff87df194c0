"""What was found among genes that hold nothing: false positives, and correlations that were made up."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._registry import metric
from .counts import Counts, log1p_cp10k

#: Correlation of two independent genes that is called made up.
_LARGE = 0.3


@metric("lower", "share of null genes with a p-value below the level; a test that holds its level stays below it")
def false_positive_rate(p_values: ArrayLike, null: ArrayLike, level: float = 0.05) -> float:
    """Share of null genes that a test calls; NaN p-values count as not called.

    Parameters
    ----------
    p_values
        One for each gene, ``(n_genes,)``.
    null
        True for genes that do not differ (:func:`sccountsdiff.data.plant_null_genes`), ``(n_genes,)``.
    level
        Level of the test.

    Returns
    -------
    Share between 0 and 1.
    """
    return float(np.mean(np.asarray(p_values)[np.asarray(null, dtype=bool)] < level))


@metric("higher", "share of true markers with a p-value below the level; read it beside the false positives")
def marker_power(p_values: ArrayLike, markers: ArrayLike, level: float = 0.05) -> float:
    """Share of true markers that a test calls; NaN p-values count as not called.

    Parameters
    ----------
    p_values
        One for each gene, ``(n_genes,)``.
    markers
        True for genes that are known to differ, ``(n_genes,)``.
    level
        Level of the test.

    Returns
    -------
    Share between 0 and 1.
    """
    return float(np.mean(np.asarray(p_values)[np.asarray(markers, dtype=bool)] < level))


def null_correlations(counts: Counts, null: ArrayLike) -> NDArray[np.float64]:
    """Absolute Pearson correlations of log1p(CP10k) over all pairs of null genes; constant genes correlate with none.

    Parameters
    ----------
    counts
        Counts, draws or means of shape ``(n_cells, n_genes)``.
    null
        True for genes that are independent of each other, ``(n_genes,)``.

    Returns
    -------
    Values of shape ``(n_pairs,)``.
    """
    chosen = np.flatnonzero(np.asarray(null, dtype=bool))
    values = log1p_cp10k(counts)[:, chosen]
    values -= values.mean(axis=0)
    length = np.sqrt((values**2).sum(axis=0))
    values /= np.where(length > 1e-9, length, np.inf)
    return np.abs((values.T @ values)[np.triu_indices(len(chosen), k=1)])


@metric("lower", "mean absolute correlation of independent genes; compare with that of the raw counts")
def null_correlation(counts: Counts, null: ArrayLike) -> float:
    """Mean over pairs of null genes of the absolute Pearson correlation of log1p(CP10k).

    Parameters
    ----------
    counts
        Counts, draws or means of shape ``(n_cells, n_genes)``.
    null
        True for genes that are independent of each other, ``(n_genes,)``.

    Returns
    -------
    Mean correlation; about ``0.8 / sqrt(n_cells)`` where nothing was made up.
    """
    return float(null_correlations(counts, null).mean())


@metric(0.0, "mean absolute correlation of independent genes beyond that of the raw counts")
def correlation_inflation(counts: Counts, observed: Counts, null: ArrayLike) -> float:
    """How much larger the correlations of null genes are (:func:`null_correlation`) than those of the raw counts.

    Parameters
    ----------
    counts
        Imputed counts, draws or means of shape ``(n_cells, n_genes)``.
    observed
        Raw UMI counts of the same cells.
    null
        True for genes that are independent of each other, ``(n_genes,)``.

    Returns
    -------
    Difference of mean absolute correlations; above 0 where imputation makes them up.
    """
    return null_correlation(counts, null) - null_correlation(observed, null)


@metric("lower", "share of pairs of independent genes with a correlation above .3")
def made_up_correlations(counts: Counts, null: ArrayLike, threshold: float = _LARGE) -> float:
    """Share of pairs of null genes whose absolute correlation of log1p(CP10k) is above a threshold.

    Parameters
    ----------
    counts
        Counts, draws or means of shape ``(n_cells, n_genes)``.
    null
        True for genes that are independent of each other, ``(n_genes,)``.
    threshold
        Absolute correlation that is called made up.

    Returns
    -------
    Share between 0 and 1.
    """
    return float(np.mean(null_correlations(counts, null) > threshold))
