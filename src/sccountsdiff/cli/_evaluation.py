"""Scores of the study, each on cells that the model was not trained on, beside a baseline and a floor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from sccountsdiff import data, metrics
from sccountsdiff.cli._scores import gene_mean, pit_of_draws, pit_of_poisson
from sccountsdiff.cli._study import GENERATED_TYPES, LABELS, Study
from sccountsdiff.report import score

if TYPE_CHECKING:
    import numpy.typing as npt
    from anndata import AnnData

KEPT_MOLECULES = 0.9
HIDDEN_ENTRIES = 0.5
ENTRANTS = ("sccountsdiff", "baseline", "floor")
N_DRAWS = 50
#: Question -> what was asked, and what the columns ``baseline`` and ``floor`` of the table stand for.
QUESTIONS = {
    "held-out molecules": (
        "A tenth of the molecules of cells the model was not trained on is predicted from the other nine tenths. "
        "Baseline: the mean profile of the training cells times the library size. Floor: the same predictions scored "
        "against draws from the model, that is, what they would score if the model were exactly right."
    ),
    "hidden entries": (
        "Half of the entries of these cells, zeros included, are hidden and predicted from the other half. "
        "Baseline and floor as above."
    ),
    "calibration of intervals": (
        "How far the hidden counts are from where the predicted distributions say they should lie. "
        "Baseline: Poisson distributions around the gene mean. Floor: as many perfectly uniform values."
    ),
    "generated cells": (
        "Generated cells against cells of the same types that the model was not trained on. Baseline: independent "
        "Poisson counts around the gene mean of the type. Floor: real training cells against the same cells."
    ),
}


def evaluate(study: Study) -> tuple[pd.DataFrame, npt.NDArray]:
    """Score imputation, calibration and generation.

    Returns
    -------
    The table of scores (see :func:`sccountsdiff.report.score`), and the randomised PIT values of the hidden
    entries.
    """
    entries, pit, rival = _hidden_entries(study)
    uniform = np.random.default_rng(study.seed).random(pit.shape)
    calibration = score(
        "calibration of intervals", ["pit_ks", "coverage_error"], _entrants((pit,), (rival,), (uniform,))
    )
    tables = [_held_out_molecules(study), entries, calibration, _generated_cells(study)]
    return pd.concat(tables, ignore_index=True), pit


def _held_out_molecules(study: Study) -> pd.DataFrame:
    """Molecular cross-validation in held-out cells (Batson, Royer & Webber 2019)."""
    cells = study.cells("held out")
    kept, hidden = data.thinning_split(cells.layers["counts"], KEPT_MOLECULES, seed=study.seed)
    cells.layers["counts"] = kept
    share = (1 - KEPT_MOLECULES) / KEPT_MOLECULES
    expected = share * study.model.impute(cells, layer_added=None).to_numpy()
    baseline = share * gene_mean(_counts(study.cells("train")), _counts(cells).sum(1))
    rates = study.model.get_normalized_expression(
        cells, library_size="observed", n_samples=2, return_mean=False, seed=study.seed
    )
    simulated = np.random.default_rng(study.seed).poisson(share * rates[0])
    names = ["poisson_deviance", "mse_counts", "mse_log1p_cp10k", "total_ratio"]
    return score("held-out molecules", names, _entrants((expected, hidden), (baseline, hidden), (expected, simulated)))


def _hidden_entries(study: Study) -> tuple[pd.DataFrame, npt.NDArray, npt.NDArray]:
    """Scores of predicted entries, and the PIT values of the hidden counts under the model and under the baseline."""
    cells, training = study.cells("held out"), _counts(study.cells("train"))
    truth = _counts(cells)
    mask = data.mcar_mask(truth.shape, HIDDEN_ENTRIES, seed=study.seed)
    expected = study.model.impute(cells, mask=mask, layer_added=None).to_numpy()
    drawn = study.model.impute(cells, mask=mask, n_samples=N_DRAWS, layer_added=None, seed=study.seed)
    draws = np.stack([draw.toarray() for draw in drawn])
    # The library size of a cell with hidden entries, from what is visible of it.
    size = np.where(mask, 0, truth).sum(1) / np.where(mask, 0, training.sum(0) / training.sum()).sum(1)
    baseline = gene_mean(training, size)
    entrants = _entrants((expected, truth, mask), (baseline, truth, mask), (expected, draws[0], mask))
    pit = pit_of_draws(truth[mask], draws[:, mask], study.seed)
    return (
        score("hidden entries", ["rmse", "mae", "bias"], entrants),
        pit,
        pit_of_poisson(truth[mask], baseline[mask], study.seed),
    )


def _generated_cells(study: Study) -> pd.DataFrame:
    """Distances between populations; the floor is the distance between two sets of real cells."""
    training, held_out = (study.cells(split, GENERATED_TYPES) for split in ("train", "held out"))
    profiles = [_counts(training[training.obs[LABELS] == name]) for name in GENERATED_TYPES]
    rng = np.random.default_rng(study.seed)
    rival = np.concatenate([rng.poisson(gene_mean(counts, counts.sum(1))) for counts in profiles])
    # Components spread the cells they are fitted on more than others, so those cells cannot be the floor as well.
    basis = rng.random(training.n_obs) < 0.5
    pca = metrics.LogPCA(min(30, basis.sum() - 1), study.seed).fit(_counts(training[basis]))
    real, sets = _counts(held_out), (_counts(study.generated), rival, _counts(training[~basis]))
    embedded = _entrants(*((pca.transform(real), pca.transform(cells)) for cells in sets))
    names = ["gene_correlation_agreement", "library_size_mean_ratio", "library_size_sd_ratio"]
    names += ["zero_fraction_difference", "variance_error"]
    tables = [
        score("generated cells", ["mmd2"], embedded),
        score("generated cells", names, _entrants(*((real, cells) for cells in sets))),
    ]
    return pd.concat(tables)


def _entrants(*arguments: tuple[Any, ...]) -> dict[str, tuple[Any, ...]]:
    """Arguments of a metric, for the model, the baseline and the floor."""
    return dict(zip(ENTRANTS, arguments, strict=True))


def _counts(adata: AnnData) -> npt.NDArray:
    return adata.layers["counts"].toarray()
