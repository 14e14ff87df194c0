"""Counts in any storage train the same model and come back in the right order."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp
from anndata.experimental import AnnCollection, concat_on_disk
from scvi.dataloaders import CollectionAdapter

from sccountsdiff import CountsDiff
from sccountsdiff.data import open_cells


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


def test_files_with_different_genes_train_from_one_store(plain, tmp_path, quick_train):
    files = {"first": plain[:90, :25].copy(), "second": plain[90:, 5:].copy()}
    paths = {name: tmp_path / f"{name}.h5ad" for name in files}
    for name, part in files.items():
        part.write_h5ad(paths[name])
    concat_on_disk(paths, tmp_path / "atlas.h5ad", join="outer", label="study")
    atlas = open_cells(tmp_path / "atlas.h5ad")
    genes = {name: list(open_cells(path).var_names) for name, path in paths.items()}
    CountsDiff.setup_anndata(atlas, batch_key="study", measured_genes=genes)
    model = quick_train(CountsDiff(atlas, n_hidden=8), 1)
    hidden = model.impute(indices=[0, 239], replace="masked", layer_added=None)
    assert hidden.loc["cell_0", "gene_29"] > 0  # what was not measured is filled in, not taken for zero
    assert hidden.loc["cell_239", "gene_0"] > 0


def test_collections_of_files_are_refused(plain):
    with pytest.raises(TypeError, match="takes an AnnData, got AnnCollection.*concat_on_disk.*open_cells"):
        CountsDiff.setup_anndata(AnnCollection([plain, plain]), labels_key="cell_type")
    with pytest.raises(TypeError, match="got CollectionAdapter"):
        CountsDiff.setup_anndata(CollectionAdapter(AnnCollection([plain, plain])), labels_key="cell_type")
