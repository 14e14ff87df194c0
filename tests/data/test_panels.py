"""Matrices of what was measured, and joining data sets that measured different genes."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from sccountsdiff.data import AllOf, Panels, concat_panels, keep_measured, read_rows, row_chunks, take_columns

TABLE = np.array([[True, True, False], [False, True, True]])


@pytest.fixture
def panels():
    """Four cells, two panels."""
    return Panels(TABLE, [1, 0, 0, 1])


def make(names, seed=0, n_cells=3):
    """Sparse counts of some genes."""
    counts = sp.csr_matrix(np.random.default_rng(seed).poisson(2.0, (n_cells, len(names))).astype(np.float32))
    adata = ad.AnnData(counts, layers={"counts": counts.copy()})
    adata.obs_names = [f"{seed}_{i}" for i in range(n_cells)]
    adata.var_names = list(names)
    return adata


def test_panels_read_like_a_matrix(panels):
    whole = TABLE[[1, 0, 0, 1]]
    assert panels.shape == (4, 3)
    np.testing.assert_array_equal(read_rows(panels, slice(None)), whole)
    np.testing.assert_array_equal(read_rows(panels, np.array([3, 1, 3])), whole[[3, 1, 3]])
    blocks = [rows for _, rows in row_chunks(panels, 3)]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_all_of_is_true_where_each_is(panels):
    layer = sp.csr_matrix(np.array([[1, 0, 1]] * 4, dtype=bool))
    both = AllOf([panels, layer])
    assert both.shape == (4, 3)
    np.testing.assert_array_equal(read_rows(both, np.array([2, 0])), [[True, False, False], [False, False, True]])


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix], ids=["dense", "sparse"])
def test_unmeasured_entries_become_zero_whatever_they_held(form):
    rows = form(np.array([[1.0, np.nan, 3.0], [4.0, 5.0, -6.0]]))
    kept = keep_measured(rows, np.array([[True, False, True], [True, True, False]]))
    assert sp.issparse(kept) == sp.issparse(rows)
    np.testing.assert_array_equal(kept.toarray() if sp.issparse(kept) else kept, [[1, 0, 3], [4, 5, 0]])


@pytest.mark.parametrize("form", [np.asarray, sp.csr_matrix, sp.csc_matrix, sp.csr_array], ids=lambda f: f.__name__)
def test_columns_are_taken_in_any_order_with_zeros_between(form):
    values = np.arange(6, dtype=np.int32).reshape(2, 3)
    taken = take_columns(form(values), np.array([2, -1, 0]))
    assert type(taken) is type(form(values))
    assert taken.dtype == np.int32
    np.testing.assert_array_equal(taken.toarray() if sp.issparse(taken) else taken, [[2, 0, 0], [5, 0, 3]])


def test_joined_data_remember_who_measured_what():
    joined = concat_panels({"full": make("abcd"), "panel": make("bd", 1)}, label="study")
    assert sp.issparse(joined.X)
    assert sp.issparse(joined.layers["counts"])
    assert list(joined.obs["study"]) == ["full"] * 3 + ["panel"] * 3
    table = joined.varm["measured"]
    assert table.loc["a"].to_dict() == {"full": True, "panel": False}
    assert table["panel"].sum() == 2
    assert joined[joined.obs["study"] == "panel", ["a", "c"]].X.nnz == 0


def test_joining_needs_unique_names():
    with pytest.raises(ValueError, match="'panel' are not unique: 'b'.*var_names_make_unique"):
        concat_panels({"panel": make("bb")})
