r"""Cells of different depth on one scale, without any bias: detection after thinning to a common depth.

If a cell with :math:`L` molecules, :math:`x` of them of one gene, is thinned to :math:`d` molecules, the gene is still
seen with probability

.. math:: D_d(x) = 1 - (1 - d / L)^x .

Averaging over all thinnings like that costs no molecule. For :math:`x \sim \mathrm{Poisson}(L r)` its expectation is
:math:`1 - e^{-d r}`, *whatever the depth of the cell*; neither log1p(CP10k) nor its ranks have that property, which is
why a Wilcoxon test of them finds differences between groups that differ in nothing but depth.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

#: Expected molecules of a gene at its common depth: few enough to stay near the linear part of the detection.
_MOLECULES = 0.25
#: Of the cells, the part that may be shallower than the common depth.
_SHALLOW = 0.05
#: Rounds of the alternating fit of sizes and shares; it converges geometrically.
_ROUNDS = 20


def rarefied_detection(counts: ArrayLike, size: ArrayLike, depth: ArrayLike) -> NDArray[np.float64]:
    r"""Probability that an entry is still seen after its cell is thinned to a common depth.

    Parameters
    ----------
    counts
        UMI counts :math:`x`.
    size
        Molecules :math:`L` of the cell, broadcastable to ``counts``.
    depth
        Molecules :math:`d` to thin to, broadcastable to ``counts``; at most ``size`` (deeper counts as ``size``).

    Returns
    -------
    :math:`1 - (1 - d / L)^x`, in the broadcast shape.

    References
    ----------
    Hurlbert, Ecology 52 (1971), on rarefaction, here with binomial in place of hypergeometric thinning.
    """
    survival = np.minimum(np.asarray(depth, dtype=np.float64) / np.asarray(size, dtype=np.float64), 1.0)
    return 1 - (1 - survival) ** np.asarray(counts)


def common_depths(share: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth for each gene: where it has a quarter of a molecule, or that of the shallowest 5 % of the cells if less."""
    with np.errstate(divide="ignore"):
        return np.minimum(_MOLECULES / share, np.quantile(size, _SHALLOW))


def visible_sizes(counts: sp.csr_matrix, hidden: sp.csr_matrix) -> NDArray[np.float64]:
    r"""Library size that each cell would have, from what is visible of it.

    The maximum-likelihood fit of :math:`x_{ng} \sim \mathrm{Poisson}(L_n \pi_g)` to the visible entries, with
    :math:`\sum_g \pi_g = 1`.

    Parameters
    ----------
    counts
        UMI counts, shape ``(n_cells, n_genes)``; values at hidden entries are not used.
    hidden
        Boolean, True where an entry is hidden, same shape.

    Returns
    -------
    Sizes of shape ``(n_cells,)``; 0 for a cell without a visible molecule.
    """
    visible = (counts - counts.multiply(hidden)).tocsr()
    by_cell, by_gene = (np.asarray(visible.sum(axis=axis), dtype=np.float64).ravel() for axis in (1, 0))
    mask = hidden.astype(np.float64)
    share = by_gene / max(by_gene.sum(), 1.0)
    size = by_cell
    for _ in range(_ROUNDS):
        size = by_cell / np.maximum(share.sum() - mask @ share, 1e-12)
        rate = by_gene / np.maximum(size.sum() - mask.T @ size, 1e-12)
        share = rate / max(rate.sum(), 1e-12)
    return size
