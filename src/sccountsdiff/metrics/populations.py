"""Generated cells against real cells, as two populations. A score means little without its real-against-real floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist, pdist, squareform
from sklearn.decomposition import PCA

from ._registry import metric
from .counts import Counts, dense, log1p_cp10k

SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)


class LogPCA:
    """Principal components of log1p(CP10k), fitted once on reference cells.

    Parameters
    ----------
    n_components
        Number of components.
    seed
        Seed of the randomised solver.
    """

    def __init__(self, n_components: int = 30, seed: int = 0) -> None:
        self._pca = PCA(n_components, svd_solver="randomized", random_state=seed)

    def fit(self, counts: Counts) -> LogPCA:
        """Fit on the counts of reference cells, shape ``(n_cells, n_genes)``; return self.

        Parameters
        ----------
        counts
            Counts of reference cells, shape ``(n_cells, n_genes)``.

        Returns
        -------
        The fitted object itself.
        """
        self._pca.fit(log1p_cp10k(counts))
        return self

    def transform(self, counts: Counts) -> NDArray[np.float64]:
        """Return scores of shape ``(n_cells, n_components)``.

        Parameters
        ----------
        counts
            Counts of any cells over the same genes, shape ``(n_cells, n_genes)``.

        Returns
        -------
        Scores of shape ``(n_cells, n_components)``.
        """
        return self._pca.transform(log1p_cp10k(counts))


def two_sets(real: ArrayLike, generated: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return two embeddings as arrays, each of the two cells or more that a distance within a set needs.

    Raises
    ------
    ValueError
        If either has fewer.
    """
    x, y = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if min(len(x), len(y)) < 2:
        raise ValueError(
            f"There are {len(x)} real and {len(y)} generated cells; distances within each set need at least two. "
            "Generate more cells, or leave this condition out."
        )
    return x, y


def median_squared_distance(real: ArrayLike) -> float:
    """Return the median of squared Euclidean distances over distinct pairs of real cells.

    Parameters
    ----------
    real
        Embedding of real cells, shape ``(n_real, n_dims)``.

    Returns
    -------
    The bandwidth of :func:`mmd2`.
    """
    return float(np.median(pdist(np.asarray(real, dtype=np.float64), "sqeuclidean")))


def mean_kernel(squared: NDArray[np.float64], bandwidth: float, scales: Sequence[float]) -> NDArray[np.float64]:
    """Return the average over scales of ``exp(-squared / (2 * bandwidth * scale))``."""
    return np.mean([np.exp(squared / (-2 * bandwidth * scale)) for scale in scales], axis=0)


@metric("lower", "unbiased squared maximum mean discrepancy, RBF kernel")
def mmd2(
    real: ArrayLike, generated: ArrayLike, bandwidth: float | None = None, scales: Sequence[float] = SCALES
) -> float:
    r"""Unbiased squared maximum mean discrepancy between two sets of cells (Gretton et al. 2012, eq. 3).

    Kernel :math:`\frac{1}{S} \sum_s \exp(-|a - b|^2 / (2 s b))`, with :math:`s` in ``scales`` and :math:`b` the median
    squared distance between real cells; pairs of a cell with itself are left out. Squared: no root is taken. The
    mean is zero where the two sets come from one distribution, so single values may be slightly negative.

    Parameters
    ----------
    real
        Embedding of real cells, shape ``(n_real, n_dims)``; 30 components of :class:`LogPCA` in the benchmarks.
    generated
        Embedding of generated cells, shape ``(n_generated, n_dims)``.
    bandwidth
        Median squared distance :math:`b`; None computes :func:`median_squared_distance` of ``real``. Pass one
        number wherever several methods are compared.
    scales
        Factors of the bandwidth over which the kernel is averaged.

    Returns
    -------
    Squared discrepancy; around 0 for one and the same distribution.

    Raises
    ------
    ValueError
        If there are fewer than two real or two generated cells.
    """
    x, y = two_sets(real, generated)
    width = median_squared_distance(x) if bandwidth is None else bandwidth
    within_x = mean_kernel(pdist(x, "sqeuclidean"), width, scales).mean()
    within_y = mean_kernel(pdist(y, "sqeuclidean"), width, scales).mean()
    return float(within_x + within_y - 2 * mean_kernel(cdist(x, y, "sqeuclidean"), width, scales).mean())


