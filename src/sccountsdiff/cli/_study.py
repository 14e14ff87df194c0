"""The quickstart as a study: train on some of the 700 PBMC, impute all of them, generate cells of two types."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData

from sccountsdiff import CountsDiff, datasets

LABELS = "cell_type"
GENERATED_TYPES = ("Dendritic", "CD19+ B")
TRAIN_SIZE, VALIDATION_SIZE = 0.75, 0.05
INTERVAL = (0.05, 0.95)


class Study(NamedTuple):
    """What the quickstart makes.

    Attributes
    ----------
    adata
        All real cells; ``.obs["split"]`` says which of them are ``"train"``, ``"validation"`` or ``"held out"``.
    model
        The model trained on the training cells.
    generated
        Cells of :data:`GENERATED_TYPES`.
    seed
        Seed of everything.
    """

    adata: AnnData
    model: CountsDiff
    generated: AnnData
    seed: int

    def cells(self, split: str, types: tuple[str, ...] | None = None) -> AnnData:
        """Copy of the real cells of a split, of all types or some."""
        chosen = self.adata.obs["split"] == split
        if types is not None:
            chosen &= self.adata.obs[LABELS].isin(types)
        return self.adata[chosen].copy()


def train(seed: int, max_epochs: int | None) -> tuple[AnnData, CountsDiff]:
    """Train on three quarters of the cells; 5 % decide when to stop, 20 % are held out for the scores."""
    import scvi

    scvi.settings.seed = seed
    adata = datasets.pbmc68k()
    CountsDiff.setup_anndata(adata, layer="counts", labels_key=LABELS)
    model = CountsDiff(adata)
    model.train(max_epochs=max_epochs, train_size=TRAIN_SIZE, validation_size=VALIDATION_SIZE)
    split = np.full(adata.n_obs, "held out", dtype=object)
    split[model.train_indices] = "train"
    split[model.validation_indices] = "validation"
    adata.obs["split"] = pd.Categorical(split)
    return adata, model


def impute(adata: AnnData, model: CountsDiff) -> None:
    """Add expected counts and the ends of their 90 % interval as layers, and the embedding to ``.obsm``."""
    model.impute(adata, silent=False)
    model.impute(adata, quantiles=INTERVAL)
    adata.obsm["X_sccountsdiff"] = model.get_latent_representation(adata)


def generate(adata: AnnData, model: CountsDiff, seed: int) -> AnnData:
    """As many cells of each of the two types as there are real ones."""
    n_cells = [int((adata.obs[LABELS] == name).sum()) for name in GENERATED_TYPES]
    return model.generate([{LABELS: name} for name in GENERATED_TYPES], n_cells, seed=seed, silent=False)
