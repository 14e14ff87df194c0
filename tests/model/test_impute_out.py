"""Results streamed to disk: the numbers of memory, whatever interrupts."""

from __future__ import annotations

import multiprocessing
import os
import signal
from itertools import cycle

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from sccountsdiff.data import ResultStore, mcar_mask

READERS = {".zarr": ad.read_zarr, ".h5ad": ad.read_h5ad}
REQUESTS = {
    "mean": {},
    "variance": {"return_variance": True},
    "quantiles": {"quantiles": [0.1, 0.9]},
    "draws": {"mask": "hidden", "n_samples": 2, "n_steps": 3, "seed": 3},
    "depth": {"target_depth": "2x", "n_steps": 3, "seed": 3},
    "selection": {"indices": [200, 3, 3, 70], "gene_list": ["gene_9", "gene_4"], "n_samples": 1, "seed": 3},
}


@pytest.fixture
def data(make_adata):
    """Cells that the model has not seen, with entries to hide."""
    cells = make_adata(9)
    cells.layers["hidden"] = mcar_mask(cells.shape, 1 / 3, seed=0)
    return cells


def results(found):
    """Layers in the order of their names, dense."""
    return dense([layer for _, layer in sorted(found.layers.items())])


def dense(returned):
    """What a call returns as an array ``(n_results, n_cells, n_genes)``."""
    several = returned if isinstance(returned, list) or np.ndim(returned) == 3 else [returned]
    return np.stack([matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix) for matrix in several])


# What a file can hold is tested on both kinds in tests/data; here each request goes to one of them.
@pytest.mark.parametrize(("request_", "ending"), list(zip(REQUESTS.values(), cycle(READERS))), ids=REQUESTS)
def test_files_hold_the_numbers_of_memory(trained, data, tmp_path, request_, ending):
    path = tmp_path / f"imputed{ending}"
    assert trained.impute(data, out=path, batch_size=64, **request_) is None
    found = READERS[path.suffix](path)
    returned = trained.impute(data, batch_size=64, layer_added=None, **request_)
    np.testing.assert_array_equal(results(found), dense(returned))
    assert "imputed" not in data.layers
    assert list(found.var_names) == request_.get("gene_list", list(data.var_names))
    cells = request_.get("indices", range(data.n_obs))
    assert list(found.obs_names) == [f"cell_{cell}" for cell in cells]
    drawn = "n_samples" in request_ or "target_depth" in request_
    assert all(sp.issparse(layer) == drawn for layer in found.layers.values())
    assert all(layer.dtype == (np.int32 if drawn else np.float32) for layer in found.layers.values())
    notes = found.uns["sccountsdiff"]
    assert {notes[name]["method"] for name in found.layers} == {"impute"}


@pytest.fixture(scope="module")
def written(trained, make_adata, tmp_path_factory):
    """Cells, and a request about them that a file answers."""
    cells = make_adata(9)
    cells.layers["hidden"] = mcar_mask(cells.shape, 1 / 3, seed=0)
    given = {"mask": "hidden", "n_samples": 1, "n_steps": 2, "seed": 1, "batch_size": 240}
    given["out"] = tmp_path_factory.mktemp("written") / "x.h5ad"
    trained.impute(cells, **given)
    return cells, given


class Interrupted(Exception):
    """Stands for whatever ends a run."""


def interrupt(monkeypatch, after):
    """Let a store fail after some chunks."""
    write = ResultStore.write

    def failing(self, chunk, *piece):
        if len(self.pending()) <= self.chunks.number - after:
            raise Interrupted
        write(self, chunk, *piece)

    monkeypatch.setattr(ResultStore, "write", failing)


