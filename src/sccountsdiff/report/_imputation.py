"""The imputation report: how well a model fills in what was hidden from it, on cells it was not trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from sccountsdiff import data, metrics
from sccountsdiff.report import _imputation_figures
from sccountsdiff.report._imputation_verdict import judge, warning
from sccountsdiff.report._laws import Law, Profile, score_laws
from sccountsdiff.report._made import Report, provenance, versions
from sccountsdiff.report._page import Section, facts, figure, page, plain_table, score_table
from sccountsdiff.report._scores import FLOOR, MODEL, score
from sccountsdiff.report._study import Study, groups, study

if TYPE_CHECKING:
    from anndata import AnnData

    from sccountsdiff.model import CountsDiff

KEPT_MOLECULES = 0.9
HIDDEN_ENTRIES = 0.5
HIDDEN_SMALL = 0.25
LEVELS = (0.5, 0.8, 0.9, 0.95)
MOLECULES, ENTRIES, SMALL = "held-out molecules", "hidden entries", "hidden small counts"
CALIBRATION = "calibration"
GENE_MEAN, CONDITIONAL_MEAN = "gene mean", "conditional mean"
_BASELINES = (
    "Gene mean: the mean profile of training cells times the size of the cell, negative binomial with a dispersion of "
    "each gene by moments. Conditional mean: the same within the cell's group. Floor: what these predictions would "
    "score if the model were exactly right (counts drawn from its own laws). A floor that lies above the score says that "
    "these laws are too wide; it then bounds nothing."
)
QUESTIONS = {
    MOLECULES: "A tenth of the molecules of each held-out cell is predicted from the other nine tenths (molecular "
    f"cross-validation). {_BASELINES}",
    ENTRIES: "Half of the entries of each held-out cell, zeros included, are hidden at random and predicted from the "
    "other half. Baselines and floor as above.",
    SMALL: "A quarter of the entries is hidden, small counts first, and nobody is told: the way dropout would have it. "
    "No method can know why an entry is missing, so that all expect too much (bias). The floor assumes that entries "
    "were hidden at random, and is no bound here.",
    CALIBRATION: "Where hidden counts (entries hidden at random) fall within their predicted laws: distance of the "
    "probability integral transform from uniform, and of interval coverage from its level. Floor: as many uniform "
    "values.",
}


class Answer(NamedTuple):
    """Laws that all entrants give to some hidden counts.

    Attributes
    ----------
    laws
        Name of an entrant -> its law ``(n_cells, n_genes)``.
    truth
        The counts, same shape.
    where
        Entries that are scored, same shape.
    """

    laws: dict[str, Law]
    truth: NDArray[np.float64]
    where: NDArray[np.bool_]

    def flat(self) -> dict[str, Law]:
        """The laws of the scored entries.

        Returns
        -------
        Name of an entrant -> its law, one-dimensional.
        """
        return {name: law.at(self.where) for name, law in self.laws.items()}

    def deviance(self, name: str) -> NDArray[np.float64]:
        """Poisson deviance of each cell.

        Parameters
        ----------
        name
            Name of an entrant.

        Returns
        -------
        Mean over the scored entries of each cell that has some, ``(n_cells,)``.
        """
        rows = zip(self.laws[name].mean, self.truth, self.where, strict=True)
        return np.array([metrics.poisson_deviance(mean[seen], count[seen]) for mean, count, seen in rows if seen.any()])


def imputation(
    model: CountsDiff,
    path: str | os.PathLike[str],
    *,
    adata: AnnData | None = None,
    groupby: str | None = None,
    genes: Sequence[str] | None = None,
    max_cells: int = 1000,
    seed: int = 0,
) -> Report:
    """Write a report on how well a model imputes, measured on cells that it was not trained on.

    Molecules and entries of these cells are hidden and predicted. The scores stand beside the gene mean, the mean of
    the cell's group and the floor; the page opens with a warning if the model does not beat the gene mean.

    Parameters
    ----------
    model
        Trained model with its training data.
    path
        HTML file to write; its folder is made if need be.
    adata
        Cells that the model was not trained on, set up like the training data; ``None`` takes those that training left
        alone (``train_size`` and ``validation_size`` adding up to less than 1), or else the validation cells.
    groupby
        Column of ``obs`` with the groups of the conditional mean and of the tables; ``None`` is the ``labels_key``.
    genes
        Genes of the dot plots; ``None`` chooses those that set the groups apart.
    max_cells
        Held-out cells to use at most.
    seed
        Seed of the choice of cells and of what is hidden.

    Returns
    -------
    Where the report is, its verdict and its scores.

    Raises
    ------
    ValueError
        If the model has no training data or several modalities, or there are fewer than 10 held-out cells.
    KeyError
        If the cells lack the column ``groupby``.
    """
    on = study(model, adata, groupby, max_cells, seed)
    molecules, entries, small = _held_out_molecules(on), _hidden_entries(on), _hidden_small(on)
    answers = {MOLECULES: molecules, ENTRIES: entries, SMALL: small}
    tables = [
        score_laws(question, answer.flat(), answer.truth[answer.where], seed) for question, answer in answers.items()
    ]
    pit = {name: law.pit(entries.truth[entries.where], seed) for name, law in entries.flat().items()}
    pit[FLOOR] = np.random.default_rng(seed).random(pit[MODEL].shape)
    tables.append(score(CALIBRATION, ["pit_ks", "coverage_error"], {name: (values,) for name, values in pit.items()}))
    scores = pd.concat(tables, ignore_index=True)
    verdict = judge(scores, {MOLECULES: molecules, ENTRIES: entries}, pit[MODEL])
    sections = [
        *([warning(len(model.train_indices))] if verdict.tone == "bad" else ()),
        Section("Scores", score_table(scores, QUESTIONS)),
        Section("Coverage of intervals", _NOTE_COVERAGE + plain_table(_coverage(pit))),
        Section("Where it helps and where it does not", _NOTE_PARTS + plain_table(_parts(on, entries, pit[MODEL]))),
        *map(figure, _imputation_figures.exhibits(on, entries, pit[MODEL], genes)),
        Section("What was done", facts(provenance(on, {"hidden": _HIDDEN}))),
    ]
    where = Path(path)
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(page("Imputation report", verdict, sections, versions()), encoding="utf-8")
    return Report(where, verdict, scores)


_HIDDEN = (
    f"{1 - KEPT_MOLECULES:.0%} of molecules; {HIDDEN_ENTRIES:.0%} of entries at random; {HIDDEN_SMALL:.0%} of entries, "
    "small counts first"
)
_NOTE_COVERAGE = "<p class=note>Share of the hidden counts within central intervals, randomised for discreteness.</p>"
_NOTE_PARTS = (
    "<p class=note>Entries hidden at random. Ratios of Poisson deviance: below 1, the model is better. Thirds of the "
    "genes by their mean in training cells.</p>"
)


def _entrants(on: Study, model_law: Law, counts: NDArray, seen: NDArray[np.bool_]) -> dict[str, Law]:
    """The model's law beside those of the baselines, which know what was seen of each cell and no more."""
    profile = Profile(on.train_read)
    size = profile.library_size(counts, seen)
    laws = {MODEL: model_law, GENE_MEAN: profile.law(size)}
    if on.groupby is not None:
        by_group = Profile(on.train_read, on.labels(on.train))
        laws[CONDITIONAL_MEAN] = by_group.law(size, on.labels(on.held_out))
    return laws


