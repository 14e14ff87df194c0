"""CountsDiff as the benchmarks run it: the public class with default settings."""

from __future__ import annotations

import time

import anndata as ad
import numpy as np
import scipy.sparse as sp
from _training import QUIET, prepare

from sccountsdiff import CountsDiff


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
