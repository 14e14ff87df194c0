"""Real UMI counts for the benchmarks: loading, splits of cells or of molecules, choice of genes.

The files come from the folder named by the environment variable ``SCCOUNTSDIFF_DATA``; ``pbmc68k`` ships with scanpy
and needs no file. Genes are always chosen on training data only.
"""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import numpy as np
import scipy.sparse as sp

from sccountsdiff import datasets

FILES = ("pbmc3k", "pancreas_endocrinogenesis", "scmix_5cl_celseq2")
DATASETS = ("pbmc68k", *FILES)
#: Of other kinds: neurons, several chemistries, a narrow panel, smFISH. What is by default for narrow panels was chosen with
#: seed 0 of the last two in sight.
FURTHER = ("zeisel_ercc", "pbmc_3tech", "norman_sub", "osmfish_cortex")
N_GENES = 2_000
MIN_CELLS = 10


def load(name: str) -> ad.AnnData:
    """Return the raw counts of one data set.

    Parameters
    ----------
    name
        One of :data:`DATASETS`.

    Returns
    -------
    AnnData with integer UMI counts as float32 CSR in ``.X`` and the cell labels in ``.obs["label"]``.

    Raises
    ------
    FileNotFoundError
        If the file is not in the folder named by ``SCCOUNTSDIFF_DATA``.
    """
    adata = datasets.pbmc68k() if name == "pbmc68k" else read(name)
    labels = adata.obs["cell_type"].astype(str).to_numpy()
    counts = sp.csr_matrix(adata.X, dtype=np.float32)
    return ad.AnnData(counts, obs={"label": labels}, var=adata.var[[]].copy())


def read(name: str) -> ad.AnnData:
    """Return a file of the data folder as it is."""
    path = Path(os.environ.get("SCCOUNTSDIFF_DATA", "data")) / f"{name}.h5ad"
    if not path.exists():
        raise FileNotFoundError(f"{path} not found: set SCCOUNTSDIFF_DATA to the folder of the data; known: {DATASETS}")
    return ad.read_h5ad(path)


def split_cells(n_cells: int, seed: int, train: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted row numbers of training and of held-out cells."""
    order = np.random.default_rng(seed).permutation(n_cells)
    n_train = round(train * n_cells)
    return np.sort(order[:n_train]), np.sort(order[n_train:])


def split_molecules(counts: sp.csr_matrix, seed: int, fraction: float = 0.9) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Thin every UMI count binomially (molecular cross-validation, Batson et al. 2019): ``seen + hidden == counts``."""
    seen, hidden = counts.tocsr().astype(np.float64), counts.tocsr().astype(np.float64)
    seen.data = np.random.default_rng(seed).binomial(seen.data.astype(np.int64), fraction).astype(np.float64)
    hidden.data = hidden.data - seen.data
    seen.eliminate_zeros()
    hidden.eliminate_zeros()
    return seen, hidden


def choose_genes(train: sp.csr_matrix, n_genes: int = N_GENES, min_cells: int = MIN_CELLS) -> np.ndarray:
    """Return column numbers of the most dispersed genes of the training counts.

    Genes seen in fewer than ``min_cells`` training cells go first; of the others the ``n_genes`` with the largest
    index of dispersion (variance / mean of the raw counts over training cells) stay, all of them where there are no
    more than that. Unlike ``seurat_v3`` the rule keeps abundant variable genes, hence most molecules of a cell.
    """
    mean = train.mean(axis=0).A1
    dispersion = train.multiply(train).mean(axis=0).A1 / np.maximum(mean, 1e-12) - mean
    dispersion[train.getnnz(axis=0) < min_cells] = -np.inf
    order = np.argsort(-dispersion, kind="stable")[:n_genes]
    return np.sort(order[np.isfinite(dispersion[order])])


def cell_split(name: str, seed: int, n_genes: int = N_GENES) -> tuple[ad.AnnData, ad.AnnData]:
    """Return training (80 %) and held-out cells of one data set over the training cells' variable genes."""
    adata = load(name)
    train, test = split_cells(adata.n_obs, seed)
    genes = choose_genes(adata.X[train], n_genes)
    parts = (adata[rows, genes].copy() for rows in (train, test))
    return tuple(part[part.X.sum(axis=1).A1 > 0].copy() for part in parts)


def molecule_split(
    name: str, seed: int, n_genes: int = N_GENES, min_cells: int = MIN_CELLS
) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Return seen (90 %) and hidden molecules of the same cells over the seen molecules' variable genes.

    Cells without a seen or without a hidden molecule are left out.
    """
    seen, hidden = split_molecules(load(name).X, seed)
    genes = choose_genes(seen, n_genes, min_cells)
    seen, hidden = seen[:, genes], hidden[:, genes]
    filled = (seen.sum(axis=1).A1 > 0) & (hidden.sum(axis=1).A1 > 0)
    return seen[filled], hidden[filled]
