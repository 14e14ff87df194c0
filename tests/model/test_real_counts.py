"""The whole way on real UMI counts: better than the gene mean, calibrated, and alike when generated."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import scvi
from scipy.stats import poisson

from sccountsdiff import CountsDiff, datasets, metrics

N_GENES = 300


def shipped() -> ad.AnnData:
    """The 700 PBMC that come with scanpy."""
    return datasets.pbmc68k()


def from_folder(name: str):
    """A loader of a file in the data folder, which skips without it."""

    def load() -> ad.AnnData:
        path = Path(os.environ.get("SCCOUNTSDIFF_DATA", "")) / f"{name}.h5ad"
        if not os.environ.get("SCCOUNTSDIFF_DATA") or not path.exists():
            pytest.skip("needs the count data in the folder named by SCCOUNTSDIFF_DATA")
        return ad.read_h5ad(path)

    return load


DATA = [
    pytest.param(shipped, id="pbmc68k"),
    pytest.param(from_folder("kang_ifnb"), id="kang_ifnb", marks=pytest.mark.data),
    pytest.param(from_folder("zeisel_ercc"), id="zeisel_ercc", marks=[pytest.mark.data, pytest.mark.slow]),
]


@pytest.fixture(scope="module", params=DATA)
def halves(request):
    """A model of up to 600 cells, and 150 cells it has not seen."""
    counts = request.param()
    rows = np.random.default_rng(0).permutation(counts.n_obs)[:750]
    frequent = np.argsort(-np.asarray(counts.X.sum(0)).ravel())[:N_GENES]
    counts = ad.AnnData(counts.X[rows][:, frequent].copy())
    counts = counts[np.asarray(counts.X.sum(1)).ravel() > 0].copy()
    train, test = counts[150:].copy(), counts[:150].copy()
    scvi.settings.seed = 0
    CountsDiff.setup_anndata(train)
    model = CountsDiff(train)
    model.train(max_epochs=120, accelerator="cpu", enable_progress_bar=False, plan_kwargs={"lr": 2e-3})
    return model, train, test


def test_hidden_entries_are_imputed_better_than_by_the_gene_mean(halves):
    model, train, test = halves
    mask = np.random.default_rng(1).random(test.shape) < 0.5
    truth = test.X.toarray()
    size = np.where(mask, 0, truth).sum(1, keepdims=True)
    share = np.asarray(train.X.sum(0)).ravel() / train.X.sum()
    baseline = (size + 1) * share / ((~mask) @ share)[:, None]
    imputed = model.impute(test, mask=mask, layer_added=None).to_numpy()
    ours, theirs = (metrics.poisson_deviance(values[mask], truth[mask]) for values in (imputed, baseline))
    assert ours < 0.97 * theirs
    assert np.array_equal(imputed[~mask], truth[~mask])


def test_intervals_hold_what_they_promise(halves):
    model, _, test = halves
    mask = np.random.default_rng(2).random(test.shape) < 0.5
    low, high = model.impute(test, mask=mask, quantiles=[0.05, 0.95], layer_added=None)
    truth = test.X.toarray()[mask]
    held = ((low[mask] <= truth) & (truth <= high[mask])).mean()
    # Discrete intervals hold at least their level, up to the error of a model trained for seconds.
    assert held > 0.88


def test_the_bound_beats_independent_poisson_genes(halves):
    model, train, test = halves
    share = np.asarray(train.X.sum(0)).ravel() / train.X.sum()
    counts = test.X.toarray()
    mean = counts.sum(1, keepdims=True) * share
    assert model.get_elbo(test).nats < -poisson.logpmf(counts, np.maximum(mean, 1e-6)).sum(1).mean()


@pytest.mark.parametrize("start", ["zeros", "empirical"])
def test_generated_cells_are_as_deep_as_real_ones(halves, start):
    model, train, test = halves
    cells = model.generate(n_cells=train.n_obs, n_steps=10, start=start, seed=0)
    assert metrics.library_size_mean_ratio(train.X, cells.X) == pytest.approx(1, abs=0.05)
    assert metrics.library_size_sd_ratio(train.X, cells.X) == pytest.approx(1, abs=0.2)
    real_against_real = metrics.gene_correlation_agreement(test.X, train.X)
    assert metrics.gene_correlation_agreement(test.X, cells.X) > real_against_real - 0.1
