r"""Are cells generated for a cell type like the real cells of that type?

Models are trained on 80 % of the cells (2,000 most dispersed genes of these) with their labels, and asked for as many
cells of each label as there were training cells of it. All sets are scored against the held-out 20 %, in 30 principal
components of log1p(CP10k) fitted on training cells:

- ``mmd2_over_floor``: unbiased squared MMD over what two random parts of the real cells of the same sizes score in 95
  of 100 splits (all cells together); ``type_mmd2_over_floor`` the same within each label with at least 20 held-out
  cells, averaged;
- ``auc_log``, ``auc_pooled_pcs``: AUC of a classifier between generated and held-out cells, as in ``generation.py``;
- ``label_accuracy``: part of the cells that a classifier trained on real training cells recognises as what was asked
  for; the held-out cells' own value is ``real_label_accuracy``;
- ``gene_correlation_agreement`` of the 100 most abundant genes with held-out cells;
- ``copied_fraction``: part of the cells nearer to a training cell than 95 % of the held-out cells are.

CountsDiff is told the label and walks from zeros or from thinned training cells (``empirical``) in the number of steps in
the name, as default settings have it or with the setting named; ``conjugate`` is ``head="conjugate"``, without outlier states,
``as_trained`` is the network as the epochs leave it, without what follows them, ``unpolished`` has the laws of its
genes fitted once more, but was not trained without dropout, and ``unmatched`` lacks the last three steps: in one, what is
expected of each gene in a label is matched to what was counted, in the others it is measured how genes vary together
beyond that. ``independent`` lacks only the latter: all genes of a step are drawn on their own. ``trusting`` lacks only
that labels are trusted less than training suggests where held-out cells ask for it.
The method ``real`` scores the training cells themselves: no model can be expected to do better than that, since they
and the held-out cells differ by chance. ``shuffled`` permutes each gene among the training cells of a label, ``nb``
draws each gene from a negative binomial with the label's moments at the cells' library sizes: right profiles without
any correlation. scVI (``early`` stopping) gets the label as its batch: ``scvi_posterior`` are posterior-predictive
counts of the training cells, ``scvi_prior`` samples from its prior given label and library size.
"""

from __future__ import annotations

import functools
import time
from unittest import mock

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from _data import cell_split
from _record import Record, arguments, run
from generation import Ruler

from sccountsdiff import CountsDiff, metrics
from sccountsdiff.model._calibration import CalibrateDispersion
from sccountsdiff.model._doubt import DoubtConditions
from sccountsdiff.model._polish import Polish
from sccountsdiff.model._refit import RefitGenes
from sccountsdiff.model._switch import FindSwitches

