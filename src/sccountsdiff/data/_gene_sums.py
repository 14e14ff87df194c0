"""What one pass over the cells tells of each gene: its mean count and its dispersion."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sccountsdiff.data._matrix import Rows

#: Smallest and largest dispersion that moments are believed to show.
_LIMITS = (0.3, 50.0)
#: Weight of the squared coefficient of variation of all genes together, in expected counts squared.
_PRIOR_WEIGHT = 2.0


@final
class GeneSums:
    r"""Sums over cells, added up chunk by chunk.

    Parameters
    ----------
    n_genes
        Number of genes.

    Notes
    -----
    With library sizes :math:`L_c` and the share :math:`\pi_g = \sum_c x_{cg} / \sum_c L_c`, the dispersion is that of a
    negative binomial of mean :math:`\mu_{cg} = L_c \pi_g` by moments,

    .. math:: \theta_g^{-1} = \frac{\sum_c (x_{cg} - \mu_{cg})^2 - \mu_{cg}}{\sum_c \mu_{cg}^2} ,

    where few molecules are drawn towards the value of all genes together. Differences between kinds of cells count as
    dispersion, so that it is where a model starts, not where it ends.
    """

    def __init__(self, n_genes: int) -> None:
        #: UMIs of each gene, ``(n_genes,)``.
        self.total = np.zeros(n_genes)
        #: Number of cells in which the gene was measured, ``(n_genes,)``.
        self.n_cells = np.zeros(n_genes, dtype=np.int64)
        self._square, self._product = np.zeros(n_genes), np.zeros(n_genes)
        self._size, self._size_square = np.zeros(n_genes), np.zeros(n_genes)

    def add(self, counts: Rows, size: NDArray[np.float64], measured: NDArray[np.bool_] | None = None) -> None:
        """Add cells.

        Parameters
        ----------
        counts
            UMI counts ``(n_cells, n_genes)``.
        size
            Library size of each cell ``(n_cells,)``.
        measured
            Which entries were measured, of the shape of ``counts``; None if all were.
        """
        counts = counts.astype(np.float64)  # squares of integers would overflow
        self.total += _sums(counts)
        self._square += _sums(counts.multiply(counts) if sparse.issparse(counts) else np.square(counts))
        self._product += np.asarray(counts.T @ size).ravel()
        self.n_cells += len(size) if measured is None else measured.sum(axis=0)
        self._size += size.sum() if measured is None else size @ measured
        self._size_square += np.square(size).sum() if measured is None else np.square(size) @ measured

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean count of each gene over the cells in which it was measured, ``(n_genes,)``."""
        return self.total / np.maximum(self.n_cells, 1)

    @property
    def dispersion(self) -> NDArray[np.float64]:
        """Dispersion of each gene, ``(n_genes,)``, between 0.3 and 50."""
        share = self.total / np.maximum(self._size, 1.0)
        expected_square = share**2 * self._size_square
        excess = self._square - 2 * share * self._product + expected_square - self.total
        overall = max(excess.sum() / max(expected_square.sum(), 1e-12), 0.0)
        inverse = (excess + _PRIOR_WEIGHT * overall) / (expected_square + _PRIOR_WEIGHT)
        return 1 / np.clip(inverse, 1 / _LIMITS[1], 1 / _LIMITS[0])


def _sums(counts: Any) -> NDArray[np.float64]:
    """Sum over cells."""
    return np.asarray(counts.sum(axis=0)).ravel()
