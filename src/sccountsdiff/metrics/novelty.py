"""Whether generated cells are copies of training cells, over the whole distribution of distances."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist
from scipy.stats import ks_2samp

from ._registry import metric


def nearest_distance(train: ArrayLike, cells: ArrayLike) -> NDArray[np.float64]:
    """Euclidean distance of each cell to its nearest training cell.

    Parameters
    ----------
    train, cells
        Embeddings of shapes ``(n_train, n_dims)`` and ``(n_cells, n_dims)``.

    Returns
    -------
    Distances ``(n_cells,)``.
    """
    points, asked = (np.asarray(values, dtype=np.float64) for values in (train, cells))
    return cdist(asked, points).min(axis=1)


@metric(1.0, "distance of generated cells to the nearest training cell over that of held-out cells")
def nearest_neighbor_ratio(train: ArrayLike, held_out: ArrayLike, generated: ArrayLike) -> float:
    """Whether generated cells are copies: median distance to the nearest training cell, relative to held-out cells.

    Parameters
    ----------
    train, held_out, generated
        Embeddings of shapes ``(n_cells, n_dims)``.

    Returns
    -------
    A ratio; far below 1 is copying, above 1 lies further out than real cells do.
    """
    one, other = (np.median(nearest_distance(train, cells)) for cells in (generated, held_out))
    return float(one / other)


@metric(0.05, "share of generated cells closer to a training cell than 95 % of held-out cells are")
def copied_fraction(train: ArrayLike, held_out: ArrayLike, generated: ArrayLike, quantile: float = 0.05) -> float:
    """Share of generated cells that are closer to their nearest training cell than real cells usually are.

    Parameters
    ----------
    train, held_out, generated
        Embeddings of shapes ``(n_cells, n_dims)``; 30 components of :class:`LogPCA` in the benchmarks.
    quantile
        Distances below this quantile of held-out cells count as copies.

    Returns
    -------
    Between 0 and 1: ``quantile`` for cells like held-out ones, 1 for copies.
    """
    limit = np.quantile(nearest_distance(train, held_out), quantile)
    return float(np.mean(nearest_distance(train, generated) < limit))


@metric("lower", "largest difference between distances to training cells of generated and of held-out cells")
def novelty_ks(train: ArrayLike, held_out: ArrayLike, generated: ArrayLike) -> float:
    """Kolmogorov-Smirnov statistic between the distances to the nearest training cell.

    Parameters
    ----------
    train, held_out, generated
        Embeddings of shapes ``(n_cells, n_dims)``.

    Returns
    -------
    Between 0 and 1; 0 if generated cells lie as far from training cells as held-out ones, quantile by quantile.
    """
    return float(ks_2samp(*(nearest_distance(train, cells) for cells in (held_out, generated))).statistic)
