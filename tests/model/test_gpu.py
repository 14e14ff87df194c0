"""Models on a GPU: trained there, the same numbers as on a CPU, the same draws with the same seed."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scvi
import torch

from sccountsdiff import DCM, CountsDiff
from sccountsdiff.model import RePaint

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

GPU = {"accelerator": "gpu", "devices": 1}


@pytest.fixture(scope="module")
def on_gpu(make_adata, quick_train):
    """A model trained on the GPU; its data must not be changed."""
    scvi.settings.seed = 0
    data = make_adata()
    CountsDiff.setup_anndata(data, layer="counts", labels_key="cell_type", batch_key="batch")
    return quick_train(CountsDiff(data, n_hidden=32), 80, **GPU)


@pytest.fixture(scope="module")
def on_cpu(on_gpu, tmp_path_factory):
    """The same model on the CPU."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    on_gpu.save(folder)
    return CountsDiff.load(folder, adata=on_gpu.adata, accelerator="cpu")


def test_it_stays_on_the_gpu(on_gpu):
    assert on_gpu.device.type == "cuda"
    assert {parameter.device.type for parameter in on_gpu.module.parameters()} == {"cuda"}


def test_training_reaches_what_it_reaches_on_a_cpu(on_gpu, make_adata, quick_train):
    scvi.settings.seed = 0
    data = make_adata()
    CountsDiff.setup_anndata(data, layer="counts", labels_key="cell_type", batch_key="batch")
    other = quick_train(CountsDiff(data, n_hidden=32), 80)
    bounds = [np.asarray(model.history["elbo_validation"]).min() for model in (on_gpu, other)]
    assert bounds[0] == pytest.approx(bounds[1], rel=0.02)


METHODS = {
    "expression": lambda m: m.get_normalized_expression(return_numpy=True),
    "translated": lambda m: m.get_normalized_expression(return_numpy=True, transform_batch="first"),
    "latent": lambda m: m.get_latent_representation(),
    "imputed": lambda m: m.impute(layer_added=None),
    "variance": lambda m: m.impute(return_variance=True, layer_added=None)[1],
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_what_is_not_drawn_agrees_with_a_cpu(on_gpu, on_cpu, method):
    np.testing.assert_allclose(method(on_gpu), method(on_cpu), rtol=2e-3, atol=1e-4)


def test_bounds_agree_with_a_cpu(on_gpu, on_cpu):
    bounds = [
        np.mean([np.mean(model.get_elbo(return_mean=False, seed=s)) for s in range(4)]) for model in (on_gpu, on_cpu)
    ]
    assert bounds[0] == pytest.approx(bounds[1], rel=0.01)


EVERY_OTHER = np.arange(30) % 2 == np.arange(240)[:, None] % 2
DRAWS = {
    "generate": lambda m, s: m.generate({"cell_type": "B cell"}, n_cells=2000, n_steps=5, seed=s).X.toarray(),
    "guided": lambda m, s: m.generate(
        {"cell_type": "B cell"}, n_cells=2000, n_steps=5, guidance=2.0, seed=s
    ).X.toarray(),
    "attrition": lambda m, s: m.generate(n_cells=2000, n_steps=5, attrition=0.5, seed=s).X.toarray(),
    "empirical": lambda m, s: m.generate(n_cells=2000, n_steps=4, start="empirical", seed=s).X.toarray(),
    "moved": lambda m, s: m.generate({"cell_type": "B cell"}, from_adata=m.adata, n_steps=4, seed=s).X.toarray(),
    "imputed": lambda m, s: m.impute(n_samples=1, seed=s, layer_added=None)[0].toarray(),
    "repaint": lambda m, s: m.impute(
        method=RePaint(n_steps=4), mask=EVERY_OTHER, n_samples=1, seed=s, layer_added=None
    )[0].toarray(),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_draws_repeat_and_have_the_mean_of_a_cpu(on_gpu, on_cpu, draw):
    first = draw(on_gpu, 1)
    assert first.dtype == np.int32
    np.testing.assert_array_equal(first, draw(on_gpu, 1))
    other = draw(on_cpu, 1)
    error = np.sqrt((first.var(0) + other.var(0)) / len(first)) + 1e-9
    assert (np.abs(first.mean(0) - other.mean(0)) / error).max() < 4.5


def test_results_in_a_file_are_those_in_memory(on_gpu, tmp_path):
    on_gpu.generate(n_cells=300, n_steps=3, batch_size=64, seed=3, out=tmp_path / "cells.zarr")
    there = ad.read_zarr(tmp_path / "cells.zarr").X.toarray()
    np.testing.assert_array_equal(there, on_gpu.generate(n_cells=300, n_steps=3, batch_size=64, seed=3).X.toarray())


WAYS = {
    "bf16": {"precision": "bf16-mixed"},
    "sparse": {"load_sparse_tensor": True},
    "compiled": {"plan_kwargs": {"compile": True}},
}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_ways_to_train(model, quick_train, options):
    quick_train(model, 3, **GPU, **options)
    assert np.isfinite(np.asarray(model.history["elbo_validation"])).all()
    assert model.generate(n_cells=5, n_steps=2, seed=0).n_obs == 5


def test_a_compiled_network_draws_the_same_law(on_gpu, on_cpu, tmp_path):
    on_gpu.save(tmp_path / "model")
    compiled = CountsDiff.load(tmp_path / "model", adata=on_gpu.adata)
    compiled.compile()
    first, other = DRAWS["generate"](compiled, 1), DRAWS["generate"](on_cpu, 1)
    error = np.sqrt((first.var(0) + other.var(0)) / len(first))
    assert (np.abs(first.mean(0) - other.mean(0)) / error).max() < 4.5


def test_masked_diffusion(make_adata, quick_train):
    data = make_adata()
    DCM.setup_anndata(data, layer="counts", labels_key="cell_type")
    model = quick_train(DCM(data, n_hidden=16), 2, **GPU)
    assert model.generate(n_cells=8, n_steps=3, seed=0).n_obs == 8
    assert np.isfinite(np.asarray(model.impute(n_samples=2, return_mean=True, layer_added=None))).all()
