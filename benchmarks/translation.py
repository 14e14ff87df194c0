"""What would cells have looked like in another batch?

Blood cells measured by three 10x chemistries (``pbmc_3tech``, its panel of genes). Models are told the chemistry and
nothing of cell types, and translate all cells to each chemistry in turn; scores are means over the three targets:

- ``profile_mse``: mean squared difference of log1p(CP10k) of pooled counts between translated and measured cells of the
  target, over genes, mean over pairs of source and target with at least 16 cells of a type each;
- ``own_batch``: how much more often than by chance a cell's 30 nearest neighbours (20 principal components of
  log1p(CP10k) of all translated cells) come from its own source: 1 if batches are mixed;
- ``own_type``: part of these neighbours that are of the cell's type.

``raw`` are the counts, ``real_half`` one half of the measured cells against the other (``profile_mse`` alone: the
floor), ``mean_shift`` adds the difference of the two chemistries' mean log1p(CP10k), whatever the type. scVI and
CountsDiff answer by ``get_normalized_expression(transform_batch=...)``; ``untranslated`` is CountsDiff without it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import anndata as ad
import numpy as np
import scipy.sparse as sp
from _data import read
from _record import Record, arguments, run
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from sccountsdiff import metrics

DATASETS = ("pbmc_3tech",)
BATCH, TYPE = "batch", "cell_type"
MIN_CELLS, N_NEIGHBOURS = 16, 30
SCORES = {"profile_mse": 4, "own_batch": 2, "own_type": 3}


@functools.lru_cache(maxsize=1)
def cells(data: str) -> ad.AnnData:
    """Return the cells."""
    found = read(data)
    return ad.AnnData(sp.csr_matrix(found.X, dtype=np.float32), found.obs[[BATCH, TYPE]].astype(str), found.var[[]])


@functools.lru_cache(maxsize=1)
def model(name: str, data: str, seed: int, max_epochs: int | None):
    """Return a trained model."""
    import scvi
    from _training import QUIET, prepare

    from sccountsdiff import CountsDiff

    prepare(seed)
    adata = cells(data).copy()
    model_class = {"scvi": scvi.model.SCVI, "countsdiff": CountsDiff}[name]
    model_class.setup_anndata(adata, batch_key=BATCH)
    options = {"gene_likelihood": "nb"} if name == "scvi" else {}
    fitted = model_class(adata, **options)
    fitted.train(max_epochs=max_epochs, **QUIET)
    return fitted


def expression(name: str, data: str, seed: int, max_epochs: int | None, target: str | None) -> np.ndarray:
    """Return log1p(CP10k) of what a model expects, in a batch if one is named."""
    fitted = model(name, data, seed, max_epochs)
    values = fitted.get_normalized_expression(transform_batch=target, library_size=1e4, return_numpy=True)
    return np.log1p(values)


def mean_shift(data: str, target: str) -> np.ndarray:
    """Return log1p(CP10k) of the counts, moved by the difference of means."""
    adata = cells(data)
    values = metrics.log1p_cp10k(adata.X)
    batch = adata.obs[BATCH].to_numpy()
    goal = values[batch == target].mean(axis=0)
    for source in np.unique(batch):
        values[batch == source] += goal - values[batch == source].mean(axis=0)
    return np.maximum(values, 0)


def pooled(log_cells: np.ndarray) -> np.ndarray:
    """Return log1p(CP10k) of the sum of some cells, each at 10,000 molecules."""
    total = np.expm1(log_cells).sum(axis=0)
    return np.log1p(1e4 * total / total.sum())


def profile_mse(adata: ad.AnnData, translated: np.ndarray, target: str) -> float:
    """Return the mean over types and sources of the mean squared difference of pooled profiles."""
    real, errors = metrics.log1p_cp10k(adata.X), []
    for _, of_type in adata.obs.groupby(TYPE, observed=True).indices.items():
        batch = adata.obs[BATCH].to_numpy()[of_type]
        there = of_type[batch == target]
        for source in np.unique(batch[batch != target]):
            moved = of_type[batch == source]
            if min(len(there), len(moved)) >= MIN_CELLS:
                errors.append(np.mean((pooled(translated[moved]) - pooled(real[there])) ** 2))
    return float(np.mean(errors))


def real_half(adata: ad.AnnData, seed: int) -> float:
    """Return the floor of ``profile_mse``: halves of the cells of each type and chemistry."""
    real, rng, errors = metrics.log1p_cp10k(adata.X), np.random.default_rng(seed), []
    for rows in adata.obs.groupby([TYPE, BATCH], observed=True).indices.values():
        if len(rows) >= 2 * MIN_CELLS:
            one, other = np.array_split(rng.permutation(rows), 2)
            errors.append(np.mean((pooled(real[one]) - pooled(real[other])) ** 2))
    return float(np.mean(errors))


def mixing(adata: ad.AnnData, translated: np.ndarray, seed: int) -> dict[str, float]:
    """Return what the neighbours of the cells are."""
    embedded = PCA(20, random_state=seed).fit_transform(translated)
    near = NearestNeighbors(n_neighbors=N_NEIGHBOURS + 1).fit(embedded).kneighbors(embedded, return_distance=False)
    batch, kind = (adata.obs[key].to_numpy() for key in (BATCH, TYPE))
    share = {name: np.mean(batch == name) for name in np.unique(batch)}
    own = [np.mean(batch[near[batch == name, 1:]] == name) / share[name] for name in share]
    return {"own_batch": float(np.mean(own)), "own_type": float(np.mean(kind[near[:, 1:]] == kind[:, None]))}


METHODS: dict[str, Callable[[str, int, int | None, str], np.ndarray]] = {
    "raw": lambda data, seed, max_epochs, target: metrics.log1p_cp10k(cells(data).X),
    "mean_shift": lambda data, seed, max_epochs, target: mean_shift(data, target),
    "untranslated": lambda data, seed, max_epochs, target: expression("countsdiff", data, seed, max_epochs, None),
    "countsdiff": lambda data, seed, max_epochs, target: expression("countsdiff", data, seed, max_epochs, target),
    "scvi": lambda data, seed, max_epochs, target: expression("scvi", data, seed, max_epochs, target),
}


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, ("real_half", *METHODS), DATASETS).parse_args()
    record = Record(options.results / "translation.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        adata = cells(data)
        if method == "real_half":
            return {"profile_mse": real_half(adata, seed)}
        found = []
        for target in np.unique(adata.obs[BATCH]):
            translated = METHODS[method](data, seed, options.max_epochs, target)
            found.append({"profile_mse": profile_mse(adata, translated, target)} | mixing(adata, translated, seed))
        return {score: float(np.mean([one[score] for one in found])) for score in SCORES}

    if not options.table:
        run(record, options, job)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
