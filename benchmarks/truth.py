"""Is what comes out true? Three data sets in which the truth is known from outside the counts.

- ``zeisel_ercc``: 57 spike-ins, of which the molecules put into every cell are known, among the genes of 1,464 neurons.
  ``correlation``: over spike-ins, of log expected counts (half a molecule added) with log molecules, mean over cells.
  ``spread``: standard deviation over cells of the log share of a spike-in among spike-ins, mean over the more abundant
  half; 0 in truth. Differences between cells that an imputation makes up end up here. ``raw`` is no imputation.
- ``scmix_rnamix``: RNA of three cell lines in known mixtures, thinned to a tenth of its molecules. ``correlation``: over
  genes, of log1p(CP10k) expected from the tenth with that of all other cells of the same mixture and protocol at full
  depth, both as deviations from the mean over mixtures of the protocol. ``poisson_deviance``: of the other nine tenths.
  ``calibration``: slope of hidden counts on expected ones through the origin, gene by gene, weighted by expectation; 1
  where nothing is inflated.
- ``osmfish_cortex``: 33 genes counted by smFISH, each hidden in turn in held-out cells. ``correlation``: Spearman, over
  cells, mean over genes. ``poisson_deviance``, ``crps`` and ``coverage90`` as in ``imputation.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
from _data import MIN_CELLS, cell_split, choose_genes, read, split_molecules
from _peers import PEERS
from _record import Record, arguments, run
from imputation import METHODS as IMPUTERS
from imputation import Question, scores
from mcv import countsdiff
from scipy.stats import spearmanr

from sccountsdiff import metrics

MATRIX_METHODS = ("gene_mean", "pca_tuned", "magic_tuned", "alra_published", "knn_tuned", "scvi_early")
METHODS = ("raw", *MATRIX_METHODS, "countsdiff", *(name for name in IMPUTERS if name not in (*PEERS, "countsdiff")))
SCORES = ("correlation", "spread", "poisson_deviance", "calibration", "crps", "coverage90")


def expected(method: str, counts: sp.csr_matrix, seed: int, max_epochs: int | None) -> np.ndarray:
    """Return expected counts of all cells at their own depth."""
    limit = {} if max_epochs is None else {"max_epochs": max_epochs}
    if method == "raw":
        return counts.toarray().astype(np.float64)
    if method == "countsdiff":
        return countsdiff(counts, seed, **limit)
    return PEERS[method](counts, seed, **(limit if method.startswith("scvi") else {}))


def row_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean over rows of the Pearson correlation; constant rows count as 0."""
    one, other = (values - values.mean(axis=1, keepdims=True) for values in (one, other))
    length = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    return float(np.mean((one * other).sum(axis=1) / np.maximum(length, 1e-12)))


def deviations(counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return log1p(CP10k) minus its mean over the cells of the same group."""
    values = metrics.log1p_cp10k(counts)
    for group in np.unique(groups):
        values[groups == group] -= values[groups == group].mean(axis=0)
    return values


def spike_ins(method: str, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Score expected spike-ins against the molecules that were put in."""
    adata = read("zeisel_ercc")
    molecules = np.asarray(adata.uns["ercc_true_molecules"], dtype=np.float64).ravel()
    added = sp.csr_matrix(np.asarray(adata.obsm["ercc_counts"], dtype=np.float32))
    kept = added.getnnz(axis=0) >= MIN_CELLS
    genes = sp.csr_matrix(adata.X)
    genes = genes[:, choose_genes(genes)]
    counts = sp.hstack([genes, added[:, kept]], format="csr")
    found = expected(method, counts, seed, max_epochs)[:, genes.shape[1] :]
    padded = found + 0.5  # half a molecule, so that zeros have a logarithm
    logged = np.log(padded / padded.sum(axis=1, keepdims=True))
    truth = np.broadcast_to(np.log(molecules[kept]), found.shape)
    abundant = molecules[kept] >= np.median(molecules[kept])
    return {
        "correlation": row_correlation(logged, truth),
        "spread": float(logged[:, abundant].std(axis=0).mean()),
    }


def mixtures(method: str, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Score a tenth of the molecules against the mixture and against the other nine tenths."""
    adata = read("scmix_rnamix")
    seen, hidden = split_molecules(sp.csr_matrix(adata.X), seed, fraction=0.1)
    genes = choose_genes(seen)
    seen, hidden = seen[:, genes], hidden[:, genes]
    found = expected(method, seen, seed, max_epochs)
    protocol = adata.obs["batch"].astype(str)
    same = adata.obs["mixture"].astype(str) + protocol
    alike = (same.to_numpy()[:, None] == same.to_numpy()).astype(float)
    np.fill_diagonal(alike, 0)
    profile = alike @ (seen + hidden).toarray()
    predicted = found * (hidden.sum() / seen.sum())
    by_gene = predicted.sum(axis=0) > 0
    square = (predicted**2).sum(axis=0)[by_gene]
    slope = (predicted * hidden.toarray()).sum(axis=0)[by_gene] / square
    return {
        "correlation": row_correlation(*(deviations(values, protocol.to_numpy()) for values in (found, profile))),
        "poisson_deviance": metrics.poisson_deviance(predicted, hidden),
        "calibration": float(np.average(slope, weights=predicted.sum(axis=0)[by_gene])),
    }


def panel(method: str, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Hide each gene in turn in held-out cells."""
    train, test = cell_split("osmfish_cortex", seed)
    parts, correlations = [], []
    for gene in range(test.n_vars):
        hidden = np.zeros(test.shape, dtype=bool)
        hidden[:, gene] = True
        on = Question(train, test, hidden, "osmfish_cortex", seed, max_epochs)
        found = IMPUTERS[method](on)
        parts.append(scores(found, on.truth))
        correlations.append(spearmanr(found.mean, on.truth).statistic if np.ptp(found.mean) > 0 else 0.0)
    mean = {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}
    return {"correlation": float(np.mean(correlations))} | mean


QUESTIONS: dict[str, Callable[..., dict[str, float]]] = {
    "zeisel_ercc": spike_ins,
    "scmix_rnamix": mixtures,
    "osmfish_cortex": panel,
}


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, QUESTIONS).parse_args()
    record = Record(options.results / "truth.csv")
    offered = {
        "zeisel_ercc": ("raw", *MATRIX_METHODS, "countsdiff"),
        "scmix_rnamix": ("raw", *MATRIX_METHODS, "countsdiff"),
        "osmfish_cortex": tuple(name for name in IMPUTERS if not name.startswith("repaint")),
    }

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        return QUESTIONS[data](method, seed, options.max_epochs)

    wanted = options.methods
    for data in [] if options.table else options.data:
        options.data, options.methods = [data], [name for name in wanted if name in offered[data]]
        run(record, options, job)
    for score in SCORES:
        print(f"\n{score}\n\n{record.table(score)}")


if __name__ == "__main__":
    main()
