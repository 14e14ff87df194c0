"""scVI as a forecaster of conditions that were never measured, in the two ways that it is used for that.

- ``ConditionalSCVI``: the decoder is told the context (categorical covariate) and which perturbations a cell got (one
  0/1 covariate each, so that a double has two). The posterior of control cells is decoded under the other condition:
  posterior-predictive counts. scVI's encoder sees counts only.
- ``ShiftedSCVI``: scGen's rule (Lotfollahi et al. 2019) on scVI: a fit that is told nothing, the latent posterior of
  control cells moved by the mean shift of the perturbation over the other contexts, and counts drawn from there. Each
  context counts the same, which is what scGen's balancing does; perturbations given together add up.

Perturbations without a training cell add nothing. Negative-binomial likelihood, observed library sizes, early stopping
within a cap on epochs that keeps a fit to two or three minutes on one core.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod

import anndata as ad
import numpy as np
import scipy.sparse as sp
import scvi
import torch
from _studies import CONTEXT, CONTROL, MIN_NEAREST, PERTURBATION, Asked
from _training import QUIET, prepare

MAX_EPOCHS = 200
MAX_CELLS_SEEN = 1_600_000


class Forecaster(ABC):
    """scVI fitted to the training cells of a study.

    Parameters
    ----------
    train
        Counts with ``obs`` columns ``context`` and ``perturbation``.
    seed
        Seed of the fit and of the draws.
    max_epochs
        Cap of a smoke test.
    """

    def __init__(self, train: ad.AnnData, seed: int, max_epochs: int | None) -> None:
        self.train, self.seed = self.told(train), seed
        self.measured = {part for text in set(train.obs[PERTURBATION]) for part in text.split("+")} - {CONTROL}
        cap = min(MAX_EPOCHS, MAX_CELLS_SEEN // train.n_obs)
        prepare(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.model = self.unfitted()
            self.model.train(max_epochs=max_epochs or cap, early_stopping=True, logger=False, **QUIET)
        self.model.module.eval()

    @abstractmethod
    def told(self, train: ad.AnnData) -> ad.AnnData:
        """Return a copy of the training cells with the columns that the model is to see."""

    @abstractmethod
    def unfitted(self) -> scvi.model.SCVI:
        """Return the model of ``self.train``."""

    @abstractmethod
    def draw(self, cells: ad.AnnData, asked: Asked) -> sp.csr_matrix:
        """Return counts of control cells under another condition."""

    def predict(self, asked: Asked, n_cells: int) -> sp.csr_matrix:
        """Return about ``n_cells`` cells of a condition: each control cell of the context as often as it takes."""
        prepare(self.seed)
        controls = np.flatnonzero(self.rows(asked[0], CONTROL))
        rows = np.tile(controls, max(1, round(n_cells / len(controls))))
        obs = self.train.obs.iloc[rows].set_index(np.arange(len(rows)).astype(str))
        return self.draw(ad.AnnData(self.train.X[rows], obs, self.train.var), asked)

    def rows(self, context: str, perturbation: str) -> np.ndarray:
        """Return which training cells have a condition."""
        obs = self.train.obs
        return ((obs[CONTEXT] == context) & (obs[PERTURBATION] == perturbation)).to_numpy()


class ConditionalSCVI(Forecaster):
    """Control cells decoded under the other condition."""

    def told(self, train: ad.AnnData) -> ad.AnnData:
        """Add a 0/1 column for each perturbation."""
        told = train.copy()
        parts = told.obs[PERTURBATION].astype(str).str.get_dummies("+").drop(columns=CONTROL).astype(float)
        self.columns = {name: f"given_{name}" for name in parts.columns}
        told.obs = told.obs.join(parts.rename(columns=self.columns))
        return told

    def unfitted(self) -> scvi.model.SCVI:
        """Tell context and perturbations."""
        scvi.model.SCVI.setup_anndata(
            self.train, categorical_covariate_keys=[CONTEXT], continuous_covariate_keys=list(self.columns.values())
        )
        return scvi.model.SCVI(self.train, gene_likelihood="nb", use_observed_lib_size=True)

    def draw(self, cells: ad.AnnData, asked: Asked) -> sp.csr_matrix:
        """Draw from the posterior predictive with the columns replaced."""
        for name in self.measured & set(asked[1].split("+")):
            cells.obs[self.columns[name]] = 1.0
        counts = self.model.posterior_predictive_sample(cells)
        return sp.csr_matrix(counts.to_scipy_sparse())


class ShiftedSCVI(Forecaster):
    """Control cells moved in latent space."""

    def told(self, train: ad.AnnData) -> ad.AnnData:
        """Add nothing."""
        return train.copy()

    def unfitted(self) -> scvi.model.SCVI:
        """Tell nothing."""
        scvi.model.SCVI.setup_anndata(self.train)
        return scvi.model.SCVI(self.train, gene_likelihood="nb", use_observed_lib_size=True)

    def draw(self, cells: ad.AnnData, asked: Asked) -> sp.csr_matrix:
        """Move the latent draws of the cells and draw counts at the cells' own library sizes."""
        latent = self.model.get_latent_representation()
        shift = sum((self.shift(latent, part, asked[0]) for part in asked[1].split("+")), np.zeros(latent.shape[1]))
        moved = torch.as_tensor(self.model.get_latent_representation(cells, give_mean=False) + shift).float()
        library = torch.as_tensor(cells.X.sum(1)).float().reshape(-1, 1).log()
        with torch.no_grad():
            law = self.model.module.generative(z=moved, library=library, batch_index=torch.zeros(len(moved), 1))["px"]
            return sp.csr_matrix(law.sample().numpy())

    def shift(self, latent: np.ndarray, perturbation: str, context: str) -> np.ndarray:
        """Return the mean over contexts of perturbed minus control, the context itself left out if there are others."""
        found = {}
        for other in self.train.obs[CONTEXT].unique():
            given, control = self.rows(other, perturbation), self.rows(other, CONTROL)
            if min(given.sum(), control.sum()) >= MIN_NEAREST:
                found[other] = latent[given].mean(0) - latent[control].mean(0)
        others = [shift for other, shift in found.items() if other != context] or list(found.values())
        return np.mean(others, axis=0) if others else np.zeros(latent.shape[1])


FORECASTERS: dict[str, type[Forecaster]] = {"scvi_conditional": ConditionalSCVI, "scvi_shift": ShiftedSCVI}
