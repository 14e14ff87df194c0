"""Hidden entries cell by cell, with the definitions of the CountsDiff paper's benchmark where they are sound.

Correlations are taken over the hidden entries of one cell and averaged over cells. A constant prediction correlates
with nothing and scores 0; cells with fewer than two hidden entries, or with one and the same true count in all of them,
say nothing and are left out (leaving out constant *predictions* would reward them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ._registry import metric
from .counts import Counts, pair, some

Array = NDArray[np.float64]


def _by_cell(imputed: Counts, truth: Counts, mask: ArrayLike | None) -> Iterator[tuple[Array, Array]]:
    """Hidden entries of each cell whose true counts differ: what was imputed, and what is true."""
    guess, count = pair(imputed, truth)
    hidden = np.ones(count.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    for one, other, chosen in zip(guess, count, hidden, strict=True):
        if chosen.sum() > 1 and np.ptp(other[chosen]) > 0:
            yield one[chosen], other[chosen]


def _mean_over_cells(
    imputed: Counts, truth: Counts, mask: ArrayLike | None, score: Callable[[Array, Array], float]
) -> float:
    values = [score(one, other) for one, other in _by_cell(imputed, truth, mask)]
    return float(np.mean(values)) if values else float("nan")


@metric("higher", "Pearson correlation over the hidden entries of a cell, mean over cells")
def cell_pearson(imputed: Counts, truth: Counts, mask: ArrayLike | None = None) -> float:
    """Mean over cells of the Pearson correlation of imputed and true counts.

    Parameters
    ----------
    imputed, truth
        Counts of shape ``(n_cells, n_genes)``, no transform.
    mask
        True where the entry was hidden, shape ``(n_cells, n_genes)``; all entries if None.

    Returns
    -------
    Correlation between -1 and 1; NaN if no cell says anything.
    """
    return _mean_over_cells(
        imputed, truth, mask, lambda one, other: np.corrcoef(one, other)[0, 1] if np.ptp(one) > 0 else 0.0
    )


@metric("higher", "Spearman correlation over the hidden entries of a cell, mean over cells")
def cell_spearman(imputed: Counts, truth: Counts, mask: ArrayLike | None = None) -> float:
    """Mean over cells of the Spearman correlation of imputed and true counts, ties at their mean rank.

    Parameters
    ----------
    imputed, truth
        Counts of shape ``(n_cells, n_genes)``, no transform.
    mask
        True where the entry was hidden, shape ``(n_cells, n_genes)``; all entries if None.

    Returns
    -------
    Correlation between -1 and 1; NaN if no cell says anything.
    """
    return _mean_over_cells(
        imputed, truth, mask, lambda one, other: stats.spearmanr(one, other).statistic if np.ptp(one) > 0 else 0.0
    )


@metric("higher", "share of the variance of the hidden entries of a cell that is explained, mean over cells")
def cell_r2(imputed: Counts, truth: Counts, mask: ArrayLike | None = None) -> float:
    """Mean over cells of ``1 - SSE / SST``, with the sum of squares of the *true* counts around their mean.

    Parameters
    ----------
    imputed, truth
        Counts of shape ``(n_cells, n_genes)``, no transform.
    mask
        True where the entry was hidden, shape ``(n_cells, n_genes)``; all entries if None.

    Returns
    -------
    At most 1, 0 for the mean of each cell's hidden counts; NaN if no cell says anything.
    """
    return _mean_over_cells(
        imputed, truth, mask, lambda one, other: 1 - ((one - other) ** 2).sum() / ((other - other.mean()) ** 2).sum()
    )


@metric("lower", "energy distance between the pooled values of imputed and true hidden entries")
def energy_distance(imputed: Counts, truth: Counts, mask: ArrayLike | None = None) -> float:
    """One-dimensional energy distance between all imputed and all true values, whatever entry they belong to.

    It asks for a right distribution, not for right entries: draws do well, means do not.

    Parameters
    ----------
    imputed, truth
        Counts of shape ``(n_cells, n_genes)``, no transform.
    mask
        True where the entry was hidden, shape ``(n_cells, n_genes)``; all entries if None.

    Returns
    -------
    Square root of counts, as :func:`scipy.stats.energy_distance` returns it.

    Raises
    ------
    ValueError
        If no entry is hidden.
    """
    guess, count = pair(imputed, truth)
    hidden = np.ones(count.shape, dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
    return float(stats.energy_distance(some(guess[hidden]), count[hidden]))
