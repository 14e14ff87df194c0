"""Perturbations: names taken apart, sets that were never seen, vectors by name."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from sccountsdiff import CountsDiff

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
