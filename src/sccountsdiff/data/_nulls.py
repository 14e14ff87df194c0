"""Genes without any structure, planted among real ones: what must not be found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse


def plant_null_genes(counts: Any, fraction: float = 0.5, *, seed: int) -> tuple[sparse.csr_matrix, NDArray[np.bool_]]:
    """Replace random genes by counts that follow the depth of the cell and nothing else.

    A null gene is ``Poisson(depth * mean)``, with the mean of the gene it replaces and the depth of the cell in the real
    genes that stay (1 on average). No two groups of cells differ in it and no two null genes are correlated, apart from
    depth: what a test or a correlation of imputed values finds there was made up.

    Parameters
    ----------
    counts
        UMI counts ``(n_cells, n_genes)``, NumPy array or SciPy sparse.
    fraction
        Part of the genes that is replaced, in (0, 1).
    seed
        Seed of the draw; the global generator is not touched.

    Returns
    -------
    Counts ``(n_cells, n_genes)`` and a boolean ``(n_genes,)``, True = null.

    Raises
    ------
    ValueError
        If the fraction leaves no real or no null gene.

    References
    ----------
    Andrews and Hemberg, F1000Research 7 (2018): false signals induced by single-cell imputation.
    """
    columns = sparse.csc_matrix(counts, dtype=np.float32)
    n_genes = columns.shape[1]
    n_null = round(fraction * n_genes)
    if not 0 < n_null < n_genes:
        raise ValueError(f"fraction must leave real and null genes; {fraction} of {n_genes} genes does not.")
    rng = np.random.default_rng(seed)
    null = rng.permutation(n_genes) < n_null
    depth = np.asarray(columns[:, ~null].sum(axis=1), dtype=np.float64).ravel()
    depth /= depth.mean()
    means = np.asarray(columns.mean(axis=0), dtype=np.float64).ravel()
    drawn = {gene: sparse.csc_matrix(rng.poisson(depth * means[gene])[:, None]) for gene in np.flatnonzero(null)}
    planted = [drawn[gene] if null[gene] else columns[:, [gene]] for gene in range(n_genes)]
    return sparse.hstack(planted, format="csr", dtype=np.float32), null
