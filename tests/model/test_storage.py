"""Counts in any storage train the same model and come back in the right order."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from sccountsdiff import CountsDiff


def backed(adata, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    return ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")


def backed_dense(adata, tmp_path):
    adata.X = adata.X.toarray()
    return backed(adata, tmp_path)


def on_zarr(adata, tmp_path):
    zarr = pytest.importorskip("zarr")
    adata.write_zarr(tmp_path / "cells.zarr")
    group = zarr.open_group(tmp_path / "cells.zarr", mode="r")
    return ad.AnnData(ad.io.sparse_dataset(group["X"]), obs=adata.obs.copy(), var=adata.var.copy())


def dask(adata, tmp_path):
    da = pytest.importorskip("dask.array")
    adata.X = da.from_array(adata.X.toarray(), chunks=(100, 30))
    return adata


def sparse_dask(adata, tmp_path):
    da = pytest.importorskip("dask.array")
    adata.X = da.from_array(adata.X.toarray(), chunks=(100, 30)).map_blocks(sp.csr_matrix)
    return adata


def converted(convert):
    def store(adata, tmp_path):
        adata.X = convert(adata.X)
        return adata

    return store


STORAGES = {
    "dense": converted(lambda x: x.toarray()),
    "integer": converted(lambda x: x.toarray().astype(np.int64)),
    "csr_array": converted(sp.csr_array),
    "csc_matrix": converted(sp.csc_matrix),
    "csc_array": converted(sp.csc_array),
    "backed": backed,
    "backed dense": backed_dense,
    "zarr": on_zarr,
    "dask": dask,
    "sparse dask": sparse_dask,
}


@pytest.fixture
def plain(adata):
    """The counts in X."""
    adata.X = adata.layers["counts"].copy()
    del adata.layers["counts"], adata.obsm["drug"]
    return adata


@pytest.fixture(scope="module")
def reference(make_adata, quick_train):
    """A model trained on an ordinary csr matrix."""
    adata = make_adata()
    adata.X = adata.layers["counts"].copy()
    CountsDiff.setup_anndata(adata, labels_key="cell_type")
    return quick_train(CountsDiff(adata, n_hidden=16), 5)


@pytest.fixture(params=STORAGES.values(), ids=STORAGES)
def stored(request, plain, tmp_path):
    """The same cells in one storage after the other."""
    return request.param(plain, tmp_path)


def test_storage_trains_and_is_left_as_it_was(stored, quick_train):
    kind = type(stored.X)
    CountsDiff.setup_anndata(stored, labels_key="cell_type")
    model = quick_train(CountsDiff(stored, n_hidden=8), 1)
    assert type(stored.X) is kind
    assert np.isfinite(model.history["train_loss"]["train_loss"].iloc[-1])
    assert model.generate({"cell_type": "B cell"}, 3, seed=0, start="empirical").n_obs == 3


def test_storage_gives_the_same_in_the_order_asked_for(stored, reference):
    """scvi-tools returns rows of backed data in sorted order, whatever was asked."""
    rows = np.array([200, 3, 3, 150, 0])
    expected = reference.get_normalized_expression(indices=rows)
    found = reference.get_normalized_expression(stored, indices=rows)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert list(found.index) == list(expected.index)
