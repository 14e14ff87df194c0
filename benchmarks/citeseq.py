"""Who predicts surface proteins of cells in which only RNA was counted?

Two 10x CITE-seq data sets of blood cells (``cite_pbmc``, 400 cells, 14 proteins). The protein counts of a random half
of the cells are hidden; the methods see the RNA of all cells (the 2,000 most dispersed genes of the others) and the
proteins of the others. Scores are over the hidden proteins, without isotype or background correction: Spearman's
correlation over cells, averaged over proteins, and the Poisson deviance of the counts.

``protein_mean`` is that of the batch. ``knn`` averages the ``K`` nearest cells and ``ridge`` regresses log1p counts, both
on 20 principal components of log1p(CP10k); ``ridge`` is scaled to the mean of each protein. ``totalvi`` runs with the
defaults of scvi-tools, the hidden cells as batches without proteins.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import scvi
from _data import choose_genes
from _record import Record, arguments, run
from _training import QUIET, prepare
from mudata import MuData, read_h5mu
from scipy.stats import spearmanr
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import NearestNeighbors

from sccountsdiff import CountsDiff, metrics

DATASETS = ("cite_pbmc",)
SCORES = ("spearman", "poisson_deviance", "total_ratio")
#: Neighbours; the best of 5, 10, 15, 20 and 30.
K = 15


@dataclass(frozen=True)
class Half:
    """Cells of which half lack their proteins.

    Attributes
    ----------
    rna, proteins
        UMI counts of all cells, ``(n_cells, n_genes)`` and ``(n_cells, n_proteins)``.
    batch
        Data set of each cell.
    hidden
        Cells whose proteins are hidden, ``(n_cells,)``.
    """

    rna: ad.AnnData
    proteins: ad.AnnData
    batch: np.ndarray
    hidden: np.ndarray

    @property
    def shown(self) -> np.ndarray:
        """Protein counts of the other cells."""
        return self.proteins.X[~self.hidden].toarray()

    def components(self, seed: int) -> np.ndarray:
        """Principal components of the RNA of all cells."""
        counts = self.rna.X.toarray()
        values = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
        return PCA(20, random_state=seed).fit_transform(values)


def make_half(seed: int) -> Half:
    """Hide the proteins of a random half of the cells."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = read_h5mu(Path(os.environ.get("SCCOUNTSDIFF_DATA", "data")) / "cite_pbmc.h5mu")
    rna, proteins = mdata["rna"], mdata["prot"]
    hidden = np.zeros(rna.n_obs, dtype=bool)
    hidden[np.random.default_rng(seed).permutation(rna.n_obs)[: rna.n_obs // 2]] = True
    genes = choose_genes(sp.csr_matrix(rna.X[~hidden], dtype=np.float64))
    proteins.X = sp.csr_matrix(proteins.X)
    return Half(rna[:, genes].copy(), proteins.copy(), rna.obs["batch"].astype(str).to_numpy(), hidden)


def protein_mean(half: Half, seed: int, max_epochs: int | None) -> np.ndarray:
    """Mean of each protein in the batch."""
    batch, shown = half.batch[~half.hidden], half.shown
    return np.stack([shown[batch == name].mean(0) for name in half.batch[half.hidden]])


def knn(half: Half, seed: int, max_epochs: int | None) -> np.ndarray:
    """Mean of the nearest cells."""
    features = half.components(seed)
    _, found = NearestNeighbors(n_neighbors=K).fit(features[~half.hidden]).kneighbors(features[half.hidden])
    return half.shown[found].mean(1)


def ridge(half: Half, seed: int, max_epochs: int | None) -> np.ndarray:
    """Ridge regression of log1p counts on components and batch, its strength by cross-validation."""
    batch = pd.get_dummies(half.batch).to_numpy(dtype=float)
    features = np.concatenate([half.components(seed), batch], 1)
    fitted = RidgeCV(np.logspace(-1, 5, 25)).fit(features[~half.hidden], np.log1p(half.shown))
    inside, outside = (np.expm1(fitted.predict(features[rows])).clip(0) for rows in (~half.hidden, half.hidden))
    return outside * (half.shown.mean(0) / inside.mean(0))


def totalvi(half: Half, seed: int, max_epochs: int | None) -> np.ndarray:
    """Expected counts of totalVI, as if measured in the batch with proteins."""
    prepare(seed)
    adata = half.rna.copy()
    proteins = half.proteins.X.toarray().astype(np.float32)
    proteins[half.hidden] = 0
    adata.obsm["proteins"] = pd.DataFrame(proteins, adata.obs_names, half.proteins.var_names)
    adata.obs["batch"] = [
        f"{name}{'_rna' if hidden else ''}" for name, hidden in zip(half.batch, half.hidden, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scvi.model.TOTALVI.setup_anndata(adata, batch_key="batch", protein_expression_obsm_key="proteins")
        model = scvi.model.TOTALVI(adata)
        model.train(max_epochs=max_epochs, **QUIET)
        expected = np.zeros((int(half.hidden.sum()), proteins.shape[1]))
        for name in np.unique(half.batch):
            rows = np.flatnonzero(half.hidden & (half.batch == name))
            values = model.get_normalized_expression(
                indices=rows, transform_batch=name, n_samples=25, include_protein_background=True, return_numpy=True
            )[1]
            expected[np.searchsorted(np.flatnonzero(half.hidden), rows)] = values
    return expected


def countsdiff(half: Half, seed: int, max_epochs: int | None) -> np.ndarray:
    """CountsDiff of a MuData in which half of the cells have no proteins."""
    prepare(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = MuData({"rna": half.rna.copy(), "prot": half.proteins[~half.hidden].copy()})
    mdata.obs["batch"] = half.batch
    CountsDiff.setup_mudata(mdata, batch_key="batch")
    model = CountsDiff(mdata)
    model.train(max_epochs=max_epochs, **QUIET)
    model.impute()
    return mdata.obsm["prot_imputed"].to_numpy()[half.hidden]


METHODS: dict[str, Callable[[Half, int, int | None], np.ndarray]] = {
    "protein_mean": protein_mean,
    "knn": knn,
    "ridge": ridge,
    "totalvi": totalvi,
    "countsdiff": countsdiff,
}


def spearman(expected: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean over proteins of Spearman's correlation over cells; 0 for a prediction without spread."""
    pairs = list(zip(expected.T, truth.T, strict=True))
    return float(np.mean([spearmanr(ours, theirs)[0] if np.ptp(ours) > 0 else 0.0 for ours, theirs in pairs]))


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, DATASETS).parse_args()
    record = Record(options.results / "citeseq.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        half = make_half(seed)
        expected = METHODS[method](half, seed, options.max_epochs)
        truth = half.proteins.X[half.hidden].toarray()
        found = {name: metrics.METRICS[name].function(expected, truth) for name in SCORES if name in metrics.METRICS}
        return found | {"spearman": spearman(expected, truth)}

    if not options.table:
        run(record, options, job)
    for score in SCORES:
        print(f"\n{score}\n\n{record.table(score)}")


if __name__ == "__main__":
    main()