def mmd2_floor(
    real: ArrayLike,
    n_held_out: int,
    bandwidth: float | None = None,
    scales: Sequence[float] = SCALES,
    n_splits: int = 200,
    quantile: float = 0.95,
    seed: int | None = 0,
) -> float:
    """Value of :func:`mmd2` that two random parts of the real cells stay below with the given probability.

    Generated cells that score less against ``n_held_out`` real cells cannot be told from real ones. Needs memory for
    all pairs of cells.

    Parameters
    ----------
    real
        Embedding of all real cells, shape ``(n_real, n_dims)``.
    n_held_out
        Number of cells in one part; the others make up the other part.
    bandwidth, scales
        As in :func:`mmd2`; None is the median squared distance of ``real``.
    n_splits
        Number of random splits.
    quantile
        Probability of a smaller value.
    seed
        Seed of the splits.

    Returns
    -------
    Squared discrepancy.

    Raises
    ------
    ValueError
        If either part would have fewer than two cells.
    """
    x = np.asarray(real, dtype=np.float64)
    if not 2 <= n_held_out <= len(x) - 2:
        raise ValueError(f"n_held_out={n_held_out} of {len(x)} cells: both parts need at least two of them.")
    width = median_squared_distance(x) if bandwidth is None else bandwidth
    kernel = squareform(mean_kernel(pdist(x, "sqeuclidean"), width, scales))
    rng = np.random.default_rng(seed)
    sizes = n_held_out, len(x) - n_held_out
    values = []
    for _ in range(n_splits):
        one = np.zeros(len(x))
        one[rng.choice(len(x), n_held_out, replace=False)] = 1
        parts = one, 1 - one
        within = sum(part @ kernel @ part / (n * (n - 1)) for part, n in zip(parts, sizes, strict=True))
        values.append(within - 2 * parts[0] @ kernel @ parts[1] / (sizes[0] * sizes[1]))
    return float(np.quantile(values, quantile))


@metric("higher", "agreement of gene-gene correlations of the most abundant genes")
def gene_correlation_agreement(real: Counts, generated: Counts, n_genes: int = 100) -> float:
    """Pearson correlation between two sets of gene-gene correlations.

    Over all distinct pairs of the ``n_genes`` genes with the largest mean of log1p(CP10k) in real cells, the Pearson
    correlation of log1p(CP10k) in real cells is compared with that in generated cells. Genes that are constant in
    either set are left out. Two halves of real cells score below 1: print that floor beside it.

    Parameters
    ----------
    real, generated
        Counts of shapes ``(n_real, n_genes)`` and ``(n_generated, n_genes)``.
    n_genes
        Number of genes to compare.

    Returns
    -------
    Correlation between -1 and 1.
    """
    one, other = log1p_cp10k(real), log1p_cp10k(generated)
    varies = (one.std(axis=0) > 0) & (other.std(axis=0) > 0)
    genes = np.argsort(-np.where(varies, one.mean(axis=0), -np.inf), kind="stable")[: min(n_genes, varies.sum())]
    upper = np.triu_indices(len(genes), k=1)
    pairs = [np.corrcoef(cells[:, genes], rowvar=False)[upper] for cells in (one, other)]
    return float(np.corrcoef(*pairs)[0, 1])


@metric(1.0, "mean library size of generated over that of real cells")
def library_size_mean_ratio(real: Counts, generated: Counts) -> float:
    """Mean total count per generated cell divided by that per real cell.

    Parameters
    ----------
    real, generated
        Counts of shapes ``(n_real, n_genes)`` and ``(n_generated, n_genes)``.

    Returns
    -------
    A ratio.
    """
    return float(dense(generated).sum(axis=1).mean() / dense(real).sum(axis=1).mean())


@metric(1.0, "SD of library size of generated over that of real cells")
def library_size_sd_ratio(real: Counts, generated: Counts) -> float:
    """Standard deviation (n - 1) of total counts of generated cells divided by that of real cells.

    Parameters
    ----------
    real, generated
        Counts of shapes ``(n_real, n_genes)`` and ``(n_generated, n_genes)``.

    Returns
    -------
    A ratio.
    """
    return float(dense(generated).sum(axis=1).std(ddof=1) / dense(real).sum(axis=1).std(ddof=1))


@metric(0.0, "share of zeros of generated minus that of real cells")
def zero_fraction_difference(real: Counts, generated: Counts) -> float:
    """Share of zero entries in generated cells minus the share in real cells.

    Parameters
    ----------
    real, generated
        Counts of shapes ``(n_real, n_genes)`` and ``(n_generated, n_genes)``.

    Returns
    -------
    Difference of two shares.
    """
    return float(np.mean(dense(generated) == 0) - np.mean(dense(real) == 0))


@metric("lower", "RMS distance of gene variance from real cells, log2, abundant genes")
def variance_error(real: Counts, generated: Counts, smallest_mean: float = 0.05) -> float:
    """Distance between two mean-variance plots: root mean square over genes of log2(variance) differences.

    Raw counts, no transform; over genes with a mean of at least ``smallest_mean`` counts a cell and some variance
    in both sets. 1 means a typical factor of two. NaN if no gene is left.

    Parameters
    ----------
    real, generated
        Counts of shapes ``(n_real, n_genes)`` and ``(n_generated, n_genes)``.
    smallest_mean
        Genes with a smaller mean count in real cells are left out.

    Returns
    -------
    Distance in doublings.
    """
    one, other = dense(real), dense(generated)
    variances = one.var(axis=0, ddof=1), other.var(axis=0, ddof=1)
    kept = (one.mean(axis=0) >= smallest_mean) & (variances[0] > 0) & (variances[1] > 0)
    if not kept.any():
        return float("nan")
    return float(np.sqrt(np.mean(np.log2(variances[1][kept] / variances[0][kept]) ** 2)))
