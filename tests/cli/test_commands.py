"""The commands as a user types them."""

import anndata
import numpy as np
import pandas as pd
import pytest

from sccountsdiff import DCM


def test_help_names_every_command(run):
    output = run("--help").output
    assert all(
        command in output
        for command in ("quickstart", "train", "impute", "generate", "features", "report", "export", "info")
    )


def test_info_names_version_and_device(run):
    result = run("info")
    assert result.exit_code == 0
    assert "sccountsdiff" in result.output
    assert "Models train on" in result.output


def test_impute_writes_the_layer_and_leaves_the_counts(run, cells_file, model_folder, tmp_path):
    result = run("impute", model_folder, cells_file, "--out", tmp_path / "new" / "imputed.h5ad")
    assert result.exit_code == 0, result.output
    imputed = anndata.read_h5ad(tmp_path / "new" / "imputed.h5ad")
    assert imputed.layers["imputed"].shape == imputed.shape
    np.testing.assert_array_equal(imputed.X, anndata.read_h5ad(cells_file).X)


def test_impute_takes_several_quantiles(run, cells_file, model_folder, tmp_path):
    result = run("impute", model_folder, cells_file, "--out", "q.h5ad", "--quantiles", 0.1, "--quantiles", 0.9)
    assert result.exit_code == 0, result.output
    assert {"imputed_q0.1", "imputed_q0.9"} <= set(anndata.read_h5ad(tmp_path / "q.h5ad").layers)


@pytest.mark.parametrize(("depth", "deeper"), [("2x", 2.0), ("1000000", 100.0)])
def test_impute_recovers_depth(run, cells_file, model_folder, tmp_path, depth, deeper):
    result = run("impute", model_folder, cells_file, "--out", "deep.h5ad", "--target-depth", depth)
    assert result.exit_code == 0, result.output
    cells = anndata.read_h5ad(tmp_path / "deep.h5ad")
    assert cells.layers["imputed"].sum() > 0.8 * deeper * cells.X.sum()


def test_generate_writes_cells_of_the_condition(run, model_folder, tmp_path):
    result = run("generate", model_folder, "--out", "new.h5ad", "--condition", "cell_type=B", "--n-cells", 7)
    assert result.exit_code == 0, result.output
    cells = anndata.read_h5ad(tmp_path / "new.h5ad")
    assert cells.n_obs == 7
    assert set(cells.obs["cell_type"]) == {"B"}


def test_shards_make_the_file_of_one_process(run, cells_file, model_folder, tmp_path):
    arguments = ["impute", model_folder, cells_file, "--n-samples", 1, "--batch-size", 16]
    for part in (["--shard", "1/2"], ["--shard", "2/2"], ["--merge"]):
        result = run(*arguments, "--out", "shards.zarr", *part)
        assert result.exit_code == 0, result.output
    assert run(*arguments, "--out", "memory.h5ad").exit_code == 0
    drawn = [anndata.read_zarr("shards.zarr").layers["imputed"], anndata.read_h5ad("memory.h5ad").layers["imputed"]]
    np.testing.assert_array_equal(*(layer if isinstance(layer, np.ndarray) else layer.toarray() for layer in drawn))


def test_generated_cells_are_streamed(run, model_folder):
    arguments = ["generate", model_folder, "--n-cells", 20, "--n-steps", 2, "--batch-size", 8]
    assert "This part is done" in run(*arguments, "--out", "cells.zarr", "--shard", "1/2").output
    assert "shard '2/2'" in run(*arguments, "--out", "cells.zarr", "--merge").output
    result = run(*arguments, "--out", "cells.zarr", "--stream")  # one process completes the work of another
    assert result.exit_code == 0, result.output
    assert run(*arguments, "--out", "memory.h5ad").exit_code == 0
    found, made = anndata.read_zarr("cells.zarr"), anndata.read_h5ad("memory.h5ad")
    np.testing.assert_array_equal(found.X.toarray(), made.X.toarray())


def test_report_prints_its_verdict_and_where_it_is(run, cells_file, model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sccountsdiff.report._imputation_figures.exhibits", lambda *_: iter(()))
    arguments = ["--kind", "imputation", "--out", "new/report.html", "--held-out", cells_file]
    result = run("report", model_folder, cells_file, *arguments)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "new" / "report.html").read_text()
    assert result.output.splitlines()[0] in page
    assert "held-out molecules: better than the gene mean" in result.output


