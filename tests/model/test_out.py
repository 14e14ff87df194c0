"""Methods other than imputation: what is streamed to disk is what they return, alone or by several processes."""

from __future__ import annotations

import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from sccountsdiff.data import open_cells
from sccountsdiff.model import Dask, Merge, Shard
from sccountsdiff.model._streaming import bare, taken

CELLS = {"indices": [200, 3, 70], "batch_size": 2}
MEASUREMENTS = {
    "elbo": ("get_elbo", {"n_samples": 2, "seed": 3}, {"return_mean": False}, "obs", "elbo"),
    "latent": ("get_latent_representation", {}, {}, "obsm", "X_sccountsdiff"),
    "expression": ("get_normalized_expression", {"gene_list": ["gene_9", "gene_4"]}, {}, "layers", "expression"),
    "drawn expression": (
        "get_normalized_expression",
        {"n_samples": 3, "transform_batch": ["first", "second"], "library_size": 100.0, "seed": 1},
        {"return_numpy": True},
        "layers",
        "expression",
    ),
}


@pytest.mark.parametrize(("method", "options", "in_memory", "where", "name"), MEASUREMENTS.values(), ids=MEASUREMENTS)
def test_files_hold_what_is_returned(trained, tmp_path, method, options, in_memory, where, name):
    ask = getattr(trained, method)
    path = tmp_path / "cells.h5ad"
    assert ask(out=path, **CELLS, **options) is None
    found = ad.read_h5ad(path)
    returned = np.asarray(ask(**CELLS, **options, **in_memory))
    np.testing.assert_array_equal(np.asarray(getattr(found, where)[name], dtype=np.float32), returned)
    assert list(found.obs_names) == ["cell_200", "cell_3", "cell_70"]
    assert found.uns["sccountsdiff"][name]["method"] == method
    assert ask(out=path, **CELLS, **options) is None  # there already


def test_drawn_expressions_are_layers(trained, tmp_path):
    options = {**CELLS, "n_samples": 2, "return_mean": False, "seed": 4}
    trained.get_normalized_expression(out=tmp_path / "cells.h5ad", layer_added="e", **options)
    found = ad.read_h5ad(tmp_path / "cells.h5ad")
    drawn = trained.get_normalized_expression(**options)
    np.testing.assert_array_equal(np.stack([found.layers["e_sample0"], found.layers["e_sample1"]]), drawn)


def test_minibatches_from_elsewhere_have_no_names(trained):
    loader = trained._make_data_loader(adata=trained.adata, indices=[0, 1])
    for ask in (trained.get_elbo, trained.get_latent_representation, trained.get_normalized_expression):
        with pytest.raises(ValueError, match="names of the cells: pass adata="):
            ask(dataloader=loader, out="cells.h5ad")
        with pytest.raises(ValueError, match="No cells are selected"):
            ask(indices=[])
    with pytest.raises(ValueError, match="each cell once"):
        trained.get_normalized_expression(n_samples_overall=3, out="cells.h5ad")


def test_shards_make_the_file_of_one_process(trained, tmp_path):
    options = {"n_samples": 1, "n_steps": 2, "seed": 5, "batch_size": 60, "mask": np.eye(240, 30, dtype=bool)}
    path = tmp_path / "imputed.zarr"
    for number in (1, 3):
        trained.impute(out=Shard(path, number, of=3), **options)
        assert not path.exists()
    with pytest.raises(FileNotFoundError, match="1 of 4 chunks are missing or damaged, those of shard '2/3'"):
        trained.impute(out=Merge(path), **options)
    with pytest.raises(FileExistsError, match=r"another request: it differs in seed \(5 there, 6 here\)"):
        trained.impute(out=Shard(path, 2, of=3), **options | {"seed": 6})
    with pytest.raises(FileExistsError, match=r"differs in method"):
        trained.impute(out=Merge(path), **options | {"n_steps": 3})
    trained.impute(out=Shard(path, 2, of=3), **options)
    trained.impute(out=Merge(path), **options)
    whole = trained.impute(layer_added=None, **options)
    np.testing.assert_array_equal(ad.read_zarr(path).layers["imputed"].toarray(), whole[0].toarray())


def test_shards_that_cannot_be_are_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="Shard 4/3 does not exist: shards are numbered from 1 to 3"):
        Shard(tmp_path / "x.zarr", 4, of=3)
    with pytest.raises(ValueError, match="pass the same seed= to all"):
        trained.impute(out=Shard(tmp_path / "x.zarr", 1, of=3), n_samples=1)


GENERATIONS = {
    "zeros": {"condition": [{"cell_type": "B cell"}, {"batch": "first"}], "n_cells": [30, 9], "n_steps": 2},
    "empirical": {"n_cells": 30, "start": "empirical", "n_steps": 1},
    "same cells, moved": {
        "condition": {"cell_type": "B cell"},
        "strength": 0.5,
        "n_steps": 1,
        "profile": pd.Series({"gene_1": 5.0, "gene_2": 3.0}),
    },
}


