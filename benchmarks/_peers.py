"""Peers under one contract: raw counts in, expected counts at the depth of the input out.

Each peer is a function ``(counts, seed) -> expected`` of CSR counts with shape ``(n_cells, n_genes)`` and no empty
cell. Multiply the result by ``(1 - f) / f`` to predict the molecules hidden from a fraction ``f``. None changes its
input, each is written from its paper or calls the authors' package, and each result has the row sums of the input
unless its name says "published". Where a method leaves a number open to the user, the variant named ``_tuned`` takes
the one with the best Poisson deviance in a molecular cross-validation of its own (90/10, inside the training data).
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np
import scipy.sparse as sp
from _data import split_molecules
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.utils.extmath import randomized_svd

from sccountsdiff.metrics import poisson_deviance

Array = np.ndarray
Peer = Callable[[sp.csr_matrix, int], Array]


def totals(counts: sp.csr_matrix) -> Array:
    """Return the library size of each cell as a column."""
    return np.asarray(counts.sum(axis=1), dtype=np.float64).reshape(-1, 1)


def to_depth(expected: Array, counts: sp.csr_matrix) -> Array:
    """Rescale each row to the library size of the cell."""
    return expected * (totals(counts) / np.maximum(expected.sum(axis=1, keepdims=True), 1e-300))


def gene_mean(counts: sp.csr_matrix, seed: int) -> Array:
    """Return library size times gene frequency: the null model without any difference between cells."""
    frequency = np.asarray(counts.sum(axis=0), dtype=np.float64).ravel() / counts.sum()
    return totals(counts) * frequency


def pca(counts: sp.csr_matrix, seed: int, rank: int) -> Array:
    """Truncated SVD of the square roots, clipped at 0 and squared back (Batson et al. 2019)."""
    u, s, v = randomized_svd(np.sqrt(counts.toarray()), rank, random_state=seed)
    return to_depth(np.clip((u * s) @ v, 0, None) ** 2, counts)


def magic(counts: sp.csr_matrix, seed: int, transform: str = "sqrt", t: int = 3) -> Array:
    """MAGIC (van Dijk et al. 2018) by the authors' package with its defaults, transform inverted."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        from magic import MAGIC

        scaled = sp.diags(1e4 / totals(counts).ravel()) @ counts
        forward, inverse = {"sqrt": (np.sqrt, np.square), "log": (np.log1p, np.expm1)}[transform]
        operator = MAGIC(t=t, verbose=False, random_state=seed, n_jobs=1, solver="exact")
        smooth = operator.fit_transform(forward(sp.csr_matrix(scaled)), genes="all_genes")
    smooth = smooth.toarray() if sp.issparse(smooth) else np.asarray(smooth, dtype=np.float64)
    return to_depth(inverse(np.clip(smooth, 0, None)), counts)


def alra_rank(values: Array, seed: int, largest: int = 100, noise_start: int = 80, threshold: float = 6) -> int:
    """Return the last singular value whose gap to the next is 6 SD above the gaps of the noise."""
    largest = min(largest, min(values.shape) - 1)
    gaps = -np.diff(randomized_svd(values, largest, n_iter=2, random_state=seed)[1])
    noise = gaps[min(noise_start, largest - 5) - 2 :]
    above = np.flatnonzero((gaps - noise.mean()) / noise.std(ddof=1) > threshold)
    return int(above.max()) + 1 if len(above) else 1


