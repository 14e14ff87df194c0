"""Hide entries or molecules on purpose, to see how well they are recovered."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse


def mcar_mask(shape: tuple[int, int], fraction: float, *, seed: int) -> NDArray[np.bool_]:
    """Choose entries to hide, completely at random.

    Parameters
    ----------
    shape
        ``(n_cells, n_genes)``.
    fraction
        Probability that an entry is hidden, in [0, 1].
    seed
        Seed of the draw; the global generator is not touched.

    Returns
    -------
    Boolean ``(n_cells, n_genes)``, True = hidden.
    """
    _check_fraction(fraction)
    return np.random.default_rng(seed).random(shape, dtype=np.float32) < fraction


def mar_mask(covariate: ArrayLike, n_genes: int, fraction: float, *, seed: int) -> NDArray[np.bool_]:
    """Choose entries to hide at random, more of them in cells where something observed is small.

    The chance of an entry falls linearly with the rank of the cell's covariate, from twice the ``fraction`` (at most 1)
    to what keeps the mean.

    Parameters
    ----------
    covariate
        What is known of each cell, for example its library size, ``(n_cells,)``.
    n_genes
        Number of genes.
    fraction
        Mean probability that an entry is hidden, in [0, 1].
    seed
        Seed of the draw; the global generator is not touched.

    Returns
    -------
    Boolean ``(n_cells, n_genes)``, True = hidden.
    """
    _check_fraction(fraction)
    values = np.asarray(covariate)
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(len(values) - 1, 1)
    chance = fraction + min(fraction, 1 - fraction) * (1 - 2 * rank)
    return np.random.default_rng(seed).random((len(values), n_genes), dtype=np.float32) < chance[:, None]


def mnar_mask(counts: Any, fraction: float, *, tail: Literal["low", "high"] = "low", seed: int) -> NDArray[np.bool_]:
    """Choose entries to hide because of their own value, which no method can see: small counts (or large ones) go.

    Of each gene the entries are ordered by count, ties at random; the hidden ones are drawn from the first
    ``2 * fraction`` of them (from all beyond one half).

    Parameters
    ----------
    counts
        UMI counts ``(n_cells, n_genes)``, NumPy array or SciPy sparse.
    fraction
        Part of the entries of each gene that is hidden, in [0, 1].
    tail
        Whether ``"low"`` or ``"high"`` counts are hidden.
    seed
        Seed of the draw; the global generator is not touched.

    Returns
    -------
    Boolean ``(n_cells, n_genes)``, True = hidden.

    References
    ----------
    The MNAR-low and MNAR-high masks of CountsDiff (arXiv 2604.03779), with a pool that grows with the fraction.
    """
    _check_fraction(fraction)
    columns = sparse.csc_matrix(counts)
    sign = {"low": 1, "high": -1}[tail]
    n_cells, n_genes = columns.shape
    n_hidden, n_pool = round(fraction * n_cells), min(n_cells, round(2 * fraction * n_cells))
    rng = np.random.default_rng(seed)
    mask = np.zeros(columns.shape, dtype=bool)
    for gene in range(n_genes):
        values = sign * columns[:, [gene]].toarray().ravel()
        pool = np.lexsort((rng.random(n_cells), values))[:n_pool]
        mask[rng.choice(pool, n_hidden, replace=False), gene] = True
    return mask


def panel_mask(shape: tuple[int, int], *, cells: float = 0.5, genes: float = 0.5, seed: int) -> NDArray[np.bool_]:
    """Hide a panel: the same random genes in a random part of the cells.

    Parameters
    ----------
    shape
        ``(n_cells, n_genes)``.
    cells
        Part of the cells that lacks the genes, in [0, 1].
    genes
        Part of the genes that is lacking, in [0, 1]; 1 hides whole cells.
    seed
        Seed of the draw; the global generator is not touched.

    Returns
    -------
    Boolean ``(n_cells, n_genes)``, True = hidden.
    """
    _check_fraction(cells)
    _check_fraction(genes)
    rng = np.random.default_rng(seed)
    lacking, lacked = (rng.permutation(n) < round(part * n) for n, part in zip(shape, (cells, genes), strict=True))
    return lacking[:, None] & lacked


def cell_mask(shape: tuple[int, int], fraction: float, *, seed: int) -> NDArray[np.bool_]:
    """Hide random cells whole: what is left to predict them from is their condition.

    Parameters
    ----------
    shape
        ``(n_cells, n_genes)``.
    fraction
        Part of the cells that is hidden, in [0, 1].
    seed
        Seed of the draw; the global generator is not touched.

    Returns
    -------
    Boolean ``(n_cells, n_genes)``, True = hidden.
    """
    return panel_mask(shape, cells=fraction, genes=1.0, seed=seed)


def thinning_split(counts: Any, fraction: float, *, seed: int) -> tuple[Any, Any]:
    """Split the molecules of every entry in two: ``kept ~ Binomial(counts, fraction)`` and the rest.

    Given Poisson noise the two parts are independent measurements of the same cells (molecular cross-validation,
    Batson et al. 2019).

    Parameters
    ----------
    counts
        UMI counts ``(n_cells, n_genes)``, NumPy array or SciPy sparse.
    fraction
        Probability that a molecule is kept, in [0, 1].
    seed
        Seed of the draw; the global generator is not touched.

    Returns
    -------
    ``kept`` and ``held_out``, of the type of ``counts`` (``csr_matrix`` if sparse) with
    ``kept + held_out == counts``.
    """
    _check_fraction(fraction)
    rng = np.random.default_rng(seed)
    if not sparse.issparse(counts):
        kept = rng.binomial(np.asarray(counts).astype(np.int64), fraction).astype(counts.dtype)
        return kept, counts - kept
    whole = sparse.csr_matrix(counts)
    kept = whole.copy()
    kept.data = rng.binomial(whole.data.astype(np.int64), fraction).astype(whole.dtype)
    held_out = whole.copy()
    held_out.data = whole.data - kept.data
    kept.eliminate_zeros()
    held_out.eliminate_zeros()
    return kept, held_out


def _check_fraction(fraction: float) -> None:
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must lie in [0, 1], got {fraction}.")
