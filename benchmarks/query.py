"""What does it take to teach a trained model a new batch or condition?

One category is taken away before the reference is trained: a 10x chemistry of blood cells (``pbmc_3tech``) or the cells
stimulated with interferon (``kang_ifnb``). The query are its cells, all of the training part or 50 of them; the rest is
held out. The reference has 80 % of the other cells, over the 2,000 most dispersed genes of these.

Scored on held-out cells of the query: ``nats``, the bound on ``-log p(x | library size, condition)`` per cell, and
``deviance``, the mean Poisson deviance of a random half of the entries, imputed from the other half. ``old_nats`` is the
bound on held-out cells of the reference: what is forgotten. ``train_seconds`` is the training that the query needs.

- ``nearest``: the reference, told the known category with the lowest bound on the query's training cells
- ``marginal``: the reference, told no category
- ``frozen``: ``load_query_data``, only what belongs to the new category is trained
- ``unfrozen``: ``load_query_data(unfrozen=True)``
- ``query_only``: a model of the query alone
- ``anew``: a model of reference and query together
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import anndata as ad
import numpy as np
import scipy.sparse as sp
from _data import choose_genes, read, split_cells
from _record import Record, arguments, run
from _training import QUIET, prepare

from sccountsdiff import CountsDiff, metrics
from sccountsdiff.data import mcar_mask

#: Name of a question -> file, column of the category, category that is new, most cells of it to train on.
QUESTIONS = {
    "3pv1": ("pbmc_3tech", "batch", "3pv1", None),
    "3pv1_50": ("pbmc_3tech", "batch", "3pv1", 50),
    "5p": ("pbmc_3tech", "batch", "5p", None),
    "5p_50": ("pbmc_3tech", "batch", "5p", 50),
    "stim": ("kang_ifnb", "condition", "stim", None),
    "stim_50": ("kang_ifnb", "condition", "stim", 50),
}
SCORES = {"nats": 1, "deviance": 4, "old_nats": 1, "train_seconds": 0}
N_SAMPLES = 100


class Parts(NamedTuple):
    """Cells of the reference and of the query, each to train on and held out."""

    reference: ad.AnnData
    old: ad.AnnData
    query: ad.AnnData
    new: ad.AnnData


class Told(NamedTuple):
    """A model, and what it is told of the query's category (None: nothing; "own": its own)."""

    model: CountsDiff
    category: str | None
    seconds: float


@dataclass(frozen=True)
class Question:
    """A category that the reference does not know."""

    data: str
    seed: int
    max_epochs: int | None

    @property
    def parts(self) -> Parts:
        """The same for each method."""
        return split(self.data, self.seed)

    @property
    def reference(self) -> CountsDiff:
        """Trained once for all methods, and for a query of any size."""
        return trained_reference(self.data.removesuffix("_50"), self.seed, self.max_epochs)

    @property
    def known(self) -> list[str]:
        """Categories of the reference."""
        return sorted(self.parts.reference.obs["category"].unique())


@lru_cache(maxsize=1)
def split(data: str, seed: int) -> Parts:
    """Return the parts of one question."""
    file, column, new, n_query = QUESTIONS[data]
    adata = read(file)
    obs = adata.obs[[column]].astype(str).set_axis(["category"], axis=1)
    adata = ad.AnnData(sp.csr_matrix(adata.X, dtype=np.float32), obs, adata.var[[]])
    is_new = (adata.obs["category"] == new).to_numpy()
    rows = []
    for cells in (np.flatnonzero(~is_new), np.flatnonzero(is_new)):
        train, test = split_cells(len(cells), seed)
        rows += [cells[train], cells[test]]
    rows[2] = np.random.default_rng(seed).permutation(rows[2])[:n_query]
    genes = choose_genes(adata.X[rows[0]])
    return Parts(*(adata[part, genes].copy() for part in rows))


def fit(cells: ad.AnnData, on: Question) -> CountsDiff:
    """Train a model that is told the category."""
    prepare(on.seed)
    cells = cells.copy()
    CountsDiff.setup_anndata(cells, batch_key="category")
    model = CountsDiff(cells)
    model.train(max_epochs=on.max_epochs, **QUIET)
    return model


@lru_cache(maxsize=3)
def trained_reference(data: str, seed: int, max_epochs: int | None) -> CountsDiff:
    """Return the model that knows nothing of the query."""
    return fit(split(data, seed).reference, Question(data, seed, max_epochs))


def marginal(on: Question) -> Told:
    """The reference, told nothing: what a new category starts from."""
    return Told(CountsDiff.load_query_data(on.parts.query.copy(), on.reference), None, 0.0)


def nearest(on: Question) -> Told:
    """The reference, told the known category that explains the query's training cells best."""
    bounds = {name: on.reference.get_elbo(renamed(on.parts.query, name), n_samples=N_SAMPLES).nats for name in on.known}
    return Told(on.reference, min(bounds, key=lambda name: bounds[name]), 0.0)


def tuned(on: Question, unfrozen: bool = False) -> Told:
    """The reference, trained on with the query."""
    prepare(on.seed)
    model = CountsDiff.load_query_data(on.parts.query.copy(), on.reference, unfrozen=unfrozen)
    start = time.perf_counter()
    model.train(max_epochs=on.max_epochs, **QUIET)
    return Told(model, "own", time.perf_counter() - start)


def anew(on: Question, with_reference: bool = True) -> Told:
    """A new model."""
    parts = [on.parts.reference] * with_reference + [on.parts.query]
    start = time.perf_counter()
    return Told(fit(ad.concat(parts), on), "own", time.perf_counter() - start)


METHODS: dict[str, Callable[[Question], Told]] = {
    "nearest": nearest,
    "marginal": marginal,
    "frozen": tuned,
    "unfrozen": lambda on: tuned(on, unfrozen=True),
    "query_only": lambda on: anew(on, with_reference=False),
    "anew": anew,
}


def renamed(cells: ad.AnnData, category: str) -> ad.AnnData:
    """The same cells under another category."""
    cells = cells.copy()
    cells.obs["category"] = category
    return cells


def scores(told: Told, on: Question) -> dict[str, float]:
    """Return the scores of one model."""
    new = on.parts.new if told.category in (None, "own") else renamed(on.parts.new, told.category)
    found = {"nats": told.model.get_elbo(new, n_samples=N_SAMPLES).nats, "train_seconds": told.seconds}
    hidden = mcar_mask(new.shape, 0.5, seed=on.seed)
    mean = told.model.impute(new, mask=hidden, layer_added=None).to_numpy()
    found["deviance"] = metrics.poisson_deviance(mean[hidden], new.X.toarray()[hidden])
    knows_old = set(on.known) <= set(told.model.adata_manager.get_state_registry("batch")["categorical_mapping"])
    if knows_old:
        found["old_nats"] = told.model.get_elbo(on.parts.old.copy(), n_samples=N_SAMPLES).nats
    return found


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, QUESTIONS).parse_args()
    record = Record(options.results / "query.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        on = Question(data, seed, options.max_epochs)
        return scores(METHODS[method](on), on)

    if not options.table:
        run(record, options, job)
    for data in options.data:
        print(f"\n{data}\n\n{record.scores_table(data, SCORES)}")


if __name__ == "__main__":
    main()
