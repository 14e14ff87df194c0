"""Files are read from where they are, and nothing is lost."""

import shutil

import anndata
import numpy as np
import pytest

from sccountsdiff import CountsDiff


@pytest.fixture
def cells(cells_file, tmp_path, run):
    """A copy to do harm to, in the working directory."""
    shutil.copy(cells_file, tmp_path / "cells.h5ad")
    return "cells.h5ad"


@pytest.mark.parametrize("options", [[], ["--overwrite"], ["--stream"]])
def test_a_command_never_writes_over_what_it_reads(refused, cells, cells_file, model_folder, tmp_path, options):
    message = refused("impute", model_folder, cells, "--out", tmp_path / cells, *options)
    assert "cells.h5ad' is read by this command, and would be lost; choose another --out" in message
    assert "is read by this command" in refused("generate", model_folder, "--data", cells, "--out", cells, *options)
    assert (tmp_path / cells).read_bytes() == cells_file.read_bytes()


def test_reports_and_exports_spare_what_they_read(refused, cells, model_folder, tmp_path):
    assert "is read by this" in refused("report", model_folder, cells, "--kind", "imputation", "--out", cells)
    shutil.copy(cells, "real.h5ad")
    columns = ["--perturbation-key", "cell_type", "--control", "A"]
    assert "is read by this" in refused("export", cells, "real.h5ad", *columns, "--out", ".")


def test_a_file_that_is_there_is_replaced_only_if_told_to(run, refused, cells, model_folder):
    arguments = ["impute", model_folder, cells, "--out", "x.h5ad"]
    assert run(*arguments).exit_code == 0
    assert "'x.h5ad' exists; choose another --out, or pass --overwrite" in refused(*arguments)
    assert run(*arguments, "--layer-added", "again", "--overwrite").exit_code == 0
    assert set(filter(None, anndata.read_h5ad("x.h5ad").layers)) == {"again"}  # anndata 0.13 lists .X as None


def test_streamed_results_are_completed_and_never_replaced(run, refused, cells, model_folder):
    arguments = ["impute", model_folder, cells, "--out", "x.h5ad", "--stream"]
    assert run(*arguments).exit_code == 0
    assert run(*arguments).exit_code == 0  # nothing is left to do
    assert "x.h5ad holds the results of another request" in refused(*arguments, "--replace", "zeros")
    assert "delete 'x.h5ad' and 'x.h5ad.partial'" in refused(*arguments, "--overwrite")


@pytest.mark.parametrize(
    ("out", "message"), [("x.zarr", "with --stream it may end in .zarr"), ("d.h5ad", "is a folder")]
)
def test_a_name_that_cannot_be_written_is_refused_before_the_work(refused, cells, model_folder, tmp_path, out, message):
    (tmp_path / "d.h5ad").mkdir()
    assert message in refused("impute", model_folder, cells, "--out", out)


@pytest.mark.parametrize("command", ["train", "impute", "features"])
def test_a_zarr_store_points_to_stream(refused, screen_file, screen_model, command):
    store = screen_file.with_suffix(".zarr")
    arguments = {
        "train": ["train", store, "--model", "m"],
        "impute": ["impute", screen_model, store, "--out", "x.h5ad"],
        "features": ["features", screen_model, store, "--kind", "latent", "--out", "x.h5ad"],
    }
    assert "is a zarr store; pass --stream" in refused(*arguments[command])


def test_train_reads_from_disk_and_takes_all_kinds_of_keys(screen_model):
    model = CountsDiff.load(str(screen_model), adata=False)
    setup = model.registry["setup_args"]
    assert setup["categorical_covariate_keys"] == ["leiden"]
    assert setup["continuous_covariate_keys"] == ["dose"]
    assert (setup["perturbation_key"], setup["control"]) == ("drug", "none")
    assert (setup["layer"], setup["observed_layer"]) == ("counts", "seen")


def test_train_streams_h5ad_too(run, screen_file):
    arguments = ["train", screen_file, "--labels-key", "leiden", "--max-epochs", 1]
    for folder, stream in (("memory", []), ("disk", ["--stream"])):
        result = run(*arguments, "--model", folder, *stream)
        assert result.exit_code == 0, result.output
    counts = [CountsDiff.load_registry(folder)["field_registries"]["X"] for folder in ("memory", "disk")]
    np.testing.assert_allclose(*(field["state_registry"]["gene_mean"] for field in counts))


def test_no_bookkeeping_of_scvi_tools_is_written(run, cells, model_folder):
    assert run("impute", model_folder, cells, "--out", "x.h5ad").exit_code == 0
    found = anndata.read_h5ad("x.h5ad")
    names = [*found.obs, *found.uns, *found.obsm]
    assert "cell_type" in names
    assert not [name for name in names if name.startswith("_scvi")]


PLACES = {"expression": ("layers", "expression"), "latent": ("obsm", "X_sccountsdiff"), "bound": ("obs", "elbo")}


@pytest.mark.parametrize("kind", PLACES)
def test_features_are_the_same_in_memory_and_in_shards(run, screen_file, screen_model, kind):
    arguments = ["features", screen_model, "--kind", kind, "--batch-size", 32]
    result = run(*arguments, screen_file, "--out", "x.h5ad")
    assert result.exit_code == 0, result.output
    for part in (["--shard", "1/2"], ["--shard", "2/2"], ["--merge"]):
        result = run(*arguments, screen_file.with_suffix(".zarr"), "--out", "x.zarr", *part)
        assert result.exit_code == 0, result.output
    where, name = PLACES[kind]
    cells = anndata.read_h5ad("x.h5ad")
    assert "leiden" in cells.obs
    whole, parts = (np.asarray(getattr(found, where)[name]) for found in (cells, anndata.read_zarr("x.zarr")))
    np.testing.assert_allclose(parts, whole, rtol=1e-5)