DATASETS = ("pbmc68k", "pbmc3k", "pancreas_endocrinogenesis", "onek1k_sub")
ZEROS = {f"countsdiff_zeros_{n}": {"n_steps": n} for n in (5, 20, 200)}
EMPIRICAL = {f"countsdiff_empirical_{n}": {"n_steps": n, "start": "empirical"} for n in (2, 4)}
EMPIRICAL["countsdiff_empirical_4_at_1%"] = {"n_steps": 4, "start": "empirical", "start_survival": 0.01}
GUIDED = {f"countsdiff_guidance_{scale}": {"n_steps": 20, "guidance": scale} for scale in (1.5, 2.0)}
ATTRITION = {f"countsdiff_attrition_{part}": {"n_steps": 20, "attrition": part} for part in (0.05, 0.2)}
BIRTHS = {f"countsdiff_{births}_births": {"n_steps": 20, "births": births} for births in ("posterior", "binomial")}
CONJUGATE = {"countsdiff_conjugate_zeros_20": {"n_steps": 20}}
CONJUGATE["countsdiff_conjugate_empirical_4"] = {"n_steps": 4, "start": "empirical"}
AS_TRAINED = {"countsdiff_as_trained_zeros_20": {"n_steps": 20}}
AS_TRAINED["countsdiff_as_trained_empirical_4"] = {"n_steps": 4, "start": "empirical"}
UNPOLISHED = {"countsdiff_unpolished_zeros_20": {"n_steps": 20}}
UNPOLISHED["countsdiff_unpolished_empirical_4"] = {"n_steps": 4, "start": "empirical"}
UNMATCHED = {"countsdiff_unmatched_zeros_20": {"n_steps": 20}}
UNMATCHED["countsdiff_unmatched_empirical_4"] = {"n_steps": 4, "start": "empirical"}
INDEPENDENT = {"countsdiff_independent_zeros_20": {"n_steps": 20, "covariation": False}}
INDEPENDENT["countsdiff_independent_empirical_4"] = {"n_steps": 4, "start": "empirical", "covariation": False}
TRUSTING = {"countsdiff_trusting_zeros_20": {"n_steps": 20}}
TRUSTING["countsdiff_trusting_empirical_4"] = {"n_steps": 4, "start": "empirical"}
OURS = ZEROS | EMPIRICAL | GUIDED | ATTRITION | BIRTHS | CONJUGATE
OURS |= AS_TRAINED | UNPOLISHED | UNMATCHED | INDEPENDENT | TRUSTING
FINISH = (
    dict.fromkeys(AS_TRAINED, (CalibrateDispersion,))
    | dict.fromkeys(UNPOLISHED, (RefitGenes, CalibrateDispersion))
    | dict.fromkeys(UNMATCHED, (RefitGenes, FindSwitches, Polish, RefitGenes, DoubtConditions, CalibrateDispersion))
    | dict.fromkeys(TRUSTING, tuple(stage for stage in CountsDiff._finish if stage is not DoubtConditions))
)
TRIVIAL = ("shuffled", "nb")
SCVI = ("scvi_posterior", "scvi_prior")
METHODS = ("real", *TRIVIAL, *OURS, *SCVI)
SCORES = {
    "mmd2_over_floor": 2,
    "type_mmd2_over_floor": 2,
    "auc_pooled_pcs": 3,
    "auc_log": 3,
    "label_accuracy": 3,
    "real_label_accuracy": 3,
    "gene_correlation_agreement": 3,
    "copied_fraction": 3,
}
MIN_HELD_OUT = 20


class TypeRuler:
    """Real cells with labels, and how far a set of labelled cells is from them."""

    def __init__(self, train: ad.AnnData, test: ad.AnnData, seed: int) -> None:
        self.train, self.test, self.seed = train, test, seed
        self.whole = Ruler(train.X, test.X, seed)
        counted = test.obs["label"].value_counts()
        self.labels = [label for label, n in counted.items() if n >= MIN_HELD_OUT]

    def scores(self, cells: sp.csr_matrix, labels: np.ndarray) -> dict[str, float]:
        """Return all scores of generated cells with the labels asked for."""
        whole = self.whole
        embedded = whole.pca.transform(cells)
        all_scores = whole.scores(cells)
        transfer = functools.partial(
            metrics.label_transfer_accuracy, whole.train_scores, self.train.obs["label"].to_numpy()
        )
        of_all = ("mmd2_over_floor", "gene_correlation_agreement", "auc_pooled_pcs", "auc_log")
        return {name: all_scores[name] for name in of_all} | {
            "type_mmd2_over_floor": float(np.mean([self._one_type(label, embedded, labels) for label in self.labels])),
            "label_accuracy": transfer(embedded, labels),
            "real_label_accuracy": transfer(whole.test_scores, self.test.obs["label"].to_numpy()),
            "copied_fraction": metrics.copied_fraction(whole.train_scores, whole.test_scores, embedded),
        }

    def _one_type(self, label: str, embedded: np.ndarray, labels: np.ndarray) -> float:
        whole = self.whole
        held_out = whole.test_scores[(self.test.obs["label"] == label).to_numpy()]
        real = np.vstack([whole.train_scores[(self.train.obs["label"] == label).to_numpy()], held_out])
        floor = metrics.mmd2_floor(real, len(held_out), whole.bandwidth, seed=self.seed)
        return metrics.mmd2(held_out, embedded[labels == label], whole.bandwidth) / floor


