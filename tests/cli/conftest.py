"""Files for the commands, and a way to type them."""

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from sccountsdiff.cli import app


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    # One wide line, or messages are broken within words.
    runner = CliRunner(env={"COLUMNS": "400", "TERMINAL_WIDTH": "400", "NO_COLOR": "1"})

    def run(*arguments):
        return runner.invoke(app, [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="session")
def cells_file(tmp_path_factory):
    rng = np.random.default_rng(0)
    adata = anndata.AnnData(rng.poisson(2.0, (60, 8)).astype(np.float32))
    adata.obs["cell_type"] = pd.Categorical(np.repeat(["A", "B"], 30))
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    adata.write_h5ad(path)
    return path


@pytest.fixture(scope="session")
def model_folder(cells_file, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    arguments = ["train", str(cells_file), "--model", str(folder), "--labels-key", "cell_type", "--max-epochs", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def screen_file(tmp_path_factory):
    """Cells in clusters with numbers for names, a drug that one of them never met, and a dose."""
    rng = np.random.default_rng(1)
    adata = anndata.AnnData(rng.poisson(2.0, (80, 8)).astype(np.float32))
    adata.obs["leiden"] = pd.Categorical(np.repeat(["0", "1", "2"], [40, 20, 20]))
    adata.obs["drug"] = pd.Categorical(np.repeat(["none", "A", "none", "A", "none"], [20, 20, 10, 10, 20]))
    adata.obs["dose"] = np.where(adata.obs["drug"] == "A", 10.0, 0.0)
    adata.layers["counts"] = adata.X.copy()
    adata.layers["seen"] = np.ones(adata.shape, dtype=bool)
    path = tmp_path_factory.mktemp("screens") / "screen.h5ad"
    adata.write_h5ad(path)
    adata.write_zarr(path.with_suffix(".zarr"))
    return path


@pytest.fixture(scope="session")
def screen_model(screen_file, tmp_path_factory):
    """A model that ``train --stream`` made of a zarr store, with all kinds of keys."""
    folder = tmp_path_factory.mktemp("models") / "screen"
    arguments = ["train", str(screen_file.with_suffix(".zarr")), "--stream", "--model", str(folder)]
    arguments += ["--layer", "counts", "--observed-layer", "seen", "--categorical-covariate-keys", "leiden"]
    arguments += ["--perturbation-key", "drug", "--control", "none", "--continuous-covariate-keys", "dose"]
    result = CliRunner().invoke(app, [*arguments, "--max-epochs", "1"])
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def refused(run):
    """Type a command that ends with a message, which is returned in one line."""

    def refused(*arguments):
        result = run(*arguments)
        assert result.exit_code == 2, result.output
        assert "Traceback" not in result.output
        return " ".join(result.output.replace("│", " ").split())

    return refused