def _held_out_molecules(on: Study) -> Answer:
    """Nine tenths of the molecules are seen, and tell of the last tenth."""
    counts, measured = on.held_out_read
    kept, hidden = data.thinning_split(counts, KEPT_MOLECULES, seed=on.seed)
    cells = on.with_counts(sparse.csr_matrix(kept.astype(np.float32)))
    fresh = Law.of_moments(*on.model.impute(cells, return_variance=True, layer_added=None))
    laws = _entrants(on, fresh, kept, measured)
    share = (1 - KEPT_MOLECULES) / KEPT_MOLECULES
    return Answer({name: law.part(share) for name, law in laws.items()}, hidden, measured)


def _hidden_entries(on: Study) -> Answer:
    """Entries hidden at random."""
    return _masked(on, data.mcar_mask(on.held_out_read.counts.shape, HIDDEN_ENTRIES, seed=on.seed))


def _hidden_small(on: Study) -> Answer:
    """Entries hidden because they are small."""
    return _masked(on, data.mnar_mask(on.held_out_read.counts, HIDDEN_SMALL, tail="low", seed=on.seed))


def _masked(on: Study, mask: NDArray[np.bool_]) -> Answer:
    counts, measured = on.held_out_read
    moments = on.model.impute(on.held_out, mask=mask, return_variance=True, layer_added=None)
    laws = _entrants(on, Law.of_moments(*moments), counts, measured & ~mask)
    return Answer(laws, counts, measured & mask)


def _coverage(pit: dict[str, NDArray]) -> pd.DataFrame:
    """Levels by entrants."""
    table = {name: [metrics.interval_coverage(values, level) for level in LEVELS] for name, values in pit.items()}
    return pd.DataFrame(table, index=pd.Index([f"{level:.0%}" for level in LEVELS], name="interval"))


def _parts(on: Study, entries: Answer, pit: NDArray) -> pd.DataFrame:
    """Scores in parts of the entries: groups of cells, and genes by abundance."""
    abundance = on.train_read.counts.mean(0)
    third = pd.cut(pd.Series(abundance).rank(method="first"), 3, labels=["rare", "middling", "abundant"])
    parts = {
        f"{name} genes": np.broadcast_to((third == name).to_numpy(), entries.where.shape) for name in third.unique()
    }
    labels = on.labels(on.held_out)
    for group in [] if labels is None else groups(labels, 5, 20):
        parts[group] = np.broadcast_to((labels == group)[:, None], entries.where.shape)
    values = np.full(entries.where.shape, np.nan)
    values[entries.where] = pit
    hidden = {name: part & entries.where for name, part in parts.items()}
    rows = {name: _part(entries, where, values) for name, where in hidden.items() if where.any()}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("part")


def _part(entries: Answer, where: NDArray[np.bool_], pit: NDArray) -> dict[str, object]:
    deviance = {
        name: metrics.poisson_deviance(law.mean[where][None], entries.truth[where][None])
        for name, law in entries.laws.items()
    }
    ratios = {f"deviance / {name}": deviance[MODEL] / deviance[name] for name in deviance if name != MODEL}
    counted = {"cells": int(where.any(1).sum()), "mean count": float(entries.truth[where].mean())}
    return counted | ratios | {"90% intervals hold": metrics.interval_coverage(pit[where])}
