"""Wasserstein distances between two sets of cells: by exact optimal transport, and between fitted normal laws.

The two are different numbers for the same cells and carry different names: published "W2" values may be either, a
Sinkhorn loss, or a mean over genes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

from ._registry import metric
from .counts import Counts, dense
from .populations import two_sets


@metric("lower", "2-Wasserstein distance between real and generated cells, exact optimal transport")
def ot_w2(real: ArrayLike, generated: ArrayLike) -> float:
    r"""2-Wasserstein distance of two sets of cells by exact optimal transport.

    .. math:: \left( \min_\pi \sum_{i, j} \pi_{ij} |x_i - y_j|^2 \right)^{1/2}

    with equal weights of the cells in each set. Solved by the network simplex of POT, in time and memory that grow with
    the product of the numbers of cells. Two samples of one population are far apart in many dimensions, and the more
    so the fewer cells there are: compare at equal numbers of cells, beside real against real.

    Parameters
    ----------
    real, generated
        Embeddings of shapes ``(n_real, n_dims)`` and ``(n_generated, n_dims)``; 30 components of :class:`LogPCA`, fitted
        on other cells.

    Returns
    -------
    Distance in units of the embedding.
    """
    from ot import emd2  # looks for deep-learning frameworks on import, which takes seconds

    x, y = (np.asarray(cells, dtype=np.float64) for cells in (real, generated))
    weights = (np.full(len(cells), 1 / len(cells)) for cells in (x, y))
    return float(np.sqrt(max(emd2(*weights, cdist(x, y, "sqeuclidean"), numItermax=1_000_000), 0.0)))


@metric("lower", "2-Wasserstein distance between normal laws fitted to real and generated cells")
def gaussian_w2(real: ArrayLike, generated: ArrayLike) -> float:
    r"""2-Wasserstein distance of the normal laws with the means and covariances of two sets of cells.

    .. math:: \left( |m_x - m_y|^2 + \operatorname{tr}(C_x + C_y - 2 (C_x^{1/2} C_y C_x^{1/2})^{1/2}) \right)^{1/2}

    The root of the Frechet distance. It sees means and covariances and nothing else.

    Parameters
    ----------
    real, generated
        Embeddings of shapes ``(n_real, n_dims)`` and ``(n_generated, n_dims)``, at least two cells each.

    Returns
    -------
    Distance in units of the embedding; never above :func:`ot_w2`, up to the covariances' division by n - 1.

    Raises
    ------
    ValueError
        If there are fewer than two real or two generated cells.
    """
    x, y = two_sets(real, generated)
    one, other = (np.atleast_2d(np.cov(cells, rowvar=False)) for cells in (x, y))
    root = _square_root(one)
    squared = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(one + other - 2 * _square_root(root @ other @ root))
    return float(np.sqrt(max(squared, 0.0)))


@metric("lower", "distance between the distributions of library size, relative to the real mean")
def library_size_distance(real: Counts, generated: Counts) -> float:
    """1-Wasserstein distance between the total counts of real and generated cells, over the mean of the real ones.

    Parameters
    ----------
    real, generated
        Counts of shapes ``(n_real, n_genes)`` and ``(n_generated, n_genes)``.

    Returns
    -------
    A share of the mean library size.
    """
    return _relative_distance(dense(real).sum(axis=1), dense(generated).sum(axis=1))


@metric("lower", "distance between the distributions of genes per cell, relative to the real mean")
def genes_detected_distance(real: Counts, generated: Counts) -> float:
    """1-Wasserstein distance between the numbers of genes with a count, over the mean of the real cells.

    Parameters
    ----------
    real, generated
        Counts of shapes ``(n_real, n_genes)`` and ``(n_generated, n_genes)``.

    Returns
    -------
    A share of the mean number of genes per cell.
    """
    return _relative_distance((dense(real) > 0).sum(axis=1), (dense(generated) > 0).sum(axis=1))


def _relative_distance(real: NDArray, generated: NDArray) -> float:
    return float(wasserstein_distance(real, generated) / real.mean())


def _square_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Root of a symmetric matrix without negative eigenvalues, but for rounding (where that of POT is NaN)."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
