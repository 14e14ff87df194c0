"""scVI as the benchmarks run it: defaults of scvi-tools, negative-binomial likelihood, observed library size.

Two settings of the stopping rule; where scores are compared, the better one counts:

- ``early``: at most 400 epochs, scvi-tools' early stopping (patience 45 on the validation ELBO) with its default
  90/10 split of the training cells; scvi-tools keeps the last weights, not the best ones.
- ``fixed``: scvi-tools' heuristic number of epochs (400 up to 20,000 cells) on every training cell.
"""

from __future__ import annotations

import time
import warnings

import anndata as ad
import numpy as np
import scipy.sparse as sp
import scvi
import torch
from _training import QUIET, prepare

STOPPING = {
    "early": {"early_stopping": True},
    "fixed": {"train_size": 1.0},
}


def fit(
    counts: sp.csr_matrix,
    stopping: str,
    seed: int,
    max_epochs: int | None = None,
    train: dict[str, object] | None = None,
    labels: np.ndarray | None = None,
) -> tuple[scvi.model.SCVI, float]:
    """Train scVI on raw counts of shape ``(n_cells, n_genes)``; return the model and the training seconds.

    ``train`` goes to :meth:`scvi.model.SCVI.train`. Labels of the cells become their batch: what the decoder is told.
    """
    prepare(seed)
    adata = ad.AnnData(counts.astype(np.float32))
    if labels is not None:
        adata.obs["label"] = labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scvi.model.SCVI.setup_anndata(adata, batch_key=None if labels is None else "label")
        model = scvi.model.SCVI(adata, gene_likelihood="nb", use_observed_lib_size=True)
        start = time.perf_counter()
        model.train(max_epochs=max_epochs, logger=False, **QUIET, **STOPPING[stopping], **(train or {}))
    model.module.eval()
    return model, time.perf_counter() - start


def negative_log_likelihood(model: scvi.model.SCVI, counts: sp.csr_matrix, n_samples: int = 200) -> np.ndarray:
    """Return importance-weighted ``-log p(x | library size)`` of new cells in nats, shape ``(n_cells,)``."""
    adata = ad.AnnData(counts.astype(np.float32))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        values = model.get_marginal_ll(adata, n_mc_samples=n_samples, return_mean=False, n_mc_samples_per_pass=10)
    return -torch.as_tensor(values).cpu().numpy()


def expected_counts(model: scvi.model.SCVI, n_samples: int = 25) -> np.ndarray:
    """Return expected counts of the training cells at their own depth, shape ``(n_cells, n_genes)``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = model.get_normalized_expression(
            library_size="latent", n_samples=n_samples, return_mean=True, return_numpy=True
        )
    return np.asarray(values, dtype=np.float64)


def posterior_cells(model: scvi.model.SCVI, seed: int) -> sp.csr_matrix:
    """Return one posterior-predictive draw of each training cell."""
    scvi.settings.seed = seed
    draw = model.posterior_predictive_sample(n_samples=1)
    return sp.csr_matrix(draw.to_scipy_sparse() if hasattr(draw, "to_scipy_sparse") else draw)


def prior_cells(model: scvi.model.SCVI, seed: int) -> sp.csr_matrix:
    """Return a cell of the prior for each training cell, with its batch and the library size of any in this batch."""
    torch.manual_seed(seed)
    totals = torch.as_tensor(model.adata.X.sum(axis=1).A1)
    batch = torch.as_tensor(model.adata_manager.get_from_registry("batch").astype(np.int64)).reshape(-1)
    drawn = torch.empty(len(totals), dtype=torch.long)
    for code in batch.unique():
        members = (batch == code).nonzero()[:, 0]
        drawn[members] = members[torch.randint(len(members), (len(members),))]
    library = totals[drawn].log()[:, None].float()
    z = torch.randn(len(totals), model.module.n_latent)
    with torch.no_grad():
        px = model.module.generative(z=z, library=library, batch_index=batch[:, None])["px"]
        return sp.csr_matrix(px.sample().numpy())


def predictive(
    model: scvi.model.SCVI, counts: sp.csr_matrix, n_samples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return means ``(n_samples, n_cells, n_genes)`` and dispersions ``(n_genes,)`` of negative binomials, new cells.

    Each sample is the decoder at one draw of the latent state, at the totals of the cells, which need not be integers.
    """
    torch.manual_seed(seed)
    x = torch.as_tensor(counts.toarray(), dtype=torch.float32)
    library, batch = x.sum(1, keepdim=True).log(), torch.zeros(len(x), 1)
    with torch.no_grad():
        law = model.module.inference(x, batch, n_samples=1)["qz"]
        means = [
            model.module.generative(z=law.sample(), library=library, batch_index=batch)["px"].mean.double().numpy()
            for _ in range(n_samples)
        ]
    return np.stack(means), model.module.px_r.exp().detach().double().numpy()
