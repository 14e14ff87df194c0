"""The law of the counts of each gene, one by one, in real and in generated cells."""

from __future__ import annotations

import numpy as np

from ._registry import metric
from .counts import Counts, dense


@metric("lower", "total variation between the count distributions of a gene, mean over genes")
def gene_total_variation(real: Counts, generated: Counts) -> float:
    r"""Total variation :math:`\frac12 \sum_k |p_g(k) - q_g(k)|` of the counts of each gene, averaged over genes.

    Raw counts, no transform; genes without a count in either set are left out. Two samples of one population differ as
    well, the more the fewer cells there are: print real against real beside it.

    Parameters
    ----------
    real, generated
        Counts of shapes ``(n_real, n_genes)`` and ``(n_generated, n_genes)``.

    Returns
    -------
    Between 0 and 1; 0 if there is no gene to compare.
    """
    one, other = (dense(cells).astype(np.int64) for cells in (real, generated))
    seen = np.flatnonzero(one.any(axis=0) | other.any(axis=0))
    return float(np.mean([_total_variation(one[:, gene], other[:, gene]) for gene in seen])) if len(seen) else 0.0


@metric("lower", "difference of the share of zeros of a gene, mean over genes")
def zero_fraction_error(real: Counts, generated: Counts) -> float:
    """Mean over genes of the absolute difference between the shares of cells without a count.

    Parameters
    ----------
    real, generated
        Counts of shapes ``(n_real, n_genes)`` and ``(n_generated, n_genes)``.

    Returns
    -------
    Between 0 and 1.
    """
    return float(np.mean(np.abs((dense(real) == 0).mean(axis=0) - (dense(generated) == 0).mean(axis=0))))


def _total_variation(one: np.ndarray, other: np.ndarray) -> float:
    length = int(max(one.max(), other.max())) + 1
    shares = (np.bincount(counts, minlength=length) / len(counts) for counts in (one, other))
    return float(np.abs(np.subtract(*shares)).sum() / 2)