def test_commands_take_masked_diffusion_too(run, cells_file, tmp_path):
    adata = anndata.read_h5ad(cells_file)
    DCM.setup_anndata(adata)
    model = DCM(adata, n_hidden=8)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    model.save(str(tmp_path / "dcm"))
    result = run("generate", tmp_path / "dcm", "--out", "new.h5ad", "--n-cells", "5", "--n-steps", "2")
    assert result.exit_code == 0, result.output
    assert anndata.read_h5ad(tmp_path / "new.h5ad").n_obs == 5


def test_models_of_others_are_named(run, model_folder, monkeypatch):
    monkeypatch.setattr("sccountsdiff.CountsDiff.load_registry", lambda _: {"model_name": "SCVI"})
    result = run("generate", model_folder, "--out", "new.h5ad")
    assert result.exit_code == 2
    assert "holds a SCVI; the commands take a CountsDiff or a DCM" in result.output


def test_export_writes_a_pair_of_files(run, cells_file, tmp_path):
    arguments = ["--perturbation-key", "cell_type", "--control", "A", "--out", "pair"]
    result = run("export", cells_file, cells_file, *arguments)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "pair").iterdir()} == {"predicted.h5ad", "real.h5ad"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "no.h5ad", "--model", "m"], "'no.h5ad' does not exist. Files of that kind in '.': cells.h5ad"),
        (["train", ".", "--model", "m"], "'.' is a folder, not a file"),
        (["train", "cells.h5ad", "--model", "m", "--labels-key", "typ"], "typ"),
        (["train", "cells.h5ad", "--model", "taken"], "'taken' exists; choose another folder, or pass --overwrite"),
        (["impute", "m", "cells.h5ad", "--out", "x.h5ad"], "'m' holds no model"),
        (["impute", "MODEL", "cells.h5ad", "--out", "x.h5ad", "--target-depth", "0.5x"], "no fold of at least 1"),
        (["generate", "MODEL", "--out", "x.h5ad", "--condition", "cell_type=C"], "C"),
        (["generate", "MODEL", "--out", "x.h5ad", "--condition", "cell_type"], "not of the form KEY=VALUE"),
        (["impute", "MODEL", "cells.h5ad", "--out", "x.zarr", "--shard", "3"], "is not of the form I/N, such as 3/8"),
        (["impute", "MODEL", "cells.h5ad", "--out", "x.zarr", "--shard", "3/2"], "Shard 3/2 does not exist"),
        (["impute", "MODEL", "cells.h5ad", "--out", "x.zarr", "--shard", "1/2", "--merge"], "pass one of them"),
        (["impute", "MODEL", "cells.loom", "--out", "x.zarr", "--stream"], "must end in .h5ad or .zarr"),
        (["report", "MODEL", "cells.h5ad", "--kind", "imputation"], "There are 3 held-out cells"),
        (["report", "MODEL", "cells.h5ad", "--kind", "imputation", "--condition", "a=b"], "pass --kind generation"),
        (["quickstart", "--out", "cells.h5ad"], "'cells.h5ad' is a file; choose the name of a folder"),
    ],
    ids=["missing", "folder", "column", "taken", "no-model", "depth", "category", "condition"]
    + ["shard", "no-shard", "shard-and-merge", "ending", "held-out", "kind", "out"],
)
def test_mistakes_end_with_a_message_and_no_traceback(run, cells_file, model_folder, tmp_path, arguments, message):
    (tmp_path / "cells.h5ad").write_bytes(cells_file.read_bytes())
    (tmp_path / "taken").mkdir()
    result = run(*(str(model_folder) if argument == "MODEL" else argument for argument in arguments))
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output


@pytest.mark.slow  # trains, and compiles UMAP
def test_quickstart_leaves_layers_cells_scores_report_and_model(run, tmp_path):
    result = run("quickstart", "--out", "results", "--max-epochs", 2)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "results"
    adata = anndata.read_h5ad(folder / "pbmc68k_sccountsdiff.h5ad")
    assert {"counts", "imputed", "imputed_q0.05", "imputed_q0.95"} <= set(adata.layers)
    assert not any(name.startswith("_scvi") for name in (*adata.obs, *adata.uns))
    generated = anndata.read_h5ad(folder / "generated_cells.h5ad")
    assert set(generated.obs["cell_type"]) == {"Dendritic", "CD19+ B"}
    scores = pd.read_csv(folder / "scores.csv")
    assert scores[["sccountsdiff", "baseline", "floor"]].notna().all(axis=None)
    assert (folder / "report.html").read_text().count("data:image/png") == 5
    assert (folder / "model" / "model.pt").is_file()
