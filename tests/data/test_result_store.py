"""Results on disk: what was finished survives a kill, a full disk and a broken chunk; other requests are refused."""

from __future__ import annotations

import errno
import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sccountsdiff.data import Chunks, MemorySink, ResultStore, seed_begun_with, smaller_form, sparse_counts

N_CELLS, N_GENES, SIZE = 10, 6, 4
CHUNKS = Chunks(N_CELLS, SIZE)
CELLS, GENES = (pd.Index([f"{what}{i}" for i in range(n)]) for what, n in (("cell", N_CELLS), ("gene", N_GENES)))
READERS = {".zarr": ad.read_zarr, ".h5ad": ad.read_h5ad}
DENSE = np.random.default_rng(0).random((N_CELLS, N_GENES)).astype(np.float32)
COUNTS = sp.csr_matrix(np.random.default_rng(1).poisson(0.4, (N_CELLS, N_GENES)).astype(np.int32))
LATE = sp.vstack([sp.csr_matrix((SIZE, N_GENES), dtype=np.int32), COUNTS[SIZE:]], format="csr")  # starts empty
MATRICES = {"dense": [DENSE], "sparse": [COUNTS], "two": [COUNTS, LATE]}


def store(path, layers=("imputed",), request=None, seed=3):
    places = [[f"layers/{layer}"] for layer in layers]
    return ResultStore(path, places, CHUNKS, request or {"seed": 3}, seed)


def frame(**notes):
    """Cells and genes, and how the layers were made."""
    return ad.AnnData(obs=pd.DataFrame(index=CELLS), var=pd.DataFrame(index=GENES), uns={"sccountsdiff": notes})


def fill(sink, matrices, chunks=None):
    for chunk in sink.pending() if chunks is None else chunks:
        sink.write(chunk, [matrix[sink.chunks.rows(chunk)] for matrix in matrices], [np.array(chunk)])


def dense(matrix):
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


@pytest.fixture(params=READERS)
def path(request, tmp_path):
    """A file of either kind."""
    return tmp_path / f"results{request.param}"


@pytest.mark.parametrize("matrices", MATRICES.values(), ids=MATRICES)
def test_layers_come_back_as_an_anndata(path, matrices):
    layers = [f"layer{k}" for k in range(len(matrices))]
    sink = store(path, layers)
    fill(sink, matrices)
    assert not path.exists()  # nobody meets half a file
    sink.close(frame(**dict.fromkeys(layers, {"method": "impute"})))
    found = READERS[path.suffix](path)
    assert list(found.obs_names) == list(CELLS)
    assert list(found.var_names) == list(GENES)
    assert not path.with_name(f"{path.name}.partial").exists()
    for name, matrix in zip(layers, matrices, strict=True):
        np.testing.assert_array_equal(dense(found.layers[name]), dense(matrix))
        assert sp.issparse(found.layers[name]) == sp.issparse(matrix)
        assert found.layers[name].dtype == matrix.dtype
        assert found.uns["sccountsdiff"][name]["method"] == "impute"


@pytest.mark.parametrize("together", [1, 3 * SIZE * N_GENES])
@pytest.mark.parametrize("n_cells", [SIZE, 2 * SIZE, 7 * SIZE - 1])
def test_dense_rows_come_back_however_many_are_written_together(path, together, n_cells, monkeypatch):
    monkeypatch.setattr("sccountsdiff.data._result_store._TOGETHER", together)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    values = np.random.default_rng(0).random((n_cells, N_GENES)).astype(np.float32)
    sink = ResultStore(path, [["layers/imputed"]], Chunks(n_cells, SIZE), {}, 3)
    fill(sink, [values])
    names = pd.Index([f"cell{i}" for i in range(n_cells)])
    sink.close(ad.AnnData(obs=pd.DataFrame(index=names), var=pd.DataFrame(index=GENES)))
    np.testing.assert_array_equal(READERS[path.suffix](path).layers["imputed"], values)


def test_chunks_may_come_in_any_order_and_from_several_writers(path):
    fill(store(path), [COUNTS], [2, 0])
    sink = store(path)
    assert sink.pending() == [1]
    fill(sink, [COUNTS])
    sink.close(frame())
    np.testing.assert_array_equal(dense(READERS[path.suffix](path).layers["imputed"]), COUNTS.toarray())


def test_a_finished_file_is_kept(path):
    sink = store(path)
    fill(sink, [DENSE])
    sink.close(frame())
    again = store(path)
    assert again.complete
    assert again.pending() == []
    again.close(frame())
    np.testing.assert_array_equal(dense(READERS[path.suffix](path).layers["imputed"]), DENSE)


def test_files_of_other_requests_are_refused(path):
    sink = store(path, request={"seed": 3, "method": "direct"})
    fill(sink, [DENSE], [0])
    other = {"seed": 4, "method": "direct"}
    with pytest.raises(FileExistsError, match=r"differs in seed \(3 there, 4 here\)"):
        store(path, request=other)
    fill(sink, [DENSE])
    sink.close(frame())
    with pytest.raises(FileExistsError, match=r"seed \(3 there, 4 here\).*delete the path"):
        store(path, request=other)


