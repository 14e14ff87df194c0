"""How conditions differ from their reference, and the card of each condition."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sccountsdiff import metrics
from sccountsdiff.report._contest import NEAREST, Contest
from sccountsdiff.report._scores import FLOOR, MODEL, score
from sccountsdiff.report._shift import Effects
from sccountsdiff.report._study import Study

CONTROL, MEAN_SHIFT, ADDITIVE = "control", "mean shift", "additive"
OF_RESPONSES = ("pearson_delta", "spearman_delta", "mse_delta", "top_response_overlap")
OF_GENES = ("de_overlap", "de_precision", "de_recall", "de_direction_match", "de_lfc_spearman")
#: Metrics of the card, and what each compares: counts, embedded cells, responses or differential genes.
ON_CARD = ("gene_total_variation", "library_size_distance", "mmd2", "pearson_delta", "de_overlap")


def effects_of(on: Study, cells: Contest) -> Effects | None:
    """Perturbations and controls, if the model knows them.

    Parameters
    ----------
    on
        The cells.
    cells
        The contest.

    Returns
    -------
    None if the model was set up without a control.
    """
    setup = on.model.registry["setup_args"]
    control, key = setup.get("control"), setup.get("perturbation_key")
    if control is None or key is None:
        return None
    return Effects(cells.basis, cells.keys.index(key), control, setup.get("perturbation_separator"))


def reference_cells(cells: Contest, effects: Effects | None) -> dict[str, NDArray[np.float64]]:
    """Reference of each condition: training cells of the control of its group, or of all other conditions.

    Parameters
    ----------
    cells
        The contest.
    effects
        Of :func:`effects_of`.

    Returns
    -------
    Name of a condition -> counts ``(n_cells, n_genes)``; conditions that are a control have none.
    """
    basis = cells.basis
    if effects is None:
        found = {name: basis.counts[basis.labels != name] for name in cells.names}
    else:
        perturbed = [name for name in cells.names if effects.perturbation(name) != effects.control]
        found = {name: basis.of(effects.control_of(name)) for name in perturbed}
    return {name: counts for name, counts in found.items() if len(counts)}


def responses(question: str, cells: Contest, reference: Mapping[str, NDArray], effects: Effects | None) -> pd.DataFrame:
    """Scores of responses, averaged over conditions.

    Parameters
    ----------
    question
        What is asked.
    cells
        The contest.
    reference
        Of :func:`reference_cells`.
    effects
        Of :func:`effects_of`; adds the baselines of perturbation studies.

    Returns
    -------
    Table of :func:`sccountsdiff.report.score`; empty without a reference.
    """
    if not reference:
        return pd.DataFrame()
    rivals = {name: _rivals(cells, name) for name in reference}
    for name, base in reference.items() if effects is not None else ():
        rivals[name] |= {CONTROL: base, MEAN_SHIFT: effects.shifted_control(name, seed=0)}
        if effects.has_combinations(reference):
            rivals[name][ADDITIVE] = effects.summed_control(name, seed=0)
    tables = [_one(question, cells.real.of(name), base, rivals[name]) for name, base in reference.items()]
    mean, names = tables[0].copy(), list(rivals[next(iter(reference))])
    values = np.stack([table[names].to_numpy(float) for table in tables])
    known = ~np.isnan(values)
    mean[names] = np.where(known.any(0), np.where(known, values, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
    return pd.concat([mean, _discrimination(question, cells, reference, rivals)])


def card(cells: Contest, pca: metrics.LogPCA, reference: Mapping[str, NDArray]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of each condition, and how good they are: 1 as other real cells of it, 0 as the nearest other condition.

    Parameters
    ----------
    cells
        The contest.
    pca
        Embedding.
    reference
        Of :func:`reference_cells`.

    Returns
    -------
    Values and quality, conditions by metrics.
    """
    values, quality = {}, {}
    for name in cells.names:
        own, floor, other = (
            _card_row(cells.real.of(name), part, pca, reference.get(name)) for part in _rivals(cells, name).values()
        )
        values[name], quality[name] = own, metrics.quality(own, other, floor)
    return pd.DataFrame(values).T, pd.DataFrame(quality).T


def _rivals(cells: Contest, name: str) -> dict[str, NDArray]:
    """Cells of a condition: the model's, other real ones, and those of the nearest other condition."""
    return {
        MODEL: cells.entrants[MODEL].of(name),
        FLOOR: cells.entrants[FLOOR].of(name),
        NEAREST: cells.nearest_other(name),
    }


def _equal(real: NDArray, part: NDArray) -> NDArray:
    """As many cells as measured ones: tests find more in more cells."""
    return part[np.random.default_rng(0).permutation(len(part))[: len(real)]]


def _one(question: str, real: NDArray, base: NDArray, rivals: Mapping[str, NDArray]) -> pd.DataFrame:
    """Scores of the response of one condition."""
    measured = metrics.differential_genes(real, base)
    found = {who: metrics.differential_genes(_equal(real, part), base) for who, part in rivals.items()}
    return pd.concat(
        [
            score(question, OF_RESPONSES, {who: (real, base, part) for who, part in rivals.items()}),
            score(question, OF_GENES, {who: (measured, genes) for who, genes in found.items()}),
        ]
    )


def _discrimination(
    question: str, cells: Contest, reference: Mapping[str, NDArray], rivals: Mapping[str, Mapping[str, NDArray]]
) -> pd.DataFrame:
    """Whether each response is closest to its own measurement; nothing for fewer than three conditions."""
    if len(reference) < 3:
        return pd.DataFrame()
    measured = {name: metrics.response(cells.real.of(name), base) for name, base in reference.items()}
    entrants = {
        who: {name: metrics.response(rivals[name][who], base) for name, base in reference.items()}
        for who in rivals[next(iter(reference))]
    }
    return score(question, ["discrimination_score"], {who: (measured, given) for who, given in entrants.items()})


def _card_row(real: NDArray, part: NDArray, pca: metrics.LogPCA, base: NDArray | None) -> pd.Series:
    part = _equal(real, part)
    row = {
        "gene_total_variation": metrics.gene_total_variation(real, part),
        "library_size_distance": metrics.library_size_distance(real, part),
        "mmd2": metrics.mmd2(pca.transform(real), pca.transform(part)),
    }
    if base is not None:
        tables = (metrics.differential_genes(counts, base) for counts in (real, part))
        row |= {"pearson_delta": metrics.pearson_delta(real, base, part), "de_overlap": metrics.de_overlap(*tables)}
    return pd.Series(row, index=list(ON_CARD), dtype=float)
