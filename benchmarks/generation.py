r"""Are generated cells like real cells? Two populations compared, with the real-against-real floor beside.

Models are trained on 80 % of the cells (2,000 most dispersed genes of these) and generate as many cells as they were
trained on, unconditionally. The data set called ``_all_genes`` keeps all genes seen in ten training cells. All sets are
scored against the held-out 20 % in 30 principal components of log1p(CP10k) fitted on training cells, one bandwidth per
data set and seed (median squared distance between training cells):

- ``mmd2``: unbiased, squared; ``floor_mmd2`` is what two random parts of the real cells of the same sizes score in
  95 of 100 splits, so a set below it cannot be told from real cells; ``mmd2_over_floor`` is the ratio;
- ``auc_log``, ``auc_pooled_pcs``: cross-validated AUC of a random forest that tells generated from held-out cells, on
  log1p(CP10k) itself, and on 30 principal components fitted to as many held-out as generated cells (components fitted to
  one side tell the sides apart by the noise they follow: with those of the training cells even these score .83 and more);
  there are several times as many generated as held-out cells, and the mean is taken over up to four disjoint parts of
  them (up to 2026-11-30 one part, whose score varies more from one draw to another);
- ``gene_correlation_agreement`` of the 100 most abundant genes with held-out cells;
- library sizes and zeros against all real cells;
- ``nearest_neighbor_ratio``: distance to the nearest training cell over that of held-out cells; far below 1 is copying.

The method ``real`` scores the training cells themselves, the real-against-real value of the other scores. (Its ``mmd2``
is a little high because the components were fitted to these very cells; its ``nearest_neighbor_ratio`` is 0.)
CountsDiff walks from zeros or from thinned training cells (``empirical``) in the number of steps in the name. scVI
(``early`` stopping) gives posterior-predictive counts of its training cells, and samples from its prior with the
library sizes of training cells.
"""

from __future__ import annotations

import functools
import sys
import time

import anndata as ad
import numpy as np
import scipy.sparse as sp
from _data import FURTHER, N_GENES, cell_split
from _record import Record, arguments, run

from sccountsdiff import metrics

ALL_GENES = "_all_genes"
DATASETS = (
    "pbmc68k",
    "pbmc3k",
    "pancreas_endocrinogenesis",
    "onek1k_sub",
    f"pancreas_endocrinogenesis{ALL_GENES}",
    *FURTHER,
)
ZEROS = {f"countsdiff_zeros_{n}": n for n in (5, 10, 20, 50)}
EMPIRICAL = {f"countsdiff_empirical_{n}": n for n in (2, 4, 8)}
SCVI = ("scvi_posterior", "scvi_prior")
METHODS = ("real", *ZEROS, *EMPIRICAL, *SCVI)
SCORES = {
    "mmd2": 5,
    "floor_mmd2": 5,
    "mmd2_over_floor": 2,
    "auc_pooled_pcs": 3,
    "auc_log": 3,
    "gene_correlation_agreement": 3,
    "library_size_mean_ratio": 3,
    "library_size_sd_ratio": 3,
    "zero_fraction_difference": 4,
    "variance_error": 3,
    "nearest_neighbor_ratio": 3,
    "seconds_per_1000_cells": 2,
}

Counts = sp.csr_matrix
#: Parts of the cells that the AUC is a mean over, at most.
N_PARTS = 4