@pytest.mark.parametrize(("after", "ending"), [(1, ".zarr"), (3, ".h5ad")])
def test_an_interrupted_request_goes_on_to_the_same_numbers(trained, data, tmp_path, monkeypatch, after, ending):
    path = tmp_path / f"imputed{ending}"
    options = {"mask": "hidden", "n_samples": 2, "n_steps": 4, "seed": 5, "batch_size": 50}
    with monkeypatch.context() as context:
        interrupt(context, after)
        with pytest.raises(Interrupted):
            trained.impute(data, out=path, **options)
    assert not path.exists()
    shown = []
    monkeypatch.setattr(ResultStore, "write", _watched(ResultStore.write, shown))
    trained.impute(data, out=path, **options)
    assert shown == list(range(after, 5))
    whole = trained.impute(data, layer_added=None, **options)
    np.testing.assert_array_equal(results(READERS[path.suffix](path)), dense(whole))
    trained.impute(data, out=path, **options)  # nothing left to do
    assert shown == list(range(after, 5))


def _watched(write, shown):
    def watched(self, chunk, *piece):
        shown.append(chunk)
        write(self, chunk, *piece)

    return watched


def test_an_open_seed_is_kept_over_an_interruption(trained, data, tmp_path, monkeypatch):
    path = tmp_path / "imputed.zarr"
    with monkeypatch.context() as context:
        interrupt(context, 1)
        with pytest.raises(Interrupted):
            trained.impute(data, out=path, n_samples=1, batch_size=100)
    trained.impute(data, out=path, n_samples=1, batch_size=100)
    found = ad.read_zarr(path)
    seed = int(found.uns["sccountsdiff"]["imputed"]["seed"])
    again = trained.impute(data, n_samples=1, batch_size=100, seed=seed, layer_added=None)
    np.testing.assert_array_equal(results(found), dense(again))


@pytest.mark.parametrize(
    ("options", "differs"),
    [
        ({"seed": 2}, "seed"),
        ({"n_steps": 3}, "method"),
        ({"n_samples": 2}, "answer"),
        ({"mask": None, "replace": "masked"}, "counts, masks and conditions of cells 0 to 239"),
        ({"condition": {"batch": "first"}}, "counts, masks and conditions of cells 0 to 239"),
        ({"gene_list": ["gene_1"]}, "genes"),
        ({"batch_size": 70}, "chunk_size"),
    ],
)
def test_files_of_other_requests_are_refused(trained, written, options, differs):
    data, given = written
    with pytest.raises(FileExistsError, match=rf"differs in .*{differs} \("):
        trained.impute(data, **given | options)


def test_changed_counts_and_another_model_are_noticed(trained, data, adata, quick_train, tmp_path):
    trained.impute(data, out=tmp_path / "x.h5ad")
    changed = data.copy()
    changed.layers["counts"][5, 2] += 1
    with pytest.raises(FileExistsError, match="counts, masks and conditions of cells 0 to 127"):
        trained.impute(changed, out=tmp_path / "x.h5ad")
    type(trained).setup_anndata(adata, layer="counts")
    other = quick_train(type(trained)(adata, n_hidden=8), 1)
    with pytest.raises(FileExistsError, match="model"):
        other.impute(data, out=tmp_path / "x.h5ad")


def test_a_killed_process_is_resumed(trained, data, tmp_path):
    options = {"n_samples": 1, "n_steps": 2, "seed": 4, "batch_size": 50}
    write = ResultStore.write

    def dying(self, chunk, *piece):
        write(self, chunk, *piece)
        if chunk == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def work():
        ResultStore.write = dying
        trained.impute(data, out=tmp_path / "imputed.h5ad", **options)

    process = multiprocessing.get_context("fork").Process(target=work)  # starts at once, and has the model
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "imputed.h5ad.partial").glob("*.npz"))) == 3
    trained.impute(data, out=tmp_path / "imputed.h5ad", **options)
    whole = trained.impute(data, layer_added=None, **options)
    np.testing.assert_array_equal(results(ad.read_h5ad(tmp_path / "imputed.h5ad")), dense(whole))
