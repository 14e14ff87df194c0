"""Two groups of cells compared gene by gene, on counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from sccountsdiff.stats._pooling import Array, t_test
from sccountsdiff.stats._rarefaction import common_depths, rarefied_detection, visible_sizes

Matrix = ArrayLike | sp.spmatrix | sp.sparray
#: Genes that are made dense at a time.
_BLOCK = 256
#: Molecules at the pooled rate that each group is given before a fold change is taken.
_PRIOR_MOLECULES = 1.0


@dataclass(frozen=True)
class GroupComparison:
    """Two groups of cells compared; each field has shape ``(n_genes,)``, NaN where a gene cannot be compared.

    Parameters
    ----------
    detection_1, detection_2
        Rarefied detection in the two groups: how often the gene is seen at :attr:`depth` molecules a cell.
    difference
        ``detection_1 - detection_2``, of which the test is.
    variance
        Its sampling variance.
    df
        Degrees of freedom of its t test: Welch's, or those of both groups together where the variance is that of Poisson
        counts.
    log2_fold_change
        log2 ratio of molecules per molecule, one molecule at the pooled rate added to each group.
    depth
        Molecules that the cells are thinned to.
    """

    detection_1: Array
    detection_2: Array
    difference: Array
    variance: Array
    df: Array
    log2_fold_change: Array
    depth: Array

    @property
    def p_value(self) -> Array:
        """Two-sided p-values."""
        return t_test(self.difference, self.variance, self.df)


def compare_groups(
    counts: Matrix,
    first: ArrayLike,
    *,
    hidden: Matrix | None = None,
    size: ArrayLike | None = None,
    depth: ArrayLike | None = None,
) -> GroupComparison:
    r"""Test each gene for a difference between two groups of cells, on raw counts.

    The cells' rarefied detections (:func:`rarefied_detection`) are averaged in each group with weights
    :math:`\lambda / (1 + \lambda)`, where :math:`\lambda` is the count expected of the gene in the cell (molecules
    count where they are few, cells where molecules are many), and their difference is put to Welch's t test. The
    variance is that between cells, but not less than Poisson counts of one rate would have, so that ten molecules
    cannot look more certain than ten molecules are. Genes are tested in cells in which they were measured.

    Parameters
    ----------
    counts
        Raw UMI counts of the cells of both groups, shape ``(n_cells, n_genes)``.
    first
        True for cells of the first group, False for the second, shape ``(n_cells,)``.
    hidden
        Boolean, True where an entry was not measured, shape ``(n_cells, n_genes)``; such values are not used.
    size
        Library size of each cell in UMIs, ``(n_cells,)``; by default the total of the cell, or with hidden entries
        :func:`visible_sizes`.
    depth
        Molecules to thin to, ``(n_genes,)``; by default the depth at which the gene has a quarter of a molecule, or
        the 5 % quantile of ``size`` if that is less. Cells shallower than it do not count.

    Returns
    -------
    The comparison.

    Raises
    ------
    ValueError
        If the counts are not integers, a group has fewer than two cells, or shapes do not fit.

    Notes
    -----
    Groups must not have been found on the same molecules: clusters of the counts that are then tested differ by
    construction. Split the molecules first (:func:`sccountsdiff.data.thinning_split`), cluster one part, test the other.
    """
    values = _checked_counts(counts)
    group = _checked_groups(first, values.shape[0])
    mask = None if hidden is None else _checked_mask(hidden, values.shape)
    sizes = _sizes(values, mask) if size is None else np.asarray(size, dtype=np.float64)
    molecules, exposure = _totals(values, mask, sizes)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = molecules / exposure
    depths = common_depths(share, sizes[sizes > 0]) if depth is None else np.asarray(depth, dtype=np.float64)
    blocks = [
        _compare_block(block, seen, sizes[:, None], share[genes], depths[genes], group)
        for genes, block, seen in _blocks(values, mask)
    ]
    one, other, variance, df, ratio = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return GroupComparison(one, other, one - other, variance, df, ratio, depths)


def _compare_block(
    count: Array, seen: NDArray[np.bool_], size: Array, share: Array, depth: Array, first: NDArray[np.bool_]
) -> tuple[Array, ...]:
    """Detection in both groups, variance and degrees of freedom of their difference, log2 fold change."""
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = size * share
        weight = np.where(seen & (size >= depth), expected / (1 + expected), 0.0)
        detected = rarefied_detection(count, np.maximum(size, 1e-12), depth)
        # Var (1 - s)^x = E (1 - s)^(2x) - (E (1 - s)^x)^2 of Poisson counts x.
        poisson = np.exp(-2 * depth * share) * np.expm1(depth**2 * share / np.maximum(size, depth))
        one, other = (_Arm.of(detected[arm], weight[arm], poisson[arm]) for arm in (first, ~first))
        between_cells, counting = one.variance + other.variance, one.poisson + other.poisson
        df = between_cells**2 / (one.variance**2 / one.df + other.variance**2 / other.df)
        prior = _PRIOR_MOLECULES / share
        rates = [
            (count[arm].sum(axis=0) + _PRIOR_MOLECULES) / ((size * seen)[arm].sum(axis=0) + prior)
            for arm in (first, ~first)
        ]
        ratio = np.log2(rates[0] / rates[1])
    return (
        one.mean,
        other.mean,
        np.maximum(between_cells, counting),
        np.where(counting > between_cells, one.df + other.df, df),
        ratio,
    )


class _Arm(NamedTuple):
    """Weighted mean over the cells of one group, and what its variance would be."""

    mean: Array
    #: Variance from the spread between cells, and its degrees of freedom.
    variance: Array
    df: Array
    #: Variance of Poisson counts of the pooled rate.
    poisson: Array

    @classmethod
    def of(cls, values: Array, weight: Array, poisson: Array) -> _Arm:
        part = weight / weight.sum(axis=0)
        n_effective = 1 / (part**2).sum(axis=0)
        mean = (part * values).sum(axis=0)
        spread = ((part * (values - mean)) ** 2).sum(axis=0)
        df = n_effective - 1
        return cls(mean, spread * n_effective / df, df, (part**2 * poisson).sum(axis=0))


def _blocks(counts: sp.csc_matrix, hidden: sp.csc_matrix | None) -> Iterator[tuple[slice, Array, NDArray[np.bool_]]]:
    """Dense blocks of genes, and where they were measured."""
    for start in range(0, counts.shape[1], _BLOCK):
        genes = slice(start, min(start + _BLOCK, counts.shape[1]))
        block = counts[:, genes].toarray()
        seen = np.ones(block.shape, dtype=bool) if hidden is None else ~hidden[:, genes].toarray()
        yield genes, np.where(seen, block, 0.0), seen


def _sizes(counts: sp.csc_matrix, hidden: sp.csc_matrix | None) -> Array:
    if hidden is not None:
        return visible_sizes(counts.tocsr(), hidden.tocsr())
    return np.asarray(counts.sum(axis=1), dtype=np.float64).ravel()


def _totals(counts: sp.csc_matrix, hidden: sp.csc_matrix | None, size: Array) -> tuple[Array, Array]:
    """Visible molecules of each gene, and the sizes of the cells in which it was measured, added up."""
    if hidden is None:
        return np.asarray(counts.sum(axis=0)).ravel(), np.full(counts.shape[1], size.sum())
    visible = counts - counts.multiply(hidden)
    return np.asarray(visible.sum(axis=0)).ravel(), size.sum() - hidden.T.astype(np.float64) @ size


def _checked_counts(counts: Matrix) -> sp.csc_matrix:
    values = sp.csc_matrix(counts, dtype=np.float64)
    wrong = (values.data < 0) | (values.data % 1 != 0) | ~np.isfinite(values.data)
    if wrong.any():
        raise ValueError(
            f"A test needs raw UMI counts, found {values.data[wrong][0]:g}. Imputed or denoised means share their "
            "errors between cells: tests of them call most genes that do not differ. Pass the raw counts."
        )
    return values


def _checked_groups(first: ArrayLike, n_cells: int) -> NDArray[np.bool_]:
    group = np.asarray(first)
    if group.shape != (n_cells,) or group.dtype != np.bool_:
        raise ValueError(f"first must be boolean of shape ({n_cells},), got {group.dtype} of shape {group.shape}.")
    if min(group.sum(), (~group).sum()) < 2:
        raise ValueError(f"Both groups need at least two cells, got {group.sum()} and {(~group).sum()}.")
    return group


def _checked_mask(hidden: Matrix, shape: tuple[int, int]) -> sp.csc_matrix:
    mask = sp.csc_matrix(hidden)
    if mask.shape != shape or mask.dtype != np.bool_:
        raise ValueError(f"hidden must be boolean of shape {shape}, got {mask.dtype} of shape {mask.shape}.")
    return mask