@pytest.mark.parametrize("options", GENERATIONS.values(), ids=GENERATIONS)
def test_generated_cells_are_those_of_memory(trained, make_adata, tmp_path, options):
    options = {"seed": 2, "batch_size": 12, **options}
    if "strength" in options:
        options["from_adata"] = make_adata(4, 40)
    path = tmp_path / "cells.h5ad"
    for number in (2, 1):  # as two processes, in any order
        trained.generate(out=Shard(path, number, of=2), **options)
    assert trained.generate(out=Merge(path), **options) is None
    found, made = ad.read_h5ad(path), trained.generate(**options)
    np.testing.assert_array_equal(found.X.toarray(), made.X.toarray())
    np.testing.assert_array_equal(found.layers["counts"].toarray(), made.X.toarray())
    pd.testing.assert_frame_equal(found.obs, made.obs, check_categorical=False)
    np.testing.assert_array_equal(found.obsm["drug"], made.obsm["drug"])
    assert found.uns["sccountsdiff"]["generated"]["method"] == "generate"
    with pytest.raises(FileExistsError, match="another request: it differs in"):
        trained.generate(out=path, **options | {"guidance": 2.0})


def test_an_open_seed_of_generated_cells_is_kept(trained, tmp_path):
    path = tmp_path / "cells.zarr"
    for _ in range(2):  # the second time everything is there
        trained.generate(n_cells=5, n_steps=1, out=path)
    seed = int(ad.read_zarr(path).uns["sccountsdiff"]["generated"]["seed"])
    again = trained.generate(n_cells=5, n_steps=1, seed=seed)
    np.testing.assert_array_equal(ad.read_zarr(path).X.toarray(), again.X.toarray())
    with pytest.raises(ValueError, match="layer_added and out both"):
        trained.generate(out=path, layer_added="counterfactual", from_adata=trained.adata)


class Elsewhere:
    """A Dask client whose worker knows only what was sent to it."""

    def submit(self, function, *arguments, pure):
        return sent(function(*sent(arguments)))

    def map(self, function, items, parcel, pure):
        return [function(item, parcel=sent(parcel)) for item in items]

    def gather(self, futures):
        assert futures


def sent(value):
    return pickle.loads(pickle.dumps(value))


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
def test_workers_open_files_again(trained, make_adata, tmp_path, ending):
    cells = make_adata(6, 40)
    cells.layers["hidden"] = np.eye(40, 30, dtype=bool)
    cells.write_h5ad(tmp_path / "cells.h5ad") if ending == ".h5ad" else cells.write_zarr(tmp_path / "cells.zarr")
    options = {"n_samples": 1, "n_steps": 1, "seed": 5, "batch_size": 2, "mask": "hidden"}
    on_disk = open_cells(tmp_path / f"cells{ending}")
    assert not isinstance(on_disk.layers["counts"], np.ndarray)
    trained.impute(on_disk, out=Dask(tmp_path / "imputed.h5ad", Elsewhere()), **options)
    (whole,) = trained.impute(cells, layer_added=None, **options)
    found = ad.read_h5ad(tmp_path / "imputed.h5ad").layers["imputed"]
    np.testing.assert_array_equal(found.toarray(), whole.toarray())


@pytest.mark.slow
@pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])
def test_a_cluster_gives_the_numbers_of_one_process(trained, tmp_path, processes):
    distributed = pytest.importorskip("distributed")
    options = {"n_samples": 1, "n_steps": 3, "seed": 5, "batch_size": 7}
    made = {"n_cells": 50, "start": "empirical", "n_steps": 2, "seed": 1, "batch_size": 2}
    workers = {"n_workers": 2, "threads_per_worker": 1, "processes": processes, "dashboard_address": None}
    with distributed.LocalCluster(**workers) as cluster, distributed.Client(cluster) as client:
        trained.impute(out=Dask(tmp_path / "imputed.h5ad", client), **options)
        trained.generate(out=Dask(tmp_path / "cells.h5ad", client), **made)
    found = ad.read_h5ad(tmp_path / "imputed.h5ad").layers["imputed"]
    np.testing.assert_array_equal(found.toarray(), trained.impute(layer_added=None, **options)[0].toarray())
    found = ad.read_h5ad(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(found.X.toarray(), trained.generate(**made).X.toarray())


def test_names_of_all_cells_are_not_copied():
    names = pd.Index(["a", "b", "c"])
    assert taken(names, np.arange(3)) is names
    assert list(taken(names, np.array([2, 1, 0]))) == ["c", "b", "a"]
    assert list(taken(names, np.array([0, 1]))) == ["a", "b"]
    found = bare(names, pd.Index(["gene"])).obs_names
    assert found is names or found.array is names.array  # pandas 3 hands out views


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_names_of_any_type_are_written(trained, make_adata, tmp_path, suffix):
    data = make_adata(1)
    data.obs.index, data.var.index = (names.astype("string") for names in (data.obs_names, data.var_names))
    trained.impute(data, out=tmp_path / f"cells{suffix}")
    found = open_cells(tmp_path / f"cells{suffix}")
    assert list(found.obs_names) == list(data.obs_names)
    assert list(found.var_names) == list(data.var_names)
