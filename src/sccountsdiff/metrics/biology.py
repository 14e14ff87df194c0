"""What an analyst would do next with imputed counts: cluster cells, and look for markers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import mannwhitneyu
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from ._registry import metric
from .counts import Counts, log1p_cp10k, pair
from .populations import LogPCA

#: Molecules at the pooled rate that each group is given before a fold change is taken.
_PRIOR_MOLECULES = 1.0


def cluster_cells(counts: Counts, n_clusters: int, n_components: int = 20, seed: int = 0) -> NDArray[np.int64]:
    """Cluster cells by k-means of principal components of log1p(CP10k), the best of ten starts.

    Parameters
    ----------
    counts
        Counts, draws or means of shape ``(n_cells, n_genes)``.
    n_clusters
        Number of clusters.
    n_components
        Principal components.
    seed
        Seed of the components and of the starts.

    Returns
    -------
    Cluster of each cell, ``(n_cells,)``.
    """
    n_components = min(n_components, *np.shape(counts))
    components = LogPCA(n_components, seed).fit(counts).transform(counts)
    return KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(components)


@metric("higher", "adjusted Rand index of k-means clusters with known labels; compare with that of the raw counts")
def clustering_ari(counts: Counts, labels: ArrayLike, n_components: int = 20, seed: int = 0) -> float:
    """Adjusted Rand index between known labels and as many clusters (:func:`cluster_cells`).

    Parameters
    ----------
    counts
        Counts, draws or means of shape ``(n_cells, n_genes)``.
    labels
        Known type of each cell, ``(n_cells,)``.
    n_components
        Principal components.
    seed
        Seed of the components and of the starts.

    Returns
    -------
    1 for the same partition, around 0 for an unrelated one.
    """
    found = cluster_cells(counts, len(np.unique(labels)), n_components, seed)
    return float(adjusted_rand_score(labels, found))


@metric("higher", "normalised mutual information of k-means clusters with known labels; compare with the raw counts")
def clustering_nmi(counts: Counts, labels: ArrayLike, n_components: int = 20, seed: int = 0) -> float:
    """Normalised mutual information of known labels and clusters; arguments as in :func:`clustering_ari`.

    Parameters
    ----------
    counts
        Counts, draws or means of shape ``(n_cells, n_genes)``.
    labels
        Known type of each cell, ``(n_cells,)``.
    n_components
        Principal components.
    seed
        Seed of the components and of the starts.

    Returns
    -------
    Between 0 and 1.
    """
    found = cluster_cells(counts, len(np.unique(labels)), n_components, seed)
    return float(normalized_mutual_info_score(labels, found))


@metric("higher", "chance that a cell of its type has more of a marker than another cell; beside the raw counts")
def marker_auc(counts: Counts, first: ArrayLike, markers: ArrayLike) -> float:
    """Area under the ROC curve of each marker of a group, in log1p(CP10k), mean over markers.

    Parameters
    ----------
    counts
        Counts, draws or means of shape ``(n_cells, n_genes)``.
    first
        True for cells of the group, ``(n_cells,)``.
    markers
        True for the known markers of the group, ``(n_genes,)``.

    Returns
    -------
    Between 0 and 1; .5 for genes that say nothing. It says how well groups separate, not that they differ: means score
    higher than counts, for null genes too (:func:`false_positive_rate`).
    """
    group = np.asarray(first, dtype=bool)
    values = log1p_cp10k(counts)[:, np.asarray(markers, dtype=bool)]
    pairs_won = mannwhitneyu(values[group], values[~group], method="asymptotic").statistic
    return float(np.mean(pairs_won / (group.sum() * (~group).sum())))


@metric(1.0, "slope of fold changes between two groups on those of the raw counts; below 1 shrinks, above inflates")
def fold_change_slope(counts: Counts, observed: Counts, first: ArrayLike, markers: ArrayLike) -> float:
    """Slope through the origin of log2 fold changes of markers, imputed on observed.

    A fold change is that of molecules per molecule in the cells of each group together, with one molecule at the pooled
    rate added to both.

    Parameters
    ----------
    counts
        Imputed counts, draws or means, shape ``(n_cells, n_genes)``.
    observed
        Raw UMI counts of the same cells.
    first
        True for cells of the group, ``(n_cells,)``.
    markers
        True for the known markers of the group, ``(n_genes,)``.

    Returns
    -------
    Slope; 1 where imputation leaves the differences between groups as they are.
    """
    chosen = np.asarray(markers, dtype=bool)
    imputed, raw = (_fold_changes(values, np.asarray(first, dtype=bool))[chosen] for values in pair(counts, observed))
    return float(imputed @ raw / (raw @ raw))


def _fold_changes(counts: NDArray[np.float64], group: NDArray[np.bool_]) -> NDArray[np.float64]:
    """log2 ratio of the shares of each gene in two groups of cells."""
    share = counts.sum(axis=0) / counts.sum()
    prior = _PRIOR_MOLECULES / np.maximum(share, 1e-12)
    one, other = (
        (counts[cells].sum(axis=0) + _PRIOR_MOLECULES) / (counts[cells].sum() + prior) for cells in (group, ~group)
    )
    return np.log2(one / other)
