"""Perturbations: names taken apart, sets that were never seen, vectors by name."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi

from sccountsdiff import CountsDiff
from sccountsdiff.model import _stages
from sccountsdiff.model._population import Population
from sccountsdiff.sampling import fit_transport

GENES = 24
EFFECTS = {"control": (), "IFN": (0, 1, 2), "TNF": (3, 4, 5)}


def make_study(seed: int = 0, per_group: int = 16, lost: tuple[tuple[str, str], ...] = ()) -> ad.AnnData:
    """Four cell types x (control, IFN, TNF, IFN+TNF); each perturbation raises three genes sixfold in every type."""
    rng = np.random.default_rng(seed)
    types = ["B cell", "T cell", "NK", "monocyte"]
    rows = [(t, p) for t in types for p in (*EFFECTS, "IFN+TNF") if (t, p) not in lost for _ in range(per_group)]
    obs = pd.DataFrame(rows, columns=["cell_type", "drug"], index=[f"cell_{i}" for i in range(len(rows))])
    profile = np.ones((len(rows), GENES))
    for k, name in enumerate(types):
        profile[obs["cell_type"] == name, 6 + 4 * k : 10 + 4 * k] = 6.0
    for drug, genes in EFFECTS.items():
        given = obs["drug"].str.split("+").map(lambda names, drug=drug: drug in names).to_numpy()
        profile[np.ix_(given, np.array(genes, dtype=int))] *= 6
    rate = profile / profile.sum(1, keepdims=True) * rng.gamma(20, 10, (len(rows), 1))
    var = pd.DataFrame(index=[f"gene_{g}" for g in range(GENES)])
    return ad.AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)), obs=obs, var=var)


SETUP = {"labels_key": "cell_type", "perturbation_key": "drug", "control": "control"}


@pytest.fixture
def study() -> ad.AnnData:
    """A fresh copy of the study."""
    return make_study()


def codes_and_source(adata, **setup):
    CountsDiff.setup_anndata(adata, **{**SETUP, **setup})
    model = CountsDiff(adata, n_hidden=8)
    (source,) = (source for source in model._sources if source.name == "drug")
    return adata.obs["_scvi_perturbation"].to_numpy(), source


def test_names_are_taken_apart_and_put_together(study):
    codes, source = codes_and_source(study)
    assert set(source.categories) == set(EFFECTS)
    assert list(source.names.column(codes)) == list(study.obs["drug"])
    for same in ("TNF+IFN", "IFN+TNF", "control+IFN+TNF", "IFN+TNF+TNF"):
        assert source.names.code(same, "drug") == source.names.code("IFN+TNF", "drug")
    assert source.names.code("control", "drug") != source.names.code("IFN", "drug")


def test_without_separator_a_name_is_a_name(study):
    _, source = codes_and_source(study, perturbation_separator=None)
    assert set(source.categories) == {*EFFECTS, "IFN+TNF"}
    with pytest.raises(ValueError, match=r"'TNF\+IFN' is no category of 'drug'.*'IFN\+TNF'"):
        source.names.code("TNF+IFN", "drug")


def test_vectors_are_found_by_name(study):
    rng = np.random.default_rng(0)
    vectors = {name: rng.normal(size=5) for name in ("LPS", "TNF", "IFN")}
    codes, source = codes_and_source(study, perturbation_embeddings=vectors)
    assert source.key.vectors.shape == (4, 5)
    for name, vector in vectors.items():
        position = list(source.categories).index(name)
        np.testing.assert_allclose(source.key.vectors[position], vector, rtol=1e-6)
    assert (source.key.vectors[list(source.categories).index("control")] == 0).all()
    assert list(source.names.column(codes)) == list(study.obs["drug"])
    assert source.names.code("LPS+IFN", "drug") > 0


def test_codes_of_large_combinations_are_remembered():
    codes = np.array([3, 2**40])
    population = Population.of(np.arange(2), np.ones(2), {"drug": codes})
    assert population.matching({"drug": 2**40}, ["drug"]).tolist() == [1]
    assert Population.of(np.arange(2), np.ones(2), {"drug": codes[:1]}).values["drug"].dtype == np.int32


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        pytest.param(
            {"control": "vehicle"}, "control 'vehicle' is no perturbation.*'IFN', 'TNF', 'control'", id="control"
        ),
        pytest.param({"perturbation_embeddings": {"IFN": [1.0]}}, "no vector for 'TNF'", id="missing"),
        pytest.param({"perturbation_embeddings": {"IFN": [1.0], "TNF": [1.0, 2.0]}}, "one length", id="length"),
        pytest.param({"perturbation_embeddings": {"IFN": [1.0], "TNF": [np.nan]}}, "infinite .*'TNF'", id="nan"),
        pytest.param({"perturbation_key": None}, "describe the perturbation_key", id="no key"),
    ],
)
def test_wrong_setups_are_refused(study, setup, message):
    with pytest.raises(ValueError, match=message):
        CountsDiff.setup_anndata(study, **{**SETUP, **setup})


def test_an_empty_part_is_refused(study):
    study.obs["drug"] = study.obs["drug"].replace("TNF", "TNF+")
    with pytest.raises(ValueError, match=r"'TNF\+' has an empty part.*perturbation_separator"):
        CountsDiff.setup_anndata(study, **SETUP)


def test_other_data_may_hold_new_combinations_but_no_new_names(study):
    CountsDiff.setup_anndata(study, **SETUP)
    model = CountsDiff(study, n_hidden=8)
    other = make_study(1)
    other.obs["drug"] = other.obs["drug"].replace("IFN+TNF", "TNF+IFN")
    with model._using(other):
        assert set(other.obs["_scvi_perturbation"]) == set(study.obs["_scvi_perturbation"])
    other = make_study(1)
    other.obs["drug"] = other.obs["drug"].replace("TNF", "LPS")
    with pytest.raises(ValueError, match="does not know: 'LPS'"), model._using(other):
        pass


def test_changed_perturbations_are_noticed(study):
    CountsDiff.setup_anndata(study, **SETUP)
    model = CountsDiff(study, n_hidden=8)
    study.obs["drug"] = study.obs["drug"].replace("TNF", "IFN")
    with pytest.raises(ValueError, match=r"obs\['drug'\] was changed after setup_anndata, in 64 cells"):
        model._validate_anndata(study)


LOST = ("monocyte", "TNF")


@pytest.fixture(scope="module")
def screen(quick_train) -> CountsDiff:
    """A model of the study without one combination."""
    scvi.settings.seed = 0
    data = make_study(lost=(LOST,))
    CountsDiff.setup_anndata(data, **SETUP)
    return quick_train(CountsDiff(data, n_hidden=32, dropout=0.0), 30, plan_kwargs={"lr": 3e-3})


def profile(cells) -> np.ndarray:
    """Share of each gene."""
    return np.asarray(cells.X.sum(0)).ravel() / cells.X.sum()


def true_cells(cell_type="monocyte", drug="TNF") -> ad.AnnData:
    """Real cells of a combination."""
    study = make_study(5, per_group=100)
    return study[(study.obs["cell_type"] == cell_type) & (study.obs["drug"] == drug)]


ASKED = {"cell_type": "monocyte", "drug": "TNF"}


def test_what_was_never_measured_is_forecast(screen):
    cells = screen.generate(ASKED, 100, seed=0)
    note = cells.uns["sccountsdiff"]["generated"]
    assert note["approach"] == "forecast"
    assert note["forecast_held_out_pearson"] > 0.8
    assert (cells.obs["drug"] == "TNF").all()
    assert np.issubdtype(cells.X.dtype, np.integer)
    truth, control = profile(true_cells()), profile(true_cells(drug="control"))
    generated = profile(cells)
    assert np.corrcoef(generated - control, truth - control)[0, 1] > 0.9
    totals = np.asarray(cells.X.sum(1)).ravel()
    assert totals.mean() == pytest.approx(cells.obs["requested_library_size"].mean(), rel=0.05)


@pytest.mark.parametrize(("n_cells", "n_fitted"), [(3, 512), (700, 700), (1100, 1024)])
def test_a_transport_is_found_by_the_cells_that_are_moved(screen, monkeypatch, n_cells, n_fitted):
    found = []

    def spy(x_0, *args, **kwargs):
        found.append(len(x_0))
        return fit_transport(x_0, *args, **kwargs)

    monkeypatch.setattr(_stages, "fit_transport", spy)
    assert screen.generate(ASKED, n_cells, method="forecast", n_steps=2, seed=0).n_obs == n_cells
    assert found == [n_fitted]


def test_a_forecast_is_trusted_as_far_as_it_predicts_what_is_left_out(screen, monkeypatch):
    """Without trust the profile is that of cells told the whole condition, with all of it that of the forecast."""
    own = profile(screen.generate(ASKED, 400, method="joint", seed=1))
    found = []
    for trust in (0.0, 1.0, float("nan")):
        monkeypatch.setattr("sccountsdiff.conditioning.Forecast._held_out_pearson", lambda _, trust=trust: trust)
        found.append(profile(screen.generate(ASKED, 400, method="forecast", seed=0)))
    distance = [np.abs(one - own).mean() for one in found]
    assert distance[0] < 0.6 * distance[1]
    np.testing.assert_array_equal(found[1], found[2])


def test_measured_conditions_are_told_to_the_model(screen):
    cells = screen.generate({"cell_type": "NK", "drug": "TNF"}, 5, seed=0)
    assert cells.uns["sccountsdiff"]["generated"]["approach"] == "joint"


def test_a_contrast_moves_the_control_of_the_context(screen):
    cells = screen.generate(ASKED, 100, method="contrast", seed=0)
    assert profile(cells)[18:22].sum() > profile(true_cells("NK"))[18:22].sum() + 0.1
    with pytest.raises(ValueError, match="one guidance scale"):
        screen.generate(ASKED, 2, method="contrast", guidance={"drug": 2.0})


def test_combinations_never_seen_together_can_be_asked_for(quick_train):
    data = make_study(lost=tuple((t, "IFN+TNF") for t in ("B cell", "T cell", "NK", "monocyte")))
    CountsDiff.setup_anndata(data, **SETUP)
    model = quick_train(CountsDiff(data, n_hidden=8), 2)
    cells = model.generate({"cell_type": "NK", "drug": "TNF+IFN"}, 60, seed=0)
    assert (cells.obs["drug"] == "IFN+TNF").all()
    assert profile(cells)[:6].sum() > 0.25  # both sets of genes went up; 6 of 24 genes without any perturbation
    table = pd.DataFrame({"cell_type": ["NK", "B cell"], "drug": ["IFN+TNF", "IFN"]})
    both = model.generate(table, seed=0)
    assert both.obs["drug"].tolist() == ["IFN+TNF", "IFN"]
    assert both.uns["sccountsdiff"]["generated"]["approach"] == "forecast, joint"


def test_perturbations_without_cells_need_a_vector(quick_train, tmp_path):
    vectors = {"IFN": [1.0, 0.0], "TNF": [0.0, 1.0], "IFN-like": [0.95, 0.0]}
    data = make_study()
    CountsDiff.setup_anndata(data, **SETUP, perturbation_embeddings=vectors)
    model = quick_train(CountsDiff(data, n_hidden=8), 2)
    cells = model.generate({"cell_type": "NK", "drug": "IFN-like"}, 60, seed=0)
    control = profile(true_cells("NK", "control"))
    assert profile(cells)[:3].sum() > control[:3].sum() + 0.1
    assert profile(cells)[3:6].sum() < control[3:6].sum() + 0.05
    with pytest.raises(ValueError, match="'LPS' is no category of 'drug'"):
        model.generate({"cell_type": "NK", "drug": "LPS"}, 2)
    model.save(tmp_path / "model")
    loaded = CountsDiff.load(tmp_path / "model", adata=data, accelerator="cpu")
    again = loaded.generate({"cell_type": "NK", "drug": "IFN-like"}, 60, seed=0)
    np.testing.assert_array_equal(again.X.toarray(), cells.X.toarray())


def test_the_same_cells_under_another_condition(screen):
    control = screen.adata[(screen.adata.obs["cell_type"] == "monocyte") & (screen.adata.obs["drug"] == "control")]
    control = control.copy()
    moved = screen.generate({"drug": "TNF"}, from_adata=control, strength=0.0, seed=0)
    assert moved.uns["sccountsdiff"]["generated"]["approach"] == "forecast"
    assert list(moved.obs_names) == list(control.obs_names)
    assert (moved.obs["cell_type"] == "monocyte").all()
    raised, before = profile(moved)[3:6].sum(), profile(control)[3:6].sum()
    assert raised > 2 * before
    correlation = np.corrcoef(np.asarray(moved.X[:, 6:].todense()).ravel(), control.X[:, 6:].toarray().ravel())[0, 1]
    assert correlation > 0.8
    anew = screen.generate({"drug": "TNF"}, from_adata=control, method="forecast", strength=1.0, seed=0)
    assert (
        np.corrcoef(np.asarray(anew.X[:, 6:].todense()).ravel(), control.X[:, 6:].toarray().ravel())[0, 1] < correlation
    )


def test_cells_can_be_moved_to_a_given_profile(screen):
    wanted = pd.Series({"gene_0": 7.0, "gene_20": 4.0})
    cells = screen.generate({"cell_type": "NK", "drug": "control"}, 500, profile=wanted, seed=0)
    mean = np.log1p(1e4 * cells.X.toarray() / cells.X.sum(1)).mean(0).A1
    assert mean[0] == pytest.approx(7.0, abs=0.1)
    assert mean[20] == pytest.approx(4.0, abs=0.3)  # 100 cells may be .4 away by chance


def test_counterfactuals_go_to_a_layer(screen):
    cells = make_study(3, per_group=2)
    assert screen.generate({"drug": "IFN"}, from_adata=cells, strength=0.5, layer_added="with_IFN", seed=0) is None
    assert cells.layers["with_IFN"].shape == cells.shape
    assert cells.uns["sccountsdiff"]["with_IFN"]["start"] == "from_adata"
    each = [{"drug": drug} for drug in cells.obs["drug"]]
    same = screen.generate(each, from_adata=cells, strength=0.0, method="joint", seed=0)
    np.testing.assert_array_equal(same.X.toarray(), cells.X.toarray())


def test_library_sizes_of_other_cells(screen):
    deep = make_study(4, per_group=4)
    deep.X = deep.X * 5
    cells = screen.generate({"cell_type": "NK", "drug": "IFN"}, 50, library_size=deep, seed=0)
    assert set(cells.obs["requested_library_size"]) <= set(np.asarray(deep.X.sum(1)).ravel())
    assert np.asarray(cells.X.sum(1)).mean() == pytest.approx(np.asarray(deep.X.sum(1)).mean(), rel=0.2)
    with pytest.raises(ValueError, match="genes"):
        screen.generate(ASKED, 2, library_size=deep[:, :5].copy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"method": "guess"}, "method must be one of.*'contrast', 'forecast'", id="method"),
        pytest.param({"condition": {"cell_type": "NK"}, "method": "forecast"}, "name 'drug'", id="no perturbation"),
        pytest.param({"condition": {"drug": "IFN+LPS"}}, "'LPS' is no category", id="part"),
        pytest.param({"guidance": -1.0}, "between 0", id="guidance"),
        pytest.param({"profile": pd.Series({"gene_x": 1.0})}, "does not know: 'gene_x'", id="gene"),
        pytest.param({"profile": pd.Series([1.0, 2.0], ["gene_0"] * 2)}, "more than once: 'gene_0'", id="twice"),
        pytest.param({"profile": pd.Series({"gene_0": -1.0})}, "at least 0; it is not for 'gene_0'", id="negative"),
        pytest.param({"layer_added": "new"}, "from_adata, which was not given", id="layer"),
        pytest.param({"from_adata": make_study(1, 1), "n_cells": 2}, "leave out n_cells", id="both"),
        pytest.param(
            {"from_adata": make_study(1, 1), "n_cells": None, "strength": 1.5}, "strength must lie", id="strength"
        ),
        pytest.param(
            {"from_adata": make_study(1, 1), "n_cells": None, "condition": [{}] * 3}, "3 conditions for 16", id="rows"
        ),
    ],
)
def test_wrong_requests_are_refused(screen, options, message):
    with pytest.raises(ValueError, match=message):
        screen.generate(**{"condition": ASKED, "n_cells": 2, **options})


def test_a_forecast_needs_a_control(quick_train):
    data = make_study(lost=(("NK", "control"), ("NK", "TNF")))
    CountsDiff.setup_anndata(data, **SETUP)
    model = quick_train(CountsDiff(data, n_hidden=8), 1)
    asked = {"cell_type": "NK", "drug": "TNF"}
    with pytest.raises(ValueError, match="hold no control cells of {'cell_type': 'NK'}"):
        model.generate(asked, 2, method="forecast")
    assert model.generate(asked, 2, seed=0).uns["sccountsdiff"]["generated"]["approach"] == "joint"
    CountsDiff.setup_anndata(data, labels_key="cell_type", perturbation_key="drug")
    model = quick_train(CountsDiff(data, n_hidden=8), 1)
    with pytest.raises(ValueError, match="perturbation_key= and control="):
        model.generate(asked, 2, method="forecast")


def test_a_forecast_needs_the_training_data(screen, tmp_path):
    screen.save(tmp_path / "model")
    alone = CountsDiff.load(tmp_path / "model", adata=False, accelerator="cpu")
    assert alone.generate(ASKED, 2, seed=0).uns["sccountsdiff"]["generated"]["approach"] == "joint"
    with pytest.raises(ValueError, match="needs the training data"):
        alone.generate(ASKED, 2, method="forecast")
