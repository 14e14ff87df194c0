"""CountsDiff as the benchmarks run it: the public class with default settings."""

from __future__ import annotations

import time

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from _training import QUIET, prepare

from sccountsdiff import CountsDiff
from sccountsdiff.conditioning import LIBRARY_SIZE


def fit(
    counts: sp.csr_matrix,
    seed: int,
    max_epochs: int | None = None,
    train: dict[str, object] | None = None,
    **settings: object,
) -> tuple[CountsDiff, float]:
    """Train on raw counts of shape ``(n_cells, n_genes)``; return the model and the training seconds.

    ``settings`` go to the constructor and ``train`` to :meth:`CountsDiff.train`; both are empty but for ablations.
    """
    prepare(seed)
    adata = ad.AnnData(counts.astype(np.float32))
    CountsDiff.setup_anndata(adata)
    model = CountsDiff(adata, **settings)
    start = time.perf_counter()
    model.train(max_epochs=max_epochs, **QUIET, **(train or {}))
    return model, time.perf_counter() - start


def bound(model: CountsDiff, counts: sp.csr_matrix, n_samples: int = 200) -> tuple[float, float]:
    """Return the mean upper bound on ``-log p(x | library size)`` of new cells in nats, and its Monte-Carlo error."""
    mean, error = model.get_elbo(ad.AnnData(counts.astype(np.float32)), n_samples=n_samples)
    return mean, error


def expected_counts(model: CountsDiff) -> np.ndarray:
    """Return expected counts of the training cells at their own depth, shape ``(n_cells, n_genes)``."""
    values = model.get_normalized_expression(library_size="latent", return_numpy=True)
    return np.asarray(values, dtype=np.float64)


def predictive(model: CountsDiff, counts: sp.csr_matrix, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and size of the negative binomials that the model predicts for cells with hidden entries.

    Both have shape ``(n_cells, n_genes)``. What :meth:`CountsDiff.impute` returns are the means and quantiles of these
    laws; a PIT needs the laws themselves.
    """
    means, sizes = [], []
    for rows in np.array_split(np.arange(counts.shape[0]), max(1, counts.shape[0] // 256)):
        shown = torch.as_tensor(np.where(hidden[rows], 0, counts[rows].toarray()), dtype=torch.float32)
        alpha = torch.as_tensor(~hidden[rows], dtype=torch.float32)
        library = shown.sum(-1).masked_fill((alpha == 0).any(-1), torch.nan)
        with torch.inference_mode():
            posterior = model.module.denoiser(shown, alpha, {LIBRARY_SIZE: library})
        means.append(posterior.rate.double().numpy())
        variance = posterior.rate_variance.double().numpy()
        sizes.append(means[-1] ** 2 / np.maximum(variance, 1e-300))
    return np.concatenate(means), np.concatenate(sizes)
