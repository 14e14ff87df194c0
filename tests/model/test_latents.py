"""Measurements that are no counts, through count latents and a model of these, and back."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi

from sccountsdiff import CountsDiff
from sccountsdiff.data import from_counts, to_counts

SCALE = 20.0


def intensities(n_cells: int = 200, n_proteins: int = 12) -> tuple[ad.AnnData, np.ndarray]:
    """Continuous intensities of two types of cells that differ in half of the proteins, and what they would be on average."""
    rng = np.random.default_rng(0)
    is_b = rng.random(n_cells) < 0.5
    mean = np.full((n_cells, n_proteins), 0.4)
    mean[is_b, : n_proteins // 2] = mean[~is_b, n_proteins // 2 :] = 2.0
    obs = pd.DataFrame({"cell_type": np.where(is_b, "B cell", "T cell")}, index=[f"cell_{i}" for i in range(n_cells)])
    return ad.AnnData(mean * rng.gamma(6.0, 1 / 6, mean.shape), obs=obs), mean


def test_intensities_are_generated_and_filled_in_in_their_own_unit(quick_train):
    data, mean = intensities()
    data.layers["latents"] = to_counts(data.X, SCALE, seed=0)
    CountsDiff.setup_anndata(data, layer="latents", labels_key="cell_type")
    scvi.settings.seed = 0
    model = quick_train(CountsDiff(data, n_hidden=16), 30, plan_kwargs={"lr": 3e-3})

    cells = model.generate({"cell_type": "B cell"}, n_cells=100, seed=0)
    drawn = from_counts(cells.X, SCALE).toarray()
    is_b = (data.obs["cell_type"] == "B cell").to_numpy()
    for half in (slice(6), slice(6, 12)):  # 2 and .4, after a few dozen steps
        assert drawn[:, half].mean() == pytest.approx(data.X[is_b, half].mean(), rel=0.4)

    hidden = np.random.default_rng(1).random(data.shape) < 0.3
    filled = from_counts(model.impute(mask=hidden, layer_added=None).to_numpy(), SCALE)
    baseline = np.broadcast_to(data.X.mean(0), data.shape)
    assert np.square(filled - mean)[hidden].mean() < 0.3 * np.square(baseline - mean)[hidden].mean()

    expected = from_counts(model.get_normalized_expression(library_size="latent", return_numpy=True), SCALE)
    latents = from_counts(data.layers["latents"], SCALE)
    assert np.square(expected - data.X).mean() < np.square(latents - data.X).mean()
