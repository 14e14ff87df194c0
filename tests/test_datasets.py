"""The data that ship with the package are UMI counts, or they are refused."""

import numpy as np
import pytest
from scipy import sparse

from sccountsdiff import datasets
from sccountsdiff.datasets import _recover_counts


@pytest.fixture(scope="module")
def adata():
    return datasets.pbmc68k()


def test_pbmc68k_holds_integer_counts_in_sparse_float32(adata):
    assert adata.shape == (700, 765)
    for matrix in (adata.X, adata.layers["counts"]):
        assert isinstance(matrix, sparse.csr_matrix)
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix.data, np.round(matrix.data))
        assert matrix.data.min() >= 1
    assert adata.X is not adata.layers["counts"]


def test_pbmc68k_has_no_empty_cell_or_gene_and_fits_in_the_library(adata):
    assert (np.asarray(adata.X.sum(0)) > 0).all()
    size = np.asarray(adata.X.sum(1)).ravel()
    assert (size > 0).all()
    assert (size <= adata.obs["n_counts"].to_numpy()).all()


def test_pbmc68k_names_cells_genes_and_cell_types(adata):
    assert adata.obs_names.is_unique
    assert {"CD3D", "MS4A1", "NKG7", "LYZ"} <= set(adata.var_names)
    assert adata.obs["cell_type"].dtype == "category"
    assert adata.obs["cell_type"].cat.categories.size == len(adata.uns["cell_type_colors"]) == 10
    assert "CD19+ B" in set(adata.obs["cell_type"])


def _log_normalized(counts, library_size):
    return np.log1p(counts / library_size[:, None] * 1e4).astype(np.float32)


def test_counts_survive_the_round_trip():
    counts = np.random.default_rng(0).poisson(1.5, size=(20, 30)).astype(float)
    library_size = counts.sum(1) * 4 + 1
    recovered = _recover_counts(sparse.csr_matrix(_log_normalized(counts, library_size)), library_size)
    np.testing.assert_array_equal(recovered.toarray(), counts)


@pytest.mark.parametrize("spoil", [1.7, -1.0, np.nan, np.inf], ids=["fraction", "negative", "nan", "infinite"])
def test_values_that_are_no_counts_are_refused_by_cell_and_gene(spoil):
    library_size = np.full(3, 1000.0)
    values = _log_normalized(np.ones((3, 4)), library_size)
    with np.errstate(divide="ignore"):
        values[1, 2] = np.log1p(spoil / 1000 * 1e4) if spoil > 0 else spoil
    with pytest.raises(ValueError, match=r"1 of 12 non-zero values.*cell 1, gene 2.*scanpy 1\.11"):
        _recover_counts(values, library_size)


def test_a_wrong_library_size_is_noticed():
    counts = np.arange(1.0, 13.0).reshape(3, 4)
    values = _log_normalized(counts, np.full(3, 1000.0))
    with pytest.raises(ValueError, match="No integer UMI counts"):
        _recover_counts(values, np.full(3, 1300.0))