def test_files_of_something_else_are_refused(path):
    cells = ad.AnnData(DENSE)
    cells.write_zarr(path) if path.suffix == ".zarr" else cells.write_h5ad(path)
    with pytest.raises(FileExistsError, match="another request"):
        store(path)
    np.testing.assert_array_equal(READERS[path.suffix](path).X, DENSE)


def test_an_open_seed_is_the_one_that_the_request_began_with(path):
    first = store(path, request={"seed": None}, seed=11)
    fill(first, [DENSE], [0])
    again = store(path, request={"seed": None}, seed=99)
    assert again.seed == seed_begun_with(path) == 11
    fill(again, [DENSE])
    again.close(frame())
    assert seed_begun_with(path) == 11
    assert seed_begun_with(path.with_name(f"other{path.suffix}")) is None


DAMAGE = {
    "truncated": lambda raw: raw[:-30],
    "changed": lambda raw: raw.replace(DENSE[5].tobytes(), DENSE[6].tobytes()),
    "empty": lambda raw: b"",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_broken_chunk_is_written_again(path, damage):
    sink = store(path)
    fill(sink, [DENSE])
    chunk = path.with_name(f"{path.name}.partial") / "00000001.npz"
    chunk.write_bytes(damage(chunk.read_bytes()))
    again = store(path)
    assert again.pending() == [1]
    fill(again, [DENSE])
    again.close(frame())
    np.testing.assert_array_equal(dense(READERS[path.suffix](path).layers["imputed"]), DENSE)


def test_a_full_disk_loses_nothing_that_was_finished(path, monkeypatch):
    sink = store(path)
    fill(sink, [DENSE], [0])

    def full(file, **arrays):
        file.write(b"half a chunk")
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left") as caught:
            fill(sink, [DENSE], [1])
    assert "run the same call again" in caught.value.__notes__[0]
    assert sorted(file.name for file in path.with_name(f"{path.name}.partial").iterdir()) == [
        "00000000.npz",
        "request.json",
        "seed.json",
    ]
    assert store(path).pending() == [1, 2]


def test_an_interrupted_last_step_is_taken_again(path):
    sink = store(path)
    fill(sink, [COUNTS])
    whole = path.with_name(f"{path.name}.partial") / f"whole{path.suffix}"
    whole.write_bytes(b"half a file")
    sink.close(frame())
    np.testing.assert_array_equal(dense(READERS[path.suffix](path).layers["imputed"]), COUNTS.toarray())


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"results.loom' must end in .zarr or .h5ad"):
        store(tmp_path / "results.loom")


def test_the_request_is_readable(path):
    store(path, request={"seed": 3, "method": "direct"})
    noted = json.loads((path.with_name(f"{path.name}.partial") / "request.json").read_text())
    assert noted == {"seed": 3, "method": "direct", "results": [["layers/imputed"]], "chunk_size": SIZE}


def test_a_chunk_that_was_made_of_something_else_is_noticed(path):
    sink = store(path)
    fill(sink, [DENSE])
    sink.check(1, [np.array(1)])
    for at in ("partial", "complete"):
        with pytest.raises(FileExistsError, match=r"counts, masks and conditions of cells 4 to 7 \("):
            store(path).check(1, [np.array(7)])
        if at == "partial":
            sink.close(frame())


def test_results_go_anywhere_in_an_anndata(path):
    places = [["X", "layers/counts"], ["obsm/X_latent"], ["obs/bound"]]
    sink = ResultStore(path, places, CHUNKS, {}, 0)
    matrices = [COUNTS, DENSE[:, :3], DENSE[:, :1]]
    fill(sink, matrices)
    sink.close(frame())
    found = READERS[path.suffix](path)
    for counts in (found.X, found.layers["counts"]):
        np.testing.assert_array_equal(dense(counts), COUNTS.toarray())
    np.testing.assert_array_equal(found.obsm["X_latent"], DENSE[:, :3])
    np.testing.assert_array_equal(found.obs["bound"], DENSE[:, 0])


@pytest.mark.parametrize("matrices", MATRICES.values(), ids=MATRICES)
def test_memory_takes_the_same(matrices):
    sink = MemorySink(CHUNKS)
    fill(sink, matrices, [2, 0, 1])
    for found, expected in zip(sink.matrices(), matrices, strict=True):
        assert sp.issparse(found) == sp.issparse(expected)
        np.testing.assert_array_equal(dense(found), dense(expected))


@pytest.mark.parametrize("shape", [(50, 7), (3, 0), (0, 4), (1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_counts_become_sparse(shape, dtype):
    counts = np.random.default_rng(0).poisson(0.5, (shape[0], 2 * shape[1])).astype(dtype)[:, ::2]
    found, expected = sparse_counts(counts), sp.csr_matrix(counts.astype(np.int32))
    found.check_format()
    assert (found.dtype, found.indices.dtype, found.shape) == (np.int32, np.int32, shape)
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_the_smaller_form_is_chosen():
    assert sp.issparse(smaller_form(sp.csr_matrix(np.eye(20, dtype=np.int32))))
    assert not sp.issparse(smaller_form(sp.csr_matrix(np.ones((20, 20), dtype=np.int32))))
    assert smaller_form(DENSE) is DENSE