@functools.lru_cache(maxsize=1)
def split(data: str, seed: int) -> tuple[ad.AnnData, TypeRuler]:
    """Return training cells and the ruler between them and the held-out cells; labels of one training cell go."""
    train, test = cell_split(data, seed)
    counted = train.obs["label"].value_counts()
    known = counted.index[counted > 1]
    train, test = (part[part.obs["label"].isin(known)].copy() for part in (train, test))
    return train, TypeRuler(train, test, seed)


@functools.lru_cache(maxsize=1)
def countsdiff_model(
    data: str, seed: int, max_epochs: int | None, head: str = "mixture", finish: tuple[type, ...] = CountsDiff._finish
) -> CountsDiff:
    """Return CountsDiff fitted to the labelled training cells, with one of the heads, and what follows the epochs."""
    from _training import QUIET, prepare

    prepare(seed)
    train = split(data, seed)[0].copy()
    CountsDiff.setup_anndata(train, labels_key="label")
    model = CountsDiff(train, head=head)
    with mock.patch.object(CountsDiff, "_finish", finish):
        model.train(max_epochs=max_epochs, **QUIET)
    return model


def countsdiff_cells(method: str, model: CountsDiff, seed: int) -> ad.AnnData:
    """Return cells of each label, as many as there were training cells."""
    counted = model.adata.obs["label"].value_counts()
    conditions = [{"label": label} for label in counted.index]
    return model.generate(conditions, n_cells=counted.tolist(), seed=seed, **OURS[method])


@functools.lru_cache(maxsize=1)
def scvi_model(data: str, seed: int, max_epochs: int | None):
    """Return scVI fitted to the training cells with the label as batch."""
    from _scvi import fit

    train = split(data, seed)[0]
    return fit(train.X, "early", seed, max_epochs, labels=train.obs["label"].to_numpy())[0]


def scvi_cells(method: str, model, seed: int) -> sp.csr_matrix:
    """Return cells drawn from scVI's posterior predictive or from its prior, one for each training cell."""
    from _scvi import posterior_cells, prior_cells

    return {"scvi_posterior": posterior_cells, "scvi_prior": prior_cells}[method](model, seed)


def trivial_cells(method: str, train: ad.AnnData, seed: int) -> sp.csr_matrix:
    """Return cells with the right profile of each label and independent genes, one for each training cell."""
    rng = np.random.default_rng(seed)
    counts, cells = train.X.toarray(), np.empty(train.shape)
    for rows in train.obs.groupby("label", observed=True).indices.values():
        cells[rows] = {"shuffled": _shuffled, "nb": _negative_binomial}[method](counts[rows], rng)
    return sp.csr_matrix(cells)


def _shuffled(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permuted(counts, axis=0)


def _negative_binomial(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw from the moments of each gene, given the library sizes."""
    size = counts.sum(1, keepdims=True)
    mean = size * (counts.sum(0) / size.sum())
    excess = ((counts - mean) ** 2 - mean).sum(0) / np.maximum((mean**2).sum(0), 1e-12)
    dispersion = np.clip(excess, 1e-6, None)
    return rng.poisson(rng.gamma(1 / dispersion, mean * dispersion))


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, DATASETS).parse_args()
    record = Record(options.results / "celltypes.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        train, ruler = split(data, seed)
        labels = train.obs["label"].to_numpy()
        start = time.perf_counter()
        if method == "real":
            return ruler.scores(train.X, labels)
        if method in TRIVIAL:
            return ruler.scores(trivial_cells(method, train, seed), labels)
        if method in SCVI:
            return ruler.scores(scvi_cells(method, scvi_model(data, seed, options.max_epochs), seed), labels)
        head = "conjugate" if method in CONJUGATE else "mixture"
        model = countsdiff_model(data, seed, options.max_epochs, head, FINISH.get(method, CountsDiff._finish))
        start = time.perf_counter()
        cells = countsdiff_cells(method, model, seed)
        seconds = time.perf_counter() - start
        labels = pd.Series(cells.obs["label"]).astype(str).to_numpy()
        return ruler.scores(cells.X, labels) | {"seconds_per_1000_cells": 1000 * seconds / cells.n_obs}

    if not options.table:
        run(record, options, job)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
