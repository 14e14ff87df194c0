"""Generation: conditions by name, integers out, the right library sizes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sccountsdiff import CountsDiff


def test_cells_of_a_type_express_its_genes(trained):
    cells = trained.generate({"cell_type": "monocyte"}, 200, seed=0)
    assert sp.issparse(cells.X)
    assert np.issubdtype(cells.X.dtype, np.integer)
    assert (cells.obs["cell_type"] == "monocyte").all()
    assert list(cells.var_names) == list(trained.adata.var_names)
    share = np.asarray(cells.X.mean(0)).ravel()
    assert set(np.argsort(-share)[:10]) == set(range(20, 30))
    note = cells.uns["sccountsdiff"]["generated"]
    assert note["n_steps"] == 20
    assert "monocyte" in note["condition"]


@pytest.mark.parametrize("start", [{}, {"start": "empirical", "n_steps": 4}], ids=["zeros", "empirical"])
def test_library_sizes_are_those_of_the_condition(trained, start):
    totals = np.asarray(trained.adata.layers["counts"].sum(1)).ravel()
    for batch in ("first", "second"):
        cells = trained.generate({"batch": batch}, 300, seed=0, **start)
        real = totals[(trained.adata.obs["batch"] == batch).to_numpy()]
        generated = np.asarray(cells.X.sum(1)).ravel()
        assert generated.mean() == pytest.approx(real.mean(), rel=0.12)
        assert generated.std() == pytest.approx(real.std(), rel=0.35)


def test_library_size_can_be_set(trained):
    for start in ({}, {"start": "empirical"}):
        cells = trained.generate(n_cells=100, library_size=400, seed=0, **start)
        assert np.asarray(cells.X.sum(1)).mean() == pytest.approx(400, rel=0.1)
    each = np.linspace(50, 500, 60)
    cells = trained.generate(n_cells=60, library_size=each, seed=0)
    assert np.corrcoef(np.asarray(cells.X.sum(1)).ravel(), each)[0, 1] > 0.9


def test_keys_left_out_follow_the_training_cells(trained):
    cells = trained.generate({"cell_type": "B cell", "donor": 7}, 400, seed=0)
    same = trained.adata.obs.iloc[trained.train_indices].query("cell_type == 'B cell' and donor == 7")
    assert set(cells.obs["dose"].round(4)) <= set(same["dose"].astype(np.float32).round(4))
    assert abs((cells.obs["batch"] == "first").mean() - (same["batch"] == "first").mean()) < 0.1
    assert cells.obsm["drug"].shape == (400, 5)


def test_without_condition_all_types_appear(trained):
    cells = trained.generate(n_cells=300, seed=0)
    assert set(cells.obs["cell_type"]) == {"B cell", "T cell", "monocyte"}
    assert trained.generate(seed=0).n_obs == len(trained.train_indices)


def test_many_conditions_at_once(trained):
    table = pd.DataFrame({"cell_type": ["B cell", "T cell"], "dose": [1.0, 9.0]})
    for conditions in (table, table.to_dict("records")):
        cells = trained.generate(conditions, [3, 5], seed=0)
        assert cells.obs["cell_type"].value_counts().to_dict() == {"B cell": 3, "T cell": 5, "monocyte": 0}
        assert cells.obs["dose"].tolist() == [1.0] * 3 + [9.0] * 5


def test_combinations_without_training_cells_get_the_null(adata, quick_train):
    data = adata[~((adata.obs["cell_type"] == "B cell") & (adata.obs["batch"] == "first"))].copy()
    CountsDiff.setup_anndata(
        data, layer="counts", batch_key="batch", labels_key="cell_type", categorical_covariate_keys=["donor"]
    )
    model = quick_train(CountsDiff(data, n_hidden=8), 1)
    cells = model.generate({"cell_type": "B cell", "batch": "first"}, 5, seed=0)
    assert cells.obs["donor"].isna().all()
    assert (cells.X.sum(1) > 0).all()
    with pytest.raises(ValueError, match="start='zeros'"):
        model.generate({"cell_type": "B cell", "batch": "first"}, 5, start="empirical")


def test_guidance_exaggerates_a_condition(trained):
    def contrast(guidance):
        cells = trained.generate({"cell_type": "B cell"}, 800, library_size=100, guidance=guidance, seed=0)
        mean = np.asarray(cells.X.mean(0)).ravel()
        return mean[:10].sum() / mean.sum()

    plain = contrast(1.0)
    assert plain < contrast(3.0) < contrast(6.0)
    assert contrast(6.0) > plain + 0.02
    assert contrast({"cell_type": 6.0}) > plain + 0.02
    assert contrast(0.0) < plain - 0.1


def test_guidance_needs_condition_dropout(adata, quick_train):
    CountsDiff.setup_anndata(adata, layer="counts", labels_key="cell_type")
    model = quick_train(CountsDiff(adata, n_hidden=8, condition_dropout=0.0), 1)
    with pytest.raises(ValueError, match="condition dropout"):
        model.generate({"cell_type": "B cell"}, 2, guidance=2.0)


@pytest.mark.parametrize("options", [{"attrition": 0.5}, {"births": "posterior"}, {"births": "binomial"}])
def test_other_walks_keep_the_mean(trained, options):
    cells = trained.generate(n_cells=200, library_size=100, seed=0, **options)
    assert np.asarray(cells.X.sum(1)).mean() == pytest.approx(100, rel=0.12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"condition": {"cell_type": "B-cell"}}, r"'B-cell' is no category.*categories: 'B cell'", id="value"
        ),
        pytest.param({"condition": {"celltype": "B cell"}}, "no condition key.*keys: 'cell_type'", id="key"),
        pytest.param({"condition": {"dose": "high"}}, "could not convert|finite number", id="text"),
        pytest.param({"condition": {"dose": np.nan}}, "finite number", id="nan"),
        pytest.param({"condition": {"drug": [1.0, 2.0]}}, "vector of length 5", id="vector"),
        pytest.param({"condition": {"cell_type": ["B cell", "T cell"]}}, "list of dictionaries", id="list"),
        pytest.param({"condition": []}, "empty", id="no conditions"),
        pytest.param({"n_cells": 0}, "at least 1", id="no cells"),
        pytest.param({"n_cells": [1, 2]}, "1 conditions", id="counts"),
        pytest.param({"library_size": -5}, "positive", id="library"),
        pytest.param({"library_size": [5, 6, 7]}, "shape", id="libraries"),
        pytest.param({"guidance": {"tissue": 2.0}}, "condition keys", id="guidance"),
        pytest.param({"births": "none"}, "Known names", id="births"),
        pytest.param({"attrition": 2.0}, "between 0", id="attrition"),
        pytest.param({"start": "ones"}, "'zeros' or 'empirical'", id="start"),
        pytest.param({"n_steps": 0}, "at least one step", id="steps"),
    ],
)
def test_wrong_requests_are_refused(trained, options, message):
    with pytest.raises(ValueError, match=message):
        trained.generate(**{"n_cells": 2, **options})


def test_generated_cells_can_be_given_back_to_the_model(trained):
    cells = trained.generate({"cell_type": "T cell"}, 20, seed=0)
    assert np.isfinite(trained.get_elbo(cells).nats)


def test_a_saved_model_generates_without_data(trained, tmp_path):
    trained.save(tmp_path / "model")
    alone = CountsDiff.load(tmp_path / "model", adata=False, accelerator="cpu")
    condition = {"cell_type": "B cell"}
    a, b = (m.generate(condition, 10, seed=4).X.toarray() for m in (trained, alone))
    np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="adata="):
        alone.generate(condition, 5, start="empirical")


def test_a_compiled_model_says_the_same_and_is_saved_as_it_was(trained, tmp_path):
    expected = trained.generate(n_cells=20, n_steps=3, seed=0).X
    trained.save(str(tmp_path / "model"))
    compiled = CountsDiff.load(str(tmp_path / "model"), adata=trained.adata, accelerator="cpu")
    compiled.compile(backend="eager")
    assert (compiled.generate(n_cells=20, n_steps=3, seed=0).X != expected).nnz == 0
    compiled.save(str(tmp_path / "again"))
    again = CountsDiff.load(str(tmp_path / "again"), adata=trained.adata, accelerator="cpu")
    assert (again.generate(n_cells=20, n_steps=3, seed=0).X != expected).nnz == 0


def test_attrition_is_a_number(trained):
    with pytest.raises(TypeError, match="attrition must be a number between 0 .* got 'much'"):
        trained.generate(n_cells=2, attrition="much")
