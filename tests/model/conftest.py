"""A tiny data set with structure, and one model trained on it."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi
import torch

from sccountsdiff import CountsDiff

N_CELLS, N_GENES = 240, 30
SETUP = {
    "layer": "counts",
    "batch_key": "batch",
    "labels_key": "cell_type",
    "categorical_covariate_keys": ["donor"],
    "continuous_covariate_keys": ["dose"],
    "embedding_keys": ["drug"],
}


def make_adata(seed: int = 0, n_cells: int = N_CELLS) -> ad.AnnData:
    """Three cell types with genes of their own, two batches of different depth, integer donors that include 0."""
    rng = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "batch": rng.choice(["first", "second"], n_cells),
            "cell_type": rng.choice(["B cell", "T cell", "monocyte"], n_cells),
            "donor": rng.choice([0, 1, 7], n_cells),
            "dose": rng.normal(5, 2, n_cells),
        },
        index=[f"cell_{i}" for i in range(n_cells)],
    )
    profile = np.full((3, N_GENES), 1.0)
    for k in range(3):
        profile[k, 10 * k : 10 * (k + 1)] = 8.0
    share = (profile / profile.sum(1, keepdims=True))[pd.Categorical(obs["cell_type"]).codes]
    depth = np.where(obs["batch"] == "first", 60, 120) * rng.gamma(8, 1 / 8, n_cells)
    counts = sp.csr_matrix(rng.poisson(share * depth[:, None]).astype(np.float32))
    adata = ad.AnnData(
        counts.copy(),
        obs=obs,
        var=pd.DataFrame(index=[f"gene_{g}" for g in range(N_GENES)]),
        layers={"counts": counts},
        obsm={"drug": rng.normal(size=(4, 5)).astype(np.float32)[rng.integers(4, size=n_cells)]},
    )
    adata.X = np.log1p(counts.toarray())
    return adata


def quick_train(model: CountsDiff, max_epochs: int = 2, **kwargs) -> CountsDiff:
    """Train without noise on the terminal."""
    # Two epochs are a few steps: they need a larger rate than the default.
    options = {"accelerator": "cpu", "enable_progress_bar": False} | kwargs
    model.train(max_epochs, **options)
    return model


@pytest.fixture(name="make_adata", scope="session")
def _make_adata():
    """Maker of the tiny data set."""
    return make_adata


@pytest.fixture(name="quick_train", scope="session")
def _quick_train():
    """Quiet training."""
    return quick_train


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def adata() -> ad.AnnData:
    """A fresh copy of the tiny data set."""
    return make_adata()


@pytest.fixture
def setup_args() -> dict:
    """One condition of each kind."""
    return dict(SETUP)


@pytest.fixture
def model(adata) -> CountsDiff:
    """An untrained model of the counts, conditioned on the cell type."""
    CountsDiff.setup_anndata(adata, layer="counts", labels_key="cell_type")
    return CountsDiff(adata, n_hidden=16)


@pytest.fixture(scope="session")
def trained() -> CountsDiff:
    """A trained model; tests must not train it further or change its data."""
    torch.set_num_threads(1)
    scvi.settings.seed = 0
    data = make_adata()
    CountsDiff.setup_anndata(data, **SETUP)
    return quick_train(CountsDiff(data, n_hidden=32), 80)
