"""Where generated cells lie: on the real cells, and on all of them. Balls around cells reach to their k-th neighbour."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from ._registry import metric

N_NEIGHBORS = 5


@metric("higher", "share of generated cells that lie among real cells")
def support_precision(real: ArrayLike, generated: ArrayLike, n_neighbors: int = N_NEIGHBORS) -> float:
    """Share of the generated cells within the ball of some real cell (Kynkaanniemi et al. 2019, eq. 3).

    Parameters
    ----------
    real, generated
        Embeddings of shapes ``(n_real, n_dims)`` and ``(n_generated, n_dims)``.
    n_neighbors
        Each ball reaches to so many neighbours of the cell among its own kind.

    Returns
    -------
    Between 0 and 1; two samples of one population score below 1, more so if they are small.

    Raises
    ------
    ValueError
        If there are not more than ``n_neighbors`` real cells.
    """
    return float(np.mean(_inside(real, generated, n_neighbors).any(axis=0)))


@metric("higher", "share of real cells that lie among generated cells")
def support_recall(real: ArrayLike, generated: ArrayLike, n_neighbors: int = N_NEIGHBORS) -> float:
    """Share of the real cells within the ball of some generated cell (Kynkaanniemi et al. 2019, eq. 3).

    Parameters
    ----------
    real, generated
        Embeddings of shapes ``(n_real, n_dims)`` and ``(n_generated, n_dims)``.
    n_neighbors
        Each ball reaches to so many neighbours of the cell among its own kind.

    Returns
    -------
    Between 0 and 1; two samples of one population score below 1, more so if they are small.

    Raises
    ------
    ValueError
        If there are not more than ``n_neighbors`` generated cells.
    """
    return float(np.mean(_inside(generated, real, n_neighbors).any(axis=0)))


@metric(1.0, "how densely real cells surround generated cells")
def support_density(real: ArrayLike, generated: ArrayLike, n_neighbors: int = N_NEIGHBORS) -> float:
    """Mean number of real balls that a generated cell lies in, over ``n_neighbors`` (Naeem et al. 2020, eq. 4).

    Parameters
    ----------
    real, generated
        Embeddings of shapes ``(n_real, n_dims)`` and ``(n_generated, n_dims)``.
    n_neighbors
        Each ball reaches to so many neighbours of the real cell.

    Returns
    -------
    Around 1 for two samples of one population; more if generated cells crowd where real cells are dense.

    Raises
    ------
    ValueError
        If there are not more than ``n_neighbors`` real cells.
    """
    return float(_inside(real, generated, n_neighbors).sum(axis=0).mean() / n_neighbors)


@metric("higher", "share of real cells with a generated cell among their nearest neighbours")
def support_coverage(real: ArrayLike, generated: ArrayLike, n_neighbors: int = N_NEIGHBORS) -> float:
    """Share of the real balls that hold at least one generated cell (Naeem et al. 2020, eq. 5).

    Parameters
    ----------
    real, generated
        Embeddings of shapes ``(n_real, n_dims)`` and ``(n_generated, n_dims)``.
    n_neighbors
        Each ball reaches to so many neighbours of the real cell.

    Returns
    -------
    Between 0 and 1; ``1 - 2 ** -n_neighbors`` is expected of as many other real cells.

    Raises
    ------
    ValueError
        If there are not more than ``n_neighbors`` real cells.
    """
    return float(np.mean(_inside(real, generated, n_neighbors).any(axis=1)))


def _inside(centers: ArrayLike, cells: ArrayLike, n_neighbors: int) -> NDArray[np.bool_]:
    """Whether each cell lies in the ball of each centre, ``(n_centers, n_cells)``."""
    x, y = (np.asarray(part, dtype=np.float64) for part in (centers, cells))
    if len(x) <= n_neighbors:
        raise ValueError(f"Balls to the {n_neighbors}th neighbour need more than {n_neighbors} cells, got {len(x)}.")
    radius = np.partition(cdist(x, x), n_neighbors, axis=1)[:, n_neighbors]  # the first is the cell itself
    return cdist(x, y) <= radius[:, None]
