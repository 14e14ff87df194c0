"""Predicted responses to perturbations against measured ones.

A *response* (delta) is the mean of log1p(CP10k) over cells of a condition minus that over control cells, gene by gene:
the pseudobulk of cell-eval and scPerturb, with the natural logarithm. The same measured control cells are taken off
predicted and measured cells. Print the prediction "no response", the mean response of other conditions, and the other
half of the measured cells beside any of these scores: much of a high correlation is what all perturbations share.

Methods that predict a mean and no cells are scored, too: an array of one dimension, ``(n_genes,)``, in place of counts is
taken for the mean of log1p(CP10k) itself. (The log1p(CP10k) of a mean count is something else, and as a rule larger.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist, pdist
from scipy.stats import spearmanr

from ._registry import metric
from .counts import Counts, mean_log1p_cp10k
from .populations import two_sets


def response(cells: Counts, control: Counts) -> NDArray[np.float64]:
    """Mean of log1p(CP10k) over cells minus that over control cells; a profile is such a mean already.

    Parameters
    ----------
    cells, control
        Counts of shapes ``(n_cells, n_genes)`` and ``(n_control, n_genes)``, or a profile ``(n_genes,)``.

    Returns
    -------
    Response of each gene, ``(n_genes,)``.
    """
    return mean_log1p_cp10k(cells) - mean_log1p_cp10k(control)


@metric("higher", "Pearson correlation over genes of predicted and measured response")
def pearson_delta(real: Counts, control: Counts, generated: Counts) -> float:
    """Pearson correlation over all genes between the predicted and the measured :func:`response`.

    ``pearson_delta`` of cell-eval, on log1p(CP10k) with the natural logarithm. A prediction without any response has
    no correlation and scores 0.

    The sampling noise of the control is taken off both sides, and correlates with itself. That lifts every score where
    the control has few or shallow cells, and most that of baselines which add up responses measured against the same
    control, since its noise stands in each summand. Take half of the control cells off the measured and the other half
    off the predicted cells to see how much it is; :func:`mse_delta` does not depend on it.

    Parameters
    ----------
    real, control, generated
        Counts of measured, control and predicted cells, ``(n_cells, n_genes)``, or profiles ``(n_genes,)``.

    Returns
    -------
    Correlation between -1 and 1.
    """
    one, other = response(real, control), response(generated, control)
    if one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


@metric("lower", "mean squared difference of predicted and measured response")
def mse_delta(real: Counts, control: Counts, generated: Counts) -> float:
    """Mean over genes of the squared difference between the predicted and the measured :func:`response`.

    The control cancels: this is the squared distance of two pseudobulks per gene (``mse_delta`` of cell-eval).

    Parameters
    ----------
    real, control, generated
        Counts of measured, control and predicted cells, ``(n_cells, n_genes)``, or profiles ``(n_genes,)``.

    Returns
    -------
    Squared natural logarithms.
    """
    return float(np.mean((response(real, control) - response(generated, control)) ** 2))


@metric("higher", "share of the genes that respond most that a prediction finds")
def top_response_overlap(real: Counts, control: Counts, generated: Counts, n_genes: int = 50) -> float:
    """Share of the ``n_genes`` largest measured responses that are among the largest predicted ones.

    Parameters
    ----------
    real, control, generated
        Counts of measured, control and predicted cells, ``(n_cells, n_genes)``, or profiles ``(n_genes,)``.
    n_genes
        Number of genes with the largest absolute :func:`response`.

    Returns
    -------
    Between 0 and 1; ``n_genes`` over all genes is chance.
    """
    tops = (np.argsort(-np.abs(response(cells, control)), kind="stable")[:n_genes] for cells in (real, generated))
    return len(np.intersect1d(*tops)) / n_genes


@metric("higher", "share of the genes that respond most whose direction is right")
def direction_match(real: Counts, control: Counts, generated: Counts, n_genes: int = 50) -> float:
    """Share of the ``n_genes`` largest measured responses that are predicted with the same sign.

    Parameters
    ----------
    real, control, generated
        Counts of measured, control and predicted cells, ``(n_cells, n_genes)``, or profiles ``(n_genes,)``.
    n_genes
        Number of genes with the largest absolute measured :func:`response`.

    Returns
    -------
    Between 0 and 1; a half is chance.
    """
    one, other = response(real, control), response(generated, control)
    top = np.argsort(-np.abs(one), kind="stable")[:n_genes]
    return float(np.mean(np.sign(one[top]) == np.sign(other[top])))


@metric("higher", "Spearman correlation over genes of predicted and measured response")
def spearman_delta(real: Counts, control: Counts, generated: Counts) -> float:
    """Spearman correlation over all genes between the predicted and the measured :func:`response`.

    Parameters
    ----------
    real, control, generated
        Counts of measured, control and predicted cells, ``(n_cells, n_genes)``, or profiles ``(n_genes,)``.

    Returns
    -------
    Correlation between -1 and 1; 0 for a prediction without any response.
    """
    one, other = response(real, control), response(generated, control)
    return float(spearmanr(one, other).statistic) if one.std() and other.std() else 0.0


@metric("lower", "energy distance between real and generated cells")
def e_distance(real: ArrayLike, generated: ArrayLike) -> float:
    r"""Energy distance :math:`2 E|x - y| - E|x - x'| - E|y - y'|` of two sets of cells (Székely & Rizzo 2013).

    Euclidean distances, not squared (as in cell-eval; scPerturb squares them, which compares means only). Unbiased:
    pairs of a cell with itself are left out, so that two halves of one population score around 0, above or below.
    That asks for independent cells: generated cells that were moved together, to hit a mean, score too low if few.

    Parameters
    ----------
    real, generated
        Embeddings of shapes ``(n_real, n_dims)`` and ``(n_generated, n_dims)``, at least two cells each; 30 components
        of :class:`LogPCA` fitted on training cells in the benchmarks.

    Returns
    -------
    Distance in units of the embedding.

    Raises
    ------
    ValueError
        If there are fewer than two real or two generated cells.
    """
    x, y = two_sets(real, generated)
    return float(2 * cdist(x, y).mean() - pdist(x).mean() - pdist(y).mean())


@metric("higher", "rank of the right perturbation among all, by distance of responses")
def discrimination_score(
    real: Mapping[str, ArrayLike], generated: Mapping[str, ArrayLike], genes: Sequence[str] | None = None
) -> float:
    """Whether each predicted response is closer to its own measured response than to those of other perturbations.

    ``discrimination_score_l1`` of cell-eval: one minus the rank (from 0) of the right perturbation over the number of
    perturbations, by the sum of absolute differences, averaged over the predicted ones.

    Parameters
    ----------
    real, generated
        Name of a perturbation -> its :func:`response`, ``(n_genes,)``. Each predicted name must be measured.
    genes
        Names of the genes. The gene that a perturbation is named after is then left out, as cell-eval does: its own
        response would give it away.

    Returns
    -------
    Between 0 and 1: 1 is best, a half is chance.

    Raises
    ------
    KeyError
        If a predicted perturbation was not measured.
    """
    names = list(real)
    measured = np.stack([np.asarray(real[name], dtype=np.float64) for name in names])
    targets = np.full(measured.shape[1], None, dtype=object) if genes is None else np.asarray(genes, dtype=object)
    scores = []
    for name, predicted in generated.items():
        if name not in real:
            raise KeyError(f"Perturbation {name!r} was predicted but not measured. Measured: {names}.")
        distance = np.abs(measured - np.asarray(predicted, dtype=np.float64))[:, targets != name].sum(axis=1)
        scores.append(1 - np.sum(distance < distance[names.index(name)]) / len(names))
    return float(np.mean(scores))
