"""Methods other than imputation: what is streamed to disk is what they return, alone or by several processes."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

from sccountsdiff.model import Merge, Shard

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