class Ruler:
    """Scores any set of cells against the held-out cells of one split.

    Parameters
    ----------
    train, test
        Counts of training and of held-out cells.
    seed
        Seed of the random splits behind the floor.
    """

    def __init__(self, train: Counts, test: Counts, seed: int) -> None:
        self.test, self.everyone, self.seed = test, sp.vstack([train, test]).tocsr(), seed
        self.log_test = metrics.log1p_cp10k(test)
        self.pca = metrics.LogPCA(30).fit(train)
        self.train_scores, self.test_scores = self.pca.transform(train), self.pca.transform(test)
        self.bandwidth = metrics.median_squared_distance(self.train_scores)
        everywhere = np.vstack([self.train_scores, self.test_scores])
        self.floor = metrics.mmd2_floor(everywhere, test.shape[0], self.bandwidth, seed=seed)

    def scores(self, cells: Counts) -> dict[str, float]:
        """Return all scores of a set of cells."""
        embedded = self.pca.transform(cells)
        mmd2 = metrics.mmd2(self.test_scores, embedded, self.bandwidth)
        return {
            "mmd2": mmd2,
            "floor_mmd2": self.floor,
            "mmd2_over_floor": mmd2 / self.floor,
            "auc_pooled_pcs": np.mean([self._auc_pooled_pcs(part) for part in self._parts(cells)]),
            "auc_log": np.mean([self._auc_log(part) for part in self._parts(cells)]),
            "gene_correlation_agreement": metrics.gene_correlation_agreement(self.test, cells),
            "library_size_mean_ratio": metrics.library_size_mean_ratio(self.everyone, cells),
            "library_size_sd_ratio": metrics.library_size_sd_ratio(self.everyone, cells),
            "zero_fraction_difference": metrics.zero_fraction_difference(self.everyone, cells),
            "variance_error": metrics.variance_error(self.everyone, cells),
            "nearest_neighbor_ratio": metrics.nearest_neighbor_ratio(self.train_scores, self.test_scores, embedded),
        }

    def _parts(self, cells: Counts) -> list[Counts]:
        """Disjoint random parts of the cells, each as large as the held-out cells; all cells if there are fewer."""
        n_cells, size = cells.shape[0], self.test.shape[0]
        order = np.random.default_rng(self.seed).permutation(n_cells)
        starts = range(0, max(n_cells - size, 0) + 1, size)
        return [cells[order[start : start + size]] for start in starts[:N_PARTS]]

    def _auc_log(self, cells: Counts) -> float:
        return metrics.two_sample_auc(self.log_test, metrics.log1p_cp10k(cells), self.seed)

    def _auc_pooled_pcs(self, cells: Counts) -> float:
        rng = np.random.default_rng(self.seed)
        size = min(cells.shape[0], self.test.shape[0])
        real, drawn = (part[rng.choice(part.shape[0], size, replace=False)] for part in (self.test, cells))
        pca = metrics.LogPCA(30).fit(sp.vstack([real, drawn]).tocsr())
        return metrics.two_sample_auc(pca.transform(real), pca.transform(drawn), self.seed)


@functools.lru_cache(maxsize=1)
def split(data: str, seed: int) -> tuple[ad.AnnData, ad.AnnData, Ruler]:
    """Return training cells, held-out cells and the ruler between them."""
    name = data.removesuffix(ALL_GENES)
    train, test = cell_split(name, seed, N_GENES if name == data else sys.maxsize)
    return train, test, Ruler(train.X, test.X, seed)


@functools.lru_cache(maxsize=1)
def countsdiff_model(data: str, seed: int, max_epochs: int | None):
    """Return CountsDiff fitted to the training cells; one fit serves all ways of sampling."""
    from _countsdiff import fit

    return fit(split(data, seed)[0].X, seed, max_epochs)[0]


@functools.lru_cache(maxsize=1)
def scvi_model(data: str, seed: int, max_epochs: int | None):
    """Return scVI fitted to the training cells."""
    from _scvi import fit

    return fit(split(data, seed)[0].X, "early", seed, max_epochs)[0]


def countsdiff_cells(method: str, model, seed: int) -> Counts:
    """Return cells generated by CountsDiff, as many as there were training cells."""
    if method in ZEROS:
        return model.generate(n_steps=ZEROS[method], seed=seed).X
    return model.generate(n_steps=EMPIRICAL[method], start="empirical", seed=seed).X


def scvi_cells(method: str, model, seed: int) -> Counts:
    """Return cells drawn from scVI's posterior predictive or from its prior."""
    from _scvi import posterior_cells, prior_cells

    return {"scvi_posterior": posterior_cells, "scvi_prior": prior_cells}[method](model, seed)


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, DATASETS).parse_args()
    record = Record(options.results / "generation.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        train, _, ruler = split(data, seed)
        if method == "real":
            return ruler.scores(train.X)
        model_of, cells_of = (scvi_model, scvi_cells) if method in SCVI else (countsdiff_model, countsdiff_cells)
        model = model_of(data, seed, options.max_epochs)
        start = time.perf_counter()
        cells = cells_of(method, model, seed)
        seconds = time.perf_counter() - start
        return ruler.scores(cells) | {"seconds_per_1000_cells": 1000 * seconds / train.n_obs}

    if not options.table:
        run(record, options, job)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
