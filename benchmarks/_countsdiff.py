"""CountsDiff as the benchmarks run it: the public class with default settings."""

from __future__ import annotations

import time
from typing import NamedTuple

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


class Predictive(NamedTuple):
    """What the model says of the hidden entries of some cells, one after the other."""

    #: Means ``(n_hidden,)``.
    mean: np.ndarray
    #: Probability of less than what came, and of no more ``(n_hidden,)``.
    below: np.ndarray
    at: np.ndarray
    #: Draws, each entry by itself ``(n_draws, n_hidden)``.
    draws: np.ndarray


@torch.inference_mode()
def predictive(
    model: CountsDiff, counts: sp.csr_matrix, hidden: np.ndarray, seed: int, n_draws: int = 100
) -> Predictive:
    """Return the laws that the model predicts for hidden entries of cells.

    What :meth:`CountsDiff.impute` returns are the means and quantiles of these laws; PIT and CRPS need the laws
    themselves.
    """
    generator, parts = torch.Generator().manual_seed(seed), []
    for rows in np.array_split(np.arange(counts.shape[0]), max(1, counts.shape[0] // 128)):
        whole, of_hidden = torch.as_tensor(counts[rows].toarray(), dtype=torch.float32), torch.as_tensor(hidden[rows])
        shown, alpha = whole.masked_fill(of_hidden, 0), (~of_hidden).float()
        library = shown.sum(-1).masked_fill(of_hidden.any(-1), torch.nan)
        law = model.module.denoiser(shown, alpha, {LIBRARY_SIZE: library})
        below = torch.where(whole > 0, law.cdf((whole - 1).clamp_min(0)), 0.0)
        draws = [torch.poisson(law.draw_rate(generator), generator)[of_hidden] for _ in range(n_draws)]
        parts.append([*(values[of_hidden] for values in (law.rate, below, law.cdf(whole))), torch.stack(draws)])
    return Predictive(*(torch.cat(values, -1).double().numpy() for values in zip(*parts, strict=True)))
