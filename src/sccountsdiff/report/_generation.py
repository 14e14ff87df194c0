"""The generation report: generated cells against real cells that the model has not seen, in tiers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sccountsdiff import metrics
from sccountsdiff.report import _generation_figures
from sccountsdiff.report._contest import FEWEST_CELLS, INDEPENDENT, MEAN_PROFILE, Contest, contest
from sccountsdiff.report._generation_verdict import Measured, judge
from sccountsdiff.report._made import Report, provenance, versions
from sccountsdiff.report._page import Section, facts, figure, page, score_table
from sccountsdiff.report._responses import card, effects_of, reference_cells, responses
from sccountsdiff.report._scores import FLOOR, MODEL, score
from sccountsdiff.report._study import study

if TYPE_CHECKING:
    from anndata import AnnData

    from sccountsdiff.model import CountsDiff

COUNTS, JOINT, CONDITIONAL, NOVELTY, RESPONSES = (
    "counts",
    "cells as a whole",
    "conditions",
    "novelty",
    "responses",
)
QUESTIONS = {
    COUNTS: "Are these counts like counts? Independent genes: each gene permuted among real cells of the condition. Mean "
    "profile: negative binomials around the mean of all training cells. Floor: other real cells (not those that the "
    "components are fitted to), as many as generated ones.",
    JOINT: "Are these cells like cells? In principal components of log1p(CP10k), fitted to a half of the training cells; "
    "gene_correlation_agreement on the 100 most abundant genes.",
    CONDITIONAL: "Are cells what they were asked to be? A classifier trained on real training cells; the distance within "
    "each condition, averaged.",
    NOVELTY: "Are they copies of training cells? By the distance to the nearest training cell, compared with held-out "
    "cells. Floor: one half of the held-out cells against the other.",
    RESPONSES: "Does each condition differ from its reference as it should? The reference is the control of the same "
    "group if the model knows one, else all other training cells. Mean over conditions. Nearest other: training cells "
    "of the most similar other condition. Mean shift: control cells, moved by what the perturbation does in other groups "
    "(or if there are none, by what others do). Additive: moved by the sum of what the parts of a combination do alone.",
}
OF_COUNTS = (
    "library_size_distance",
    "genes_detected_distance",
    "zero_fraction_error",
    "gene_total_variation",
    "variance_error",
)
OF_EMBEDDING = (
    "mmd2",
    "ot_w2",
    "gaussian_w2",
    "e_distance",
    "two_sample_auc",
    "support_precision",
    "support_recall",
    "support_coverage",
)


def generation(
    model: CountsDiff,
    path: str | os.PathLike[str],
    *,
    condition: Mapping[str, Any] | Sequence[Mapping[str, Any]] | pd.DataFrame | None = None,
    adata: AnnData | None = None,
    groupby: str | None = None,
    max_cells: int = 1000,
    seed: int = 0,
    **generate_kwargs: Any,
) -> Report:
    """Write a report on how well a model generates, against real cells that it was not trained on.

    Cells are generated for the conditions of held-out cells and scored in tiers: counts, cells as a whole, conditions,
    novelty, responses. Beside the scores stand other real cells (the floor), real cells whose genes were shuffled, and
    the mean profile.

    Parameters
    ----------
    model
        Trained model with its training data.
    path
        HTML file to write; its folder is made if need be.
    condition
        Conditions to judge, as in ``model.generate``; ``None`` is all that at least 10 held-out cells have.
    adata
        Cells that the model was not trained on, set up like the training data; ``None`` takes those that training left
        alone, or else the validation cells. Pass the measured cells here to judge a condition without training cells.
    groupby
        Condition key to ask for, beside the perturbation; ``None`` is the ``labels_key``.
    max_cells
        Held-out cells to use at most.
    seed
        Seed of all choices and draws.
    **generate_kwargs
        Further arguments of ``model.generate``, such as ``method``, ``guidance``, ``n_steps`` or ``start``.

    Returns
    -------
    Where the report is, its verdict and its scores.

    Raises
    ------
    ValueError
        If the model has no training data or several modalities, or no condition has 10 held-out cells.
    KeyError
        If the cells lack the column ``groupby``.
    """
    on = study(model, adata, groupby, max_cells, seed)
    cells = contest(on, condition, generate_kwargs)
    pca = metrics.LogPCA(min(30, len(cells.basis.counts) - 1, on.train.n_vars - 1), seed).fit(cells.basis.counts)
    real, basis = pca.transform(cells.real.counts), pca.transform(cells.basis.counts)
    embedded = {name: pca.transform(part.counts) for name, part in cells.entrants.items()}
    effects = effects_of(on, cells)
    reference = reference_cells(cells, effects)
    tables = [
        _of_counts(cells),
        _as_a_whole(cells, real, embedded),
        _conditional(cells, real, basis, embedded),
        _novelty(cells, real, pca.transform(on.train_read.counts), embedded),
        responses(RESPONSES, cells, reference, effects),
    ]
    scores = pd.concat(tables, ignore_index=True)
    scores = scores[[name for name in scores.columns if name not in (FLOOR, "description")] + [FLOOR, "description"]]
    floor = metrics.mmd2_floor(np.concatenate([embedded[FLOOR], real]), len(real), seed=seed)
    accuracy = metrics.label_transfer_accuracy(basis, cells.basis.labels, real, cells.real.labels)
    measured = Measured(scores.set_index("metric"), floor, accuracy, len(cells.names), len(real))
    sections = [
        Section("Scores", score_table(scores, QUESTIONS)),
        *map(figure, _generation_figures.exhibits(on, cells, card(cells, pca, reference), reference)),
        Section("What was done", facts(provenance(on, _done(cells, condition, generate_kwargs)))),
    ]
    verdict, where = judge(measured), Path(path)
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(page("Generation report", verdict, sections, versions()), encoding="utf-8")
    return Report(where, verdict, scores)


def _of_counts(cells: Contest) -> pd.DataFrame:
    return score(COUNTS, OF_COUNTS, {name: (cells.real.counts, part.counts) for name, part in cells.entrants.items()})


def _as_a_whole(cells: Contest, real: NDArray, embedded: Mapping[str, NDArray]) -> pd.DataFrame:
    """Scores in the embedding, at equal numbers of generated cells, and of the genes' correlations."""
    raw = {name: (cells.real.counts, part.counts) for name, part in cells.entrants.items()}
    return pd.concat(
        [
            score(JOINT, OF_EMBEDDING, {name: (real, part) for name, part in embedded.items()}),
            score(JOINT, ["gene_correlation_agreement"], raw),
        ]
    )


