"""Reports on a trained model: what they say when it is good, and that they warn when it is not."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

from types import SimpleNamespace

import anndata
import numpy as np
import pytest
from mudata import MuData

from sccountsdiff import CountsDiff, report
from sccountsdiff.report._contest import CellSet, Contest
from sccountsdiff.report._responses import effects_of, reference_cells, responses
from sccountsdiff.report._shift import Effects


@pytest.fixture
def new_cells(make_adata):
    """Cells of the population that the model was trained on, which it has not seen."""
    return make_adata(seed=1, n_cells=90)


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    """Small forests, coarse figures, and no UMAP, which compiles for many seconds: any positions will do."""

    def place(cells, **_):
        cells.obsm["X_umap"] = np.zeros((cells.n_obs, 2))

    monkeypatch.setattr("scanpy.pp.neighbors", lambda *_, **__: None)
    monkeypatch.setattr("scanpy.tl.umap", place)
    monkeypatch.setattr("sccountsdiff.metrics.classifiers.N_TREES", 5)
    monkeypatch.setattr("sccountsdiff.report._page.DPI", 20)
    monkeypatch.setattr(
        "sccountsdiff.pl._embedding._project",
        lambda layers, generated, n_pcs, seed: [np.zeros((part.shape[0], 2)) for part in (*layers, *generated)],
    )


def test_imputation_is_scored_beside_baselines_and_the_verdict_comes_first(trained, new_cells, tmp_path):
    before = new_cells.layers["counts"].copy()
    written = report.imputation(trained, tmp_path / "new" / "report.html", adata=new_cells)
    page = written.path.read_text()
    scores = written.scores.set_index(["question", "metric"])
    assert written.passed
    molecules = scores.loc[("held-out molecules", "poisson_deviance")]
    assert molecules["floor"] * 0.9 < molecules["sccountsdiff"] < molecules["gene mean"]
    assert scores.loc[("calibration", "coverage_error"), "sccountsdiff"] < 0.06
    assert page.index(written.verdict.headline) < page.index("Scores")
    assert page.count("data:image/png") == 5
    assert "Do not use these imputed values" not in page
    assert (new_cells.layers["counts"] != before).nnz == 0


def test_imputation_that_is_no_better_than_the_gene_mean_opens_with_a_warning(
    trained, new_cells, tmp_path, monkeypatch
):
    honest = trained.impute
    # Predictions for other cells than those asked about: right on average, and wrong in detail.
    monkeypatch.setattr(trained, "impute", lambda *args, **kwargs: np.roll(honest(*args, **kwargs), 7, axis=1))
    monkeypatch.setattr("sccountsdiff.report._imputation_figures.exhibits", lambda *_: iter(()))
    written = report.imputation(trained, tmp_path / "report.html", adata=new_cells)
    assert not written.passed
    page = written.path.read_text()
    assert "<div class='verdict bad'>" in page
    assert page.index("Do not use these imputed values") < page.index("<h2>Scores")
    assert "hidden entries: better than the conditional mean" in page


def test_generation_is_scored_in_tiers_beside_floor_and_controls(trained, new_cells, tmp_path):
    written = report.generation(trained, tmp_path / "report.html", adata=new_cells, n_steps=5)
    scores = written.scores.set_index("metric")
    assert list(dict.fromkeys(written.scores["question"])) == [
        "counts",
        "cells as a whole",
        "conditions",
        "novelty",
        "responses",
    ]
    assert scores.loc["ot_w2", "floor"] < scores.loc["ot_w2", "mean profile"]
    assert scores.loc["label_transfer_accuracy", "sccountsdiff"] > scores.loc["label_transfer_accuracy", "mean profile"]
    assert scores.loc["pearson_delta", "sccountsdiff"] > 0.8 > scores.loc["pearson_delta", "nearest other"]
    page = written.path.read_text()
    assert "n_steps=5" in page
    assert page.count("data:image/png") == 5


def test_generation_can_be_judged_for_one_condition(trained, new_cells, tmp_path, monkeypatch):
    monkeypatch.setattr("sccountsdiff.report._generation_figures.exhibits", lambda *_: iter(()))
    written = report.generation(
        trained, tmp_path / "report.html", adata=new_cells, condition={"cell_type": "B cell"}, n_steps=3
    )
    assert "conditions" not in set(written.scores["question"])
    assert "cell_type: 1 with at least 10 held-out cells" in written.path.read_text()
    with pytest.raises(ValueError, match="No condition has 10 held-out cells"):
        report.generation(trained, "x.html", adata=new_cells, condition={"cell_type": "NK cell"})


@pytest.mark.parametrize("kind", [report.imputation, report.generation])
def test_reports_say_what_they_need(trained, new_cells, model, kind, monkeypatch):
    with pytest.raises(ValueError, match=r"4 held-out cells \(given: adata=\); a report needs at least 10"):
        kind(trained, "x.html", adata=new_cells[:4])
    with pytest.raises(KeyError, match="No column 'tissue' in obs"):
        kind(trained, "x.html", adata=new_cells, groupby="tissue")
    monkeypatch.setattr(model, "_adata", None)
    with pytest.raises(ValueError, match="load the model with adata="):
        kind(model, "x.html")


def test_reports_refuse_several_modalities(new_cells):
    parts = {name: anndata.AnnData(new_cells.layers["counts"], obs=new_cells.obs[[]]) for name in ("rna", "adt")}
    for name, part in parts.items():
        part.var_names = [f"{name}{k}" for k in range(part.n_vars)]
    mdata = MuData(parts)
    CountsDiff.setup_mudata(mdata, modalities={"rna": None, "adt": None})
    with pytest.raises(ValueError, match="this one has several"):
        report.imputation(CountsDiff(mdata, n_hidden=8), "x.html")


@pytest.fixture
def effects():
    """Two groups, two drugs; in T cells both genes change, in opposite ways."""
    labels = ["B / ctrl", "B / IFN", "T / ctrl", "T / IFN", "T / TNF"]
    counts = np.array([[10, 10, 80], [99, 99, 99], [20, 20, 60], [40, 10, 50], [10, 40, 50]]) * 1000.0
    return Effects(CellSet(counts, np.array(labels)), 1, "ctrl")


def test_responses_start_from_the_control_of_the_same_group(effects):
    contest = Contest(["cell_type", "stim"], effects.train, effects.train, {}, None)
    setup = {"control": "ctrl", "perturbation_key": "stim"}
    model = SimpleNamespace(registry={"setup_args": setup})
    found = effects_of(SimpleNamespace(model=model), contest)
    assert (found.place, found.control) == (1, "ctrl")
    reference = reference_cells(contest, found)
    assert {name: counts[0, 0] for name, counts in reference.items()} == {
        "B / IFN": 10_000,
        "T / IFN": 20_000,
        "T / TNF": 20_000,
    }
    setup["control"] = None
    assert effects_of(SimpleNamespace(model=model), contest) is None


def test_the_mean_shift_is_what_the_perturbation_does_elsewhere(effects):
    np.testing.assert_allclose(effects.shifted_control("B / IFN", 0), [[20_000, 5_000, 66_667]], atol=2)
    # TNF was not measured in other groups: what other drugs do in the same one.
    np.testing.assert_allclose(effects.shifted_control("T / TNF", 0), [[40_000, 10_000, 50_000]], atol=2)


def test_responses_stand_beside_control_and_mean_shift(effects):
    rng = np.random.default_rng(0)
    drawn = CellSet(rng.poisson(np.repeat(effects.train.counts / 100, 30, axis=0)), np.repeat(effects.train.labels, 30))
    contest = Contest(["cell_type", "stim"], drawn, drawn, {"sccountsdiff": drawn, "floor": drawn}, None)
    scores = responses("q", contest, reference_cells(contest, effects), effects._replace(train=drawn))
    scores = scores.set_index("metric")
    assert scores.loc["pearson_delta", "floor"] == pytest.approx(1)
    assert scores.loc["pearson_delta", "control"] == 0
    assert scores.loc["mse_delta", "mean shift"] > scores.loc["mse_delta", "sccountsdiff"]


def test_without_an_elsewhere_the_mean_shift_is_the_control(effects):
    alone = effects._replace(train=effects.train.rows(np.array([0, 1])))
    np.testing.assert_array_equal(alone.shifted_control("B / IFN", 0), [[10_000, 10_000, 80_000]])


def test_the_additive_baseline_sums_what_the_parts_do_alone(effects):
    combined = effects._replace(separator="+")
    assert not combined.has_combinations(["T / IFN"])
    assert combined.has_combinations(["T / IFN", "T / IFN+TNF"])
    expected = np.array([20.0, 20, 60]) * [2 * 0.5, 0.5 * 2, (50 / 60) ** 2] * 1000
    np.testing.assert_allclose(combined.summed_control("T / IFN+TNF", 0), [expected], atol=2)
    # Measured in another group only, or nowhere.
    np.testing.assert_allclose(combined.summed_control("B / TNF+new", 0), [[5_000, 20_000, 66_667]], atol=2)
    drawn = effects.train.rows(np.repeat(np.arange(5), 2))
    contest = Contest(["cell_type", "stim"], drawn, drawn, {"sccountsdiff": drawn, "floor": drawn}, None)
    scores = responses("q", contest, reference_cells(contest, effects), combined._replace(train=drawn))
    assert "additive" not in scores.columns, "there is no combination to predict"


def test_a_condition_of_one_cell_is_nobodys_nearest_other(effects):
    basis = effects.train.rows(np.array([0, 0, 1, 1, 2]))  # one cell of "T / ctrl", which is like "B / ctrl"
    cells = Contest(["cell_type", "stim"], basis, basis, {}, None)
    np.testing.assert_array_equal(cells.nearest_other("B / ctrl"), basis.of("B / IFN"))