def moments_of_nonzero(values: Array) -> tuple[Array, Array]:
    """Return mean and SD of the non-zero entries of each gene; NaN where there are too few."""
    kept = np.where(values != 0, values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.nanmean(kept, axis=0), np.nanstd(kept, axis=0, ddof=1)


def alra_published(counts: sp.csr_matrix, seed: int) -> Array:
    """ALRA (Linderman et al. 2022) with its published settings, on log1p(CP10k), inverted to counts.

    Low rank, a threshold per gene at the magnitude of the 0.1 % quantile, mean and SD of the surviving entries
    matched to those of the observed non-zeros, observed entries restored. The total roughly doubles by design.
    """
    values = np.log1p(1e4 * counts.toarray() / totals(counts))
    u, s, v = randomized_svd(values, alra_rank(values, seed), n_iter=10, random_state=seed)
    low_rank = (u * s) @ v
    low_rank[low_rank <= np.abs(np.quantile(low_rank, 0.001, axis=0))] = 0
    support = low_rank != 0
    mean, sd = moments_of_nonzero(low_rank)
    target_mean, target_sd = moments_of_nonzero(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = target_sd / sd
        shift = target_mean - mean * scale
    usable = np.isfinite(scale) & np.isfinite(shift)
    low_rank[:, usable] = low_rank[:, usable] * scale[usable] + shift[usable]
    low_rank = np.where(support, np.maximum(low_rank, 0), 0)
    low_rank = np.where((values != 0) & (low_rank == 0), values, low_rank)
    return np.expm1(low_rank) / 1e4 * totals(counts)


def alra_rescaled(counts: sp.csr_matrix, seed: int) -> Array:
    """ALRA with rows brought back to the library size."""
    return to_depth(alra_published(counts, seed), counts)


def knn_smoothing(counts: sp.csr_matrix, seed: int, k: int = 10, n_pcs: int = 10, dither: float = 0.03) -> Array:
    """kNN-smoothing 2 (Wagner et al. 2018), written from the paper: sums over neighbours in doubling steps.

    Each step normalises to the median size, takes the Freeman-Tukey transform and 10 dithered PCs, and sums the raw
    counts of the nearest 2, 4, ... ``k`` cells.
    """
    raw, smooth = counts.toarray().astype(np.float64), counts.toarray().astype(np.float64)
    rng = np.random.default_rng(seed)
    k = min(k, len(raw))
    for step in range(1, int(np.ceil(np.log2(k))) + 1):
        size = smooth.sum(axis=1, keepdims=True)
        scaled = smooth * (np.median(size) / np.maximum(size, 1e-12))  # a cell may have nothing left to see
        pcs = PCA(min(n_pcs, len(raw) - 1), svd_solver="randomized", random_state=seed)
        scores = pcs.fit_transform(np.sqrt(scaled) + np.sqrt(scaled + 1))
        scores += (rng.random(scores.shape) - 0.5) * np.ptp(scores, axis=0) * dither
        nearest = np.argsort(pairwise_distances(scores), axis=1, kind="stable")[:, : min(2**step, k)]
        ends = np.arange(0, nearest.size + 1, nearest.shape[1])
        smooth = sp.csr_matrix((np.ones(nearest.size), nearest.ravel(), ends), shape=(len(raw), len(raw))) @ raw
    return to_depth(smooth, counts)


def choose(candidates: Sequence[Peer], counts: sp.csr_matrix, seed: int) -> Peer:
    """Return the candidate with the best deviance in a molecular cross-validation (90/10) inside the counts."""
    seen, hidden = split_molecules(counts, seed + 1000)
    kept = seen.sum(axis=1).A1 > 0
    ratio = hidden.sum() / seen.sum()
    losses = [poisson_deviance(ratio * peer(seen[kept], seed), hidden[kept]) for peer in candidates]
    return candidates[int(np.argmin(losses))]


def tuned(candidates: Iterable[Peer]) -> Peer:
    """Return the peer that fits each candidate to 90 % of the molecules and runs the best of them on all."""
    candidates = tuple(candidates)
    return lambda counts, seed: choose(candidates, counts, seed)(counts, seed)


def scvi(counts: sp.csr_matrix, seed: int, stopping: str = "early", max_epochs: int | None = None) -> Array:
    """scVI, negative binomial; see ``_scvi.py`` for the settings."""
    from _scvi import expected_counts, fit

    return expected_counts(fit(counts, stopping, seed, max_epochs)[0])


PEERS: dict[str, Peer] = {
    "gene_mean": gene_mean,
    "pca_tuned": tuned(partial(pca, rank=rank) for rank in (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50)),
    "magic_sqrt": magic,
    "magic_log": partial(magic, transform="log"),
    "magic_tuned": tuned(partial(magic, transform=space, t=t) for space in ("sqrt", "log") for t in (1, 2, 3, 5)),
    "alra_published": alra_published,
    "alra_rescaled": alra_rescaled,
    "knn_smoothing": knn_smoothing,
    "knn_tuned": tuned(partial(knn_smoothing, k=k) for k in (4, 8, 16, 32, 64)),
    "scvi_early": partial(scvi, stopping="early"),
    "scvi_fixed": partial(scvi, stopping="fixed"),
}