def _conditional(cells: Contest, real: NDArray, basis: NDArray, embedded: Mapping[str, NDArray]) -> pd.DataFrame:
    """Labels that a classifier gives, and distances within conditions; nothing if there is one condition."""
    if len(cells.names) < 2:
        return pd.DataFrame()
    transfer = {name: (basis, cells.basis.labels, part, cells.entrants[name].labels) for name, part in embedded.items()}
    rows = [score(CONDITIONAL, ["label_transfer_accuracy"], transfer)]
    within = [
        score(
            CONDITIONAL,
            ["mmd2"],
            {
                name: (real[cells.real.labels == label], part[cells.entrants[name].labels == label])
                for name, part in embedded.items()
            },
        )
        for label in cells.names
    ]
    mean = within[0].copy()
    names = list(cells.entrants)
    mean[names] = np.mean([table[names] for table in within], axis=0)
    mean["metric"], mean["description"] = "mmd2", "mmd2 within each condition, mean over conditions"
    return pd.concat([*rows, mean])


def _novelty(cells: Contest, real: NDArray, train: NDArray, embedded: Mapping[str, NDArray]) -> pd.DataFrame:
    """Distances to training cells; the floor compares two halves of the held-out cells."""
    entrants = {name: (train, real, embedded[name]) for name in (MODEL, INDEPENDENT, MEAN_PROFILE)}
    entrants[FLOOR] = (train, real[::2], real[1::2])
    return score(NOVELTY, ["copied_fraction", "novelty_ks", "nearest_neighbor_ratio"], entrants)


def _done(cells: Contest, condition: Any, options: Mapping[str, Any]) -> dict[str, object]:
    """What was generated, in words."""
    note = cells.generated.uns["sccountsdiff"]["generated"]
    return {
        "conditions": f"{', '.join(cells.keys) or 'none'}: {len(cells.names)} with at least {FEWEST_CELLS} held-out cells"
        + ("" if condition is None else f", those asked for ({condition})"),
        "generated": f"{cells.generated.n_obs:,} cells, compared with {len(cells.real.counts):,} held-out ones",
        "how": ", ".join(
            f"{name}={note[name]}" for name in ("approach", "n_steps", "start", "guidance") if name in note
        )
        + "".join(f", {name}={value}" for name, value in options.items() if name not in note),
    }
