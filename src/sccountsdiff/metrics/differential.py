"""Which genes differ from control cells, in measured and in predicted cells.

The definitions are those of cell-eval 0.8: a Wilcoxon rank-sum test of each gene on log1p(CP10k), Benjamini-Hochberg
over genes, significant below 5 %, genes ordered by the absolute log2 ratio of geometric means. Such a test asks
whether a prediction would have led to the same list, and generated cells can be had in any number: compare at the
number of measured cells.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ._registry import metric
from .counts import Counts, log1p_cp10k

FALSE_DISCOVERY_RATE = 0.05
_SMALLEST_MEAN = 1e-9


class DifferentialGenes(NamedTuple):
    """Genes of a condition against control cells.

    Parameters
    ----------
    log2_fold_change
        Log2 ratio of the geometric means of 1 + CP10k, less 1; ``(n_genes,)``.
    fdr
        False discovery rate of the rank-sum test, ``(n_genes,)``.
    """

    log2_fold_change: NDArray[np.float64]
    fdr: NDArray[np.float64]

    def significant(self) -> NDArray[np.intp]:
        """Genes below 5 % false discovery rate, those with the largest absolute change first.

        Returns
        -------
        Positions of the genes.
        """
        order = np.argsort(-np.abs(self.log2_fold_change), kind="stable")
        return order[self.fdr[order] < FALSE_DISCOVERY_RATE]


def differential_genes(cells: Counts, control: Counts) -> DifferentialGenes:
    """Test every gene between the cells of a condition and control cells.

    Parameters
    ----------
    cells, control
        Counts of shapes ``(n_cells, n_genes)`` and ``(n_control, n_genes)``.

    Returns
    -------
    Log2 fold changes and false discovery rates; genes without a count on either side have 0 and 1.
    """
    one, other = log1p_cp10k(cells), log1p_cp10k(control)
    mean, base = (np.expm1(values.mean(axis=0)) + _SMALLEST_MEAN for values in (one, other))
    p_value = stats.mannwhitneyu(one, other, axis=0, method="asymptotic").pvalue
    # Without a count on either side all ranks are tied, and the test has no answer.
    fdr = stats.false_discovery_control(np.where(np.isnan(p_value), 1.0, p_value))
    return DifferentialGenes(np.log2(mean / base), fdr)


@metric("higher", "share of the differential genes that are among as many of a prediction")
def de_overlap(real: DifferentialGenes, generated: DifferentialGenes, n_genes: int | None = None) -> float:
    """Share of the top measured genes that are among as many top predicted genes; both significant.

    ``overlap_at_N`` of cell-eval, or ``overlap_at_k`` with ``n_genes``.

    Parameters
    ----------
    real, generated
        :func:`differential_genes` of measured and of predicted cells.
    n_genes
        Genes to compare, at most as many as are significant in the measurement; ``None`` is all of those.

    Returns
    -------
    Between 0 and 1; 0 if the measurement has no significant gene.
    """
    return _shared(real, generated, n_genes, len(real.significant()))


@metric("higher", "share of the genes a prediction calls differential that are so")
def de_precision(real: DifferentialGenes, generated: DifferentialGenes, n_genes: int | None = None) -> float:
    """Share of the top predicted genes that are among as many top measured genes; both significant.

    ``precision_at_N`` of cell-eval, or ``precision_at_k`` with ``n_genes``.

    Parameters
    ----------
    real, generated
        :func:`differential_genes` of measured and of predicted cells.
    n_genes
        Genes to compare, at most as many as are significant in the prediction; ``None`` is all of those.

    Returns
    -------
    Between 0 and 1; 0 if the prediction has no significant gene.
    """
    return _shared(real, generated, n_genes, len(generated.significant()))


@metric("higher", "share of the differential genes that a prediction calls so")
def de_recall(real: DifferentialGenes, generated: DifferentialGenes) -> float:
    """Share of the significant measured genes that are significant in the prediction.

    ``de_sig_genes_recall`` of cell-eval.

    Parameters
    ----------
    real, generated
        :func:`differential_genes` of measured and of predicted cells.

    Returns
    -------
    Between 0 and 1; NaN if the measurement has no significant gene.
    """
    called = real.significant()
    return len(np.intersect1d(called, generated.significant())) / len(called) if len(called) else np.nan


@metric("higher", "share of the differential genes whose direction is right")
def de_direction_match(real: DifferentialGenes, generated: DifferentialGenes) -> float:
    """Share of the significant measured genes whose predicted change has the same sign, significant or not.

    ``de_direction_match`` of cell-eval.

    Parameters
    ----------
    real, generated
        :func:`differential_genes` of measured and of predicted cells.

    Returns
    -------
    Between 0 and 1, a half is chance; NaN if the measurement has no significant gene.
    """
    called = real.significant()
    same = np.sign(real.log2_fold_change[called]) == np.sign(generated.log2_fold_change[called])
    return float(np.mean(same)) if len(called) else np.nan


@metric("higher", "Spearman correlation of fold changes over the differential genes")
def de_lfc_spearman(real: DifferentialGenes, generated: DifferentialGenes) -> float:
    """Spearman correlation of measured and predicted log2 fold changes over the significant measured genes.

    ``de_spearman_lfc_sig`` of cell-eval.

    Parameters
    ----------
    real, generated
        :func:`differential_genes` of measured and of predicted cells.

    Returns
    -------
    Between -1 and 1; NaN if fewer than two genes are significant, or one side is constant.
    """
    called = real.significant()
    changes = [genes.log2_fold_change[called] for genes in (real, generated)]
    if len(called) < 2 or any(np.ptp(change) == 0 for change in changes):
        return np.nan
    return float(stats.spearmanr(*changes).statistic)


def _shared(one: DifferentialGenes, other: DifferentialGenes, n_genes: int | None, available: int) -> float:
    k = available if n_genes is None else min(n_genes, available)
    return len(np.intersect1d(one.significant()[:k], other.significant()[:k])) / k if k else 0.0
