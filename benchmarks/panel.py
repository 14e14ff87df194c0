"""Who fills in genes that a batch never measured?

Three 10x chemistries of blood cells (``pbmc_3tech``, 1,511 genes). In one of them a random half of the genes is hidden
in every cell, as if measured with a smaller panel; the methods see everything else. Scores are over the hidden entries
of that batch. No method can know how the efficiency of a gene differs between chemistries: ``total_ratio`` shows the
part of the error that is common to all cells.

The peers transfer from the other two batches: the mean of the ``K`` nearest cells, in the principal components of the
shared genes or in the latent space of scVI trained on the shared genes of all cells (batch as a covariate), scaled by
the molecules of the shared genes. ``gene_mean`` is that of all cells of the other batches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np
import scipy.sparse as sp
import scvi
from _data import read
from _record import Record, arguments, run
from _training import QUIET, prepare
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from sccountsdiff import CountsDiff, metrics

DATASETS = ("3pv1", "3pv2", "5p")
#: Neighbours of the transfer; the best of 15, 30 and 50 for `knn` in batch 5p.
K = 50
SCORES = ("poisson_deviance", "mse_counts", "gene_correlation", "total_ratio")


@dataclass(frozen=True)
class Panel:
    """One batch without half of its genes.

    Attributes
    ----------
    adata
        Counts of all cells, zeros where hidden; the batch in ``obs["batch"]``.
    target
        Cells of the batch, ``(n_cells,)``.
    hidden
        Genes that it lacks, ``(n_genes,)``.
    truth
        What it lacks, ``(n_target, n_hidden)``.
    """

    adata: ad.AnnData
    target: np.ndarray
    hidden: np.ndarray
    truth: np.ndarray

    @property
    def shared(self) -> sp.csr_matrix:
        """Counts of the genes that all cells have."""
        return sp.csr_matrix(self.adata.X[:, ~self.hidden])

    def transferred(self, weights: sp.csr_matrix) -> np.ndarray:
        """Hidden genes of the target as weighted sums of the other cells, at the target's depth."""
        size = np.asarray(self.shared.sum(1)).ravel()
        molecules = (weights @ self.adata.X[~self.target][:, self.hidden]).toarray()
        return molecules * (size[self.target] / (weights @ size[~self.target]))[:, None]


def make_panel(batch: str, seed: int) -> Panel:
    """Hide a random half of the genes in one batch."""
    adata = read("pbmc_3tech")
    counts = adata.X.toarray()
    target = (adata.obs["batch"] == batch).to_numpy()
    hidden = np.zeros(adata.n_vars, dtype=bool)
    hidden[np.random.default_rng(seed).permutation(adata.n_vars)[: adata.n_vars // 2]] = True
    truth = counts[np.ix_(target, hidden)]
    counts[np.ix_(target, hidden)] = 0
    shown = ad.AnnData(sp.csr_matrix(counts), obs={"batch": adata.obs["batch"].astype(str).to_numpy()})
    shown.var_names = adata.var_names
    return Panel(shown, target, hidden, truth)


def gene_mean(panel: Panel, seed: int, max_epochs: int | None) -> np.ndarray:
    """All cells of the other batches, with equal weights."""
    return panel.transferred(sp.csr_matrix(np.ones((panel.target.sum(), (~panel.target).sum()))))


def nearest(panel: Panel, features: np.ndarray) -> np.ndarray:
    """The nearest cells of the other batches."""
    found = NearestNeighbors(n_neighbors=K).fit(features[~panel.target])
    return panel.transferred(found.kneighbors_graph(features[panel.target]))


def knn(panel: Panel, seed: int, max_epochs: int | None) -> np.ndarray:
    """Nearest in 20 principal components of log1p(CP10k) of the shared genes."""
    shared = panel.shared.toarray()
    values = np.log1p(1e4 * shared / shared.sum(1, keepdims=True))
    return nearest(panel, PCA(20, random_state=seed).fit_transform(values))


def scvi_knn(panel: Panel, seed: int, max_epochs: int | None) -> np.ndarray:
    """Nearest in the latent space of scVI, which corrects for the batch."""
    prepare(seed)
    adata = ad.AnnData(panel.shared, obs=panel.adata.obs.copy())
    scvi.model.SCVI.setup_anndata(adata, batch_key="batch")
    model = scvi.model.SCVI(adata, gene_likelihood="nb")
    model.train(max_epochs=max_epochs, early_stopping=True, logger=False, **QUIET)
    return nearest(panel, model.get_latent_representation())


def countsdiff(panel: Panel, seed: int, max_epochs: int | None) -> np.ndarray:
    """CountsDiff told which genes the batch measured."""
    prepare(seed)
    adata = panel.adata.copy()
    batch = adata.obs["batch"][panel.target].iloc[0]
    measured = {batch: adata.var_names[~panel.hidden]}
    CountsDiff.setup_anndata(adata, batch_key="batch", measured_genes=measured)
    model = CountsDiff(adata)
    model.train(max_epochs=max_epochs, **QUIET)
    return model.impute(replace="masked", layer_added=None).to_numpy()[np.ix_(panel.target, panel.hidden)]


METHODS: dict[str, Callable[[Panel, int, int | None], np.ndarray]] = {
    "gene_mean": gene_mean,
    "knn": knn,
    "scvi_knn": scvi_knn,
    "countsdiff": countsdiff,
}


def gene_correlation(expected: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean over genes of Pearson's correlation over cells; genes below .05 molecules a cell are left out."""
    frequent = truth.mean(0) > 0.05
    pairs = zip(expected[:, frequent].T, truth[:, frequent].T, strict=True)
    return float(np.mean([np.corrcoef(ours, theirs)[0, 1] if ours.std() > 0 else 0.0 for ours, theirs in pairs]))


def scores(expected: Any, truth: np.ndarray) -> dict[str, float]:
    """Return the scores of the hidden entries."""
    found = {name: metrics.METRICS[name].function(expected, truth) for name in SCORES if name in metrics.METRICS}
    return found | {"gene_correlation": gene_correlation(expected, truth)}


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, DATASETS).parse_args()
    record = Record(options.results / "panel.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        panel = make_panel(data, seed)
        return scores(METHODS[method](panel, seed, options.max_epochs), panel.truth)

    if not options.table:
        run(record, options, job)
    for score in SCORES:
        print(f"\n{score}\n\n{record.table(score)}")
    print(f"\npoisson_deviance beside the best peer\n\n{record.against_best('poisson_deviance', 'countsdiff')}")


if __name__ == "__main__":
    main()
