"""Every count is looked at, in any storage."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from sccountsdiff.data import (
    MAX_COUNT,
    InvalidCountsError,
    _zarr_rows,
    check_counts,
    mcar_mask,
    open_cells,
    read_rows,
    row_chunks,
    row_readable,
    scan_counts,
    thinning_split,
)


@pytest.fixture
def counts() -> np.ndarray:
    """Counts with an empty cell and an empty gene."""
    counts = np.random.default_rng(0).poisson(1.5, (50, 12)).astype(np.float64)
    counts[7] = 0
    counts[:, 3] = 0
    return counts


def as_h5(counts, tmp_path):
    """The counts as an HDF5 dataset."""
    h5py = pytest.importorskip("h5py")
    file = h5py.File(tmp_path / "counts.h5", "w")
    return file.create_dataset("counts", data=counts)


def as_backed_csr(counts, tmp_path):
    """The counts as an on-disk sparse dataset of anndata."""
    import anndata as ad

    ad.AnnData(sp.csr_matrix(counts)).write_h5ad(tmp_path / "counts.h5ad")
    return ad.read_h5ad(tmp_path / "counts.h5ad", backed="r").X


def as_dask(counts, tmp_path):
    """The counts as a dask array of sparse chunks."""
    da = pytest.importorskip("dask.array")
    return da.from_array(counts, chunks=(20, 12)).map_blocks(sp.csr_matrix)


STORAGES = {
    "dense": lambda c, _: c,
    "int": lambda c, _: c.astype(np.int64),
    "csr_matrix": lambda c, _: sp.csr_matrix(c),
    "csr_array": lambda c, _: sp.csr_array(c),
    "csc_matrix": lambda c, _: sp.csc_matrix(c),
    "coo_array": lambda c, _: sp.coo_array(c),
    "hdf5": as_h5,
    "backed csr": as_backed_csr,
    "dask": as_dask,
}


@pytest.fixture(params=STORAGES.values(), ids=STORAGES)
def matrix(request, counts, tmp_path):
    """The same counts in one storage after the other."""
    return request.param(counts, tmp_path)


def dense(rows):
    return rows.toarray() if sp.issparse(rows) else rows


def test_scan_is_the_same_in_every_storage(matrix, counts):
    scan = scan_counts(matrix)
    np.testing.assert_array_equal(scan.genes.total, counts.sum(0))
    np.testing.assert_array_equal(scan.library_size, counts.sum(1))
    np.testing.assert_allclose(scan.genes.mean, counts.mean(0))


def test_rows_come_in_the_order_asked_for(matrix, counts):
    """HDF5 and backed sparse data sort the rows they are asked for, or refuse."""
    rows = np.array([30, 2, 2, 49, 0])
    np.testing.assert_array_equal(dense(read_rows(row_readable(matrix), rows)), counts[rows])


@pytest.mark.parametrize(
    "rows",
    [
        slice(3, 9),
        slice(40, None),
        slice(9, 9),
        slice(48, 80),
        np.arange(50),
        np.r_[0:5, 9:30, 41:50],
        np.array([49]),
        np.array([], int),
    ],
    ids=["slice", "to the end", "nothing", "beyond the end", "all", "runs", "one", "none"],
)
def test_runs_of_rows_are_the_same_in_every_storage(matrix, counts, rows, monkeypatch):
    monkeypatch.setattr(_zarr_rows, "_GAP", 4)
    monkeypatch.setattr(_zarr_rows, "_LEAST", 2)
    np.testing.assert_array_equal(dense(read_rows(row_readable(matrix), rows)), counts[rows])


def test_chunks_cover_all_rows(matrix, counts):
    blocks = [dense(rows) for _, rows in row_chunks(matrix, chunk_size=13)]
    assert [len(block) for block in blocks] == [13, 13, 13, 11]
    np.testing.assert_array_equal(np.concatenate(blocks), counts)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix, sp.csc_matrix], ids=["dense", "csr", "csc"])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        pytest.param(np.nan, "NaN", id="nan"),
        pytest.param(np.inf, "infinite", id="inf"),
        pytest.param(-1, "negative", id="negative"),
        pytest.param(0.5, "non-integer", id="fraction"),
        pytest.param(2.0 * MAX_COUNT, "too large", id="large"),
    ],
)
def test_a_single_offender_is_named(counts, storage, value, problem):
    counts[41, 5] = value
    names = [f"cell{i}" for i in range(50)], [f"gene{i}" for i in range(12)]
    with pytest.raises(InvalidCountsError, match=rf"the counts .*{problem}.*'cell41'.*'gene5'"):
        scan_counts(storage(counts), cell_names=names[0], gene_names=names[1])


def test_unobserved_entries_are_neither_checked_nor_counted(counts):
    observed = np.ones(counts.shape, dtype=bool)
    observed[2, 4] = False
    expected = counts.copy()
    expected[2, 4] = 0
    counts[2, 4] = np.nan
    scan = scan_counts(counts, observed=sp.csr_matrix(observed))
    np.testing.assert_array_equal(scan.library_size, expected.sum(1))
    assert scan.genes.n_cells[4] == len(counts) - 1


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_empty_matrices_are_refused(shape):
    with pytest.raises(InvalidCountsError, match="empty"):
        scan_counts(np.zeros(shape))


def test_check_counts_takes_booleans_and_large_counts():
    assert check_counts(np.array([True, False])) is None
    assert check_counts(np.array([1_000_000.0])) is None
    assert check_counts(np.array([])) is None


@pytest.mark.parametrize("kind", [np.asarray, sp.csr_matrix, sp.csr_array], ids=["dense", "matrix", "array"])
def test_thinning_split_keeps_every_molecule(counts, kind):
    kept, held_out = thinning_split(kind(counts), 0.9, seed=1)
    np.testing.assert_array_equal(dense(kept) + dense(held_out), counts)
    assert abs(dense(kept).sum() / counts.sum() - 0.9) < 0.03


def test_splits_and_masks_follow_their_seed_and_leave_the_global_one(counts):
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    first, again = (thinning_split(counts, 0.5, seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    mask = mcar_mask(counts.shape, 0.3, seed=3)
    assert abs(mask.mean() - 0.3) < 0.06
    np.testing.assert_array_equal(state, np.random.get_state()[1])


def test_fractions_outside_the_unit_interval_are_refused(counts):
    with pytest.raises(ValueError, match="fraction"):
        mcar_mask((2, 2), 1.5, seed=0)
    with pytest.raises(ValueError, match="fraction"):
        thinning_split(counts, -0.1, seed=0)


class Broken:
    """A store whose chunks cannot be read."""

    shape = (50, 12)

    def __getitem__(self, rows):
        raise OSError("error during blosc decompression: -1")


@pytest.mark.parametrize(("rows", "named"), [(slice(3, 9), "3 to 8"), (np.array([7, 2]), "2 to 7")])
def test_a_damaged_store_says_where_and_what_to_do(rows, named):
    with pytest.raises(OSError, match="decompression") as caught:
        read_rows(Broken(), rows)
    assert f"Cells {named} of the counts could not be read" in caught.value.__notes__[0]
    assert "copy it again" in caught.value.__notes__[0]


def test_files_that_cannot_be_opened_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="atlas.zarr does not exist"):
        open_cells(tmp_path / "atlas.zarr")
    with pytest.raises(ValueError, match=r"atlas.loom' must end in .h5ad or .zarr"):
        open_cells(tmp_path / "atlas.loom")


@pytest.mark.parametrize("measured", [None, "half"])
def test_dispersions_are_those_of_the_counts(measured):
    """Moments of 20,000 negative binomials of known dispersion at very unequal library sizes."""
    rng = np.random.default_rng(0)
    theta, share = np.array([0.5, 2.0, 10.0, 1e6]), np.array([0.1, 0.2, 0.3, 0.4])
    mean = rng.gamma(2.0, 50.0, (20_000, 1)) * share
    counts = rng.poisson(mean * rng.gamma(theta, 1 / theta, mean.shape))
    observed = None
    if measured:
        observed = np.ones(counts.shape, dtype=bool)
        observed[::2, 0] = False
    # The library size is that of the counts themselves: 20 constant genes make it known.
    deep = np.hstack([counts, rng.poisson(np.repeat(mean.sum(1, keepdims=True), 20, axis=1))])
    seen = None if observed is None else np.hstack([observed, np.ones((len(deep), 20), dtype=bool)])
    found = scan_counts(sp.csr_matrix(deep), observed=seen).genes.dispersion
    np.testing.assert_allclose(found[:3], theta[:3], rtol=0.15)
    assert (found[3:] > 40).all()


def test_dispersions_of_silent_genes_are_those_of_all(counts):
    counts[:, 3] = 0
    dispersion = scan_counts(counts).genes.dispersion
    assert np.isfinite(dispersion).all()
    assert dispersion.min() >= 0.3
    assert dispersion.max() <= 50


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_matrix], ids=["dense", "csr"])
def test_squares_of_small_integers_do_not_overflow(counts, storage):
    deep = (counts * 20).astype(np.uint8)
    expected = scan_counts(deep.astype(np.float64)).genes.dispersion
    np.testing.assert_allclose(scan_counts(storage(deep)).genes.dispersion, expected)
