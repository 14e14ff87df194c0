"""Training on collections that annbatch streams, where it can be installed."""

from __future__ import annotations

import numpy as np
import pytest

from sccountsdiff import CountsDiff
from sccountsdiff.data import InvalidCountsError
from sccountsdiff.model import _annbatch

LOADER = {"batch_size": 60, "chunk_size": 30, "preload_nchunks": 4}


@pytest.fixture
def cells(make_adata):
    """Cells with counts in X, as annbatch reads them."""
    adata = make_adata()
    adata.X = adata.layers.pop("counts")
    return adata


def test_an_older_stack_is_told_what_is_needed(monkeypatch):
    monkeypatch.setattr(_annbatch, "HAS_ANNBATCH", False)
    with pytest.raises(ImportError, match=r"needs Python 3.12 or newer, scvi-tools 1.5 and annbatch 0.2.*open_cells"):
        CountsDiff.setup_annbatch(["cells.h5ad"])


def test_a_model_trains_on_a_collection(cells, quick_train, tmp_path):
    pytest.importorskip("annbatch")
    pytest.importorskip("zarrs")
    paths = [str(tmp_path / name) for name in ("first.h5ad", "second.h5ad")]
    for path, part in zip(paths, (cells[:120], cells[120:]), strict=True):
        part.copy().write_h5ad(path)
    given = {"labels_key": "cell_type", "batch_key": "batch", "shuffle": True, **LOADER}
    collection = CountsDiff.setup_annbatch(paths, collection_path=str(tmp_path / "both.zarr"), **given)
    collection.set_split(0.75)
    assert (collection.n_obs, collection.n_train, collection.n_val) == (240, 180, 60)
    model = quick_train(CountsDiff(registry=collection.registry, n_hidden=8), 2, datamodule=collection)
    assert len(model.history["elbo_validation"]) == 2
    assert len(model.population_) == 180
    assert set(model.generate(n_cells=40, n_steps=1, seed=0).obs["cell_type"]) == set(cells.obs["cell_type"])
    CountsDiff.setup_anndata(cells, labels_key="cell_type", batch_key="batch")
    in_memory = CountsDiff(cells, n_hidden=8)
    for key in ("gene_mean", "gene_dispersion", "library_mean"):
        mine, theirs = (m.registry["field_registries"]["X"]["state_registry"][key] for m in (model, in_memory))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    assert np.isfinite(model.get_elbo(cells, n_samples=2).nats)  # the same codes for the same categories


def test_values_that_are_no_counts_are_refused(cells):
    pytest.importorskip("annbatch")
    pytest.importorskip("zarrs")
    cells.X.data[3] = 0.5
    with pytest.raises(InvalidCountsError, match=r"non-integer, gene 'gene_\d+'. Name the layer"):
        CountsDiff.setup_annbatch(adatas=[cells], **LOADER)
