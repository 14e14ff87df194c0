"""A model survives the process it was trained in."""

from __future__ import annotations

import subprocess
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from sccountsdiff import CountsDiff


def test_loaded_models_say_the_same(trained, make_adata, tmp_path):
    trained.save(tmp_path / "model", save_anndata=True)
    expected = trained.get_normalized_expression(make_adata(4))
    for adata in (None, make_adata(4), False):
        loaded = CountsDiff.load(tmp_path / "model", adata=adata, accelerator="cpu")
        pd.testing.assert_frame_equal(loaded.get_normalized_expression(make_adata(4)), expected)
        pd.testing.assert_frame_equal(loaded.history["elbo_validation"], trained.history["elbo_validation"])
        assert len(loaded.population_) == len(trained.train_indices)


def test_a_new_process_loads_and_imputes(trained, make_adata, tmp_path):
    trained.save(tmp_path / "model")
    make_adata(4).write_h5ad(tmp_path / "cells.h5ad")
    script = f"""
import anndata, numpy
from sccountsdiff import CountsDiff
model = CountsDiff.load({str(tmp_path / "model")!r}, adata=False, accelerator="cpu")
cells = anndata.read_h5ad({str(tmp_path / "cells.h5ad")!r})
numpy.save({str(tmp_path / "imputed.npy")!r}, model.impute(cells, layer_added=None).to_numpy())
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    expected = trained.impute(make_adata(4), layer_added=None)
    np.testing.assert_allclose(np.load(tmp_path / "imputed.npy"), expected, rtol=1e-4)


def test_genes_in_another_order_are_refused_at_load(trained, make_adata, tmp_path):
    trained.save(tmp_path / "model")
    with pytest.warns(UserWarning, match="var_names"), pytest.raises(ValueError, match="another order"):
        CountsDiff.load(tmp_path / "model", adata=make_adata(4)[:, ::-1].copy(), accelerator="cpu")


def test_a_loaded_model_trains_on(trained, make_adata, quick_train, tmp_path):
    trained.save(tmp_path / "model")
    loaded = CountsDiff.load(tmp_path / "model", adata=make_adata(), accelerator="cpu")
    quick_train(loaded, 1)
    assert len(loaded.history["train_loss"]) == len(trained.history["train_loss"]) + 1


def test_an_untrained_model_can_be_saved(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = CountsDiff.load(tmp_path / "model", adata=model.adata, accelerator="cpu")
    assert not loaded.is_trained


def test_empirical_start_refuses_other_cells(trained, make_adata, tmp_path):
    trained.save(tmp_path / "model")
    other = CountsDiff.load(tmp_path / "model", adata=make_adata(8), accelerator="cpu")
    with pytest.raises(ValueError, match="other cells"):
        other.generate(n_cells=3, start="empirical", seed=0)


def test_data_from_a_file_keep_their_categories(trained, make_adata, tmp_path):
    make_adata(4).write_h5ad(tmp_path / "cells.h5ad")
    from_file = ad.read_h5ad(tmp_path / "cells.h5ad")
    pd.testing.assert_frame_equal(
        trained.get_normalized_expression(from_file), trained.get_normalized_expression(make_adata(4))
    )
