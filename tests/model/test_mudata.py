"""Several modalities: sizes of their own, cells that lack one, results where they belong."""

from __future__ import annotations

import subprocess
import sys
import warnings

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scvi

from sccountsdiff import CountsDiff
from sccountsdiff.data import join_modalities, split_modalities

#: Every other cell lacks proteins.
MODALITIES = {"rna": "counts", "prot": None}
KEYS = {"batch_key": "batch", "labels_key": "cell_type"}


def make_mdata(make_adata, seed=0, n_cells=240, every=2):
    """RNA of all cells and ten times as deep protein counts of some, in another order."""
    adata = make_adata(seed, n_cells)
    rna = adata[:, :20].copy()
    rna.X = rna.layers["counts"].copy()
    del rna.obs, rna.obsm
    prot = ad.AnnData(sp.csr_matrix(10 * adata.layers["counts"][:, 20:]), obs=adata.obs[[]].copy())
    prot.X = sp.csr_matrix(np.random.default_rng(seed).poisson(prot.X.toarray()).astype(np.float32))
    prot.var_names = [f"protein_{i}" for i in range(10)]
    prot = prot[::-1][:: every or 1].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mdata = md.MuData({"rna": rna, "prot": prot})
    mdata.obs["batch"] = adata.obs["batch"].loc[mdata.obs_names].to_numpy()
    mdata.obs["cell_type"] = adata.obs["cell_type"].loc[mdata.obs_names].to_numpy()
    return mdata


@pytest.fixture
def mdata(make_adata):
    """A fresh MuData."""
    return make_mdata(make_adata)


@pytest.fixture(scope="module")
def joint(make_adata, quick_train):
    """A model of both modalities."""
    scvi.settings.seed = 0
    mdata = make_mdata(make_adata)
    CountsDiff.setup_mudata(mdata, MODALITIES, **KEYS)
    return quick_train(CountsDiff(mdata, n_hidden=16), 80, plan_kwargs={"lr": 3e-3})


@pytest.fixture
def query(make_adata):
    """Other cells."""
    return make_mdata(make_adata, seed=5)


def lacking(mdata):
    """Cells without proteins."""
    return ~mdata.obs_names.isin(mdata["prot"].obs_names)


def test_joined_data_hold_what_the_modalities_hold(mdata):
    joined = join_modalities(mdata, MODALITIES)
    assert sp.issparse(joined.X)
    for name in ("rna", "prot"):
        part = mdata[name]
        assert (joined[part.obs_names, part.var_names].X != part.X).nnz == 0
    assert joined.obsm["modality"].sum().to_dict() == {"rna": 240, "prot": 120}
    assert joined[lacking(mdata), mdata["prot"].var_names].X.nnz == 0
    again = split_modalities(joined)
    assert again["prot"].shape == (120, 10)
    assert (again["prot"][mdata["prot"].obs_names].X != mdata["prot"].X).nnz == 0
    assert list(again.obs["cell_type"]) == list(joined.obs["cell_type"])


def test_library_sizes_are_those_of_the_modalities(joint):
    cells = next(joint._minibatches(joint.adata, np.arange(60), 60))
    mdata = joint._mdata
    library = cells.condition["library_size"].numpy()
    np.testing.assert_array_equal(library[:, 0], np.asarray(mdata["rna"].X.sum(1)).ravel()[:60])
    np.testing.assert_array_equal(np.isnan(library[:, 1]), lacking(mdata)[:60])
    assert not cells.observed[lacking(mdata)[:60], 20:].any()
    assert list(joint.module.denoiser.library.n_features) == [20, 10]


def test_results_go_to_their_modality(joint, query):
    counts = query["prot"].X.copy()
    joint.impute(query, replace="masked")
    np.testing.assert_array_equal(query["prot"].layers["imputed"], counts.toarray())
    np.testing.assert_array_equal(query["rna"].layers["imputed"], query["rna"].X.toarray())
    whole = query.obsm["prot_imputed"]
    assert list(whole.columns) == list(query["prot"].var_names)
    np.testing.assert_array_equal(whole.loc[query["prot"].obs_names], counts.toarray())
    assert (whole[lacking(query)] > 0).all(axis=None)
    assert query.uns["sccountsdiff"]["imputed"]["method"] == "impute"
    assert "rna_imputed" not in query.obsm


def test_a_lacking_modality_is_imputed_as_if_it_were_hidden(joint, make_adata):
    complete, partial = make_mdata(make_adata, 5, every=1), make_mdata(make_adata, 5, every=2)
    joined = join_modalities(partial, MODALITIES)
    mask = np.zeros(joined.shape, dtype=bool)
    mask[lacking(partial), 20:] = True
    ours = joint.impute(partial, replace="masked", layer_added=None)
    theirs = joint.impute(complete, mask=mask, layer_added=None)
    np.testing.assert_allclose(ours, theirs.loc[ours.index, ours.columns], rtol=1e-5)


def test_lacking_proteins_are_predicted_from_rna(joint, make_adata):
    partial, complete = make_mdata(make_adata, 5, every=2), make_mdata(make_adata, 5, every=1)
    cells = partial.obs_names[lacking(partial)]
    proteins = partial["prot"].var_names
    imputed = joint.impute(partial, layer_added=None).loc[cells, proteins].to_numpy()
    truth = complete["prot"][cells].X.toarray()
    mean = np.asarray(partial["prot"].X.mean(0))
    assert np.square(imputed - truth).mean() < 0.8 * np.square(mean - truth).mean()


def test_masks_may_be_layers_of_a_modality(joint, query):
    hidden = np.zeros(query["prot"].shape, dtype=bool)
    hidden[:, 3] = True
    query["prot"].layers["hidden"] = hidden
    joint.impute(query, mask="hidden")
    changed = (query["prot"].layers["imputed"] != query["prot"].X.toarray()).any(0)
    assert changed.tolist() == [g == 3 for g in range(10)]
    assert set(query["rna"].layers) - {None} == {"counts", "imputed"}  # None is .X in anndata 0.13


def test_own_data_are_written_too_and_conditions_are_kept_up(joint, mdata, quick_train):
    CountsDiff.setup_mudata(mdata, MODALITIES, **KEYS)
    model = quick_train(CountsDiff(mdata, n_hidden=8), 1)
    model.impute(n_samples=2, seed=0, n_steps=2)
    assert np.issubdtype(mdata["prot"].layers["imputed_sample1"].dtype, np.integer)
    assert not set(model.adata.layers) - {None}
    model.impute(gene_list=["protein_3", "gene_0"], layer_added="two")
    assert list(mdata.obsm["two"].columns) == ["protein_3", "gene_0"]
    mdata.obs["cell_type"] = "B cell"
    with pytest.raises(ValueError, match="changed after setup"):
        model.impute()


def test_every_question_can_be_asked(joint, query):
    expression = joint.get_normalized_expression(query, library_size=100)
    for features in (slice(0, 20), slice(20, 30)):
        np.testing.assert_allclose(expression.iloc[:, features].sum(1), 100, rtol=1e-4)
    assert joint.get_latent_representation(query).shape == (240, 16)
    assert np.isfinite(joint.get_elbo(query).nats)
    assert joint.posterior_predictive_sample(query).shape == (240, 30)
    assert "240 cells x 30 features (20 rna, 10 prot)" in repr(joint)


def test_generated_cells_have_both_modalities(joint):
    cells = joint.generate({"cell_type": "T cell"}, 40, seed=0)
    assert list(cells.var["modality"].cat.categories) == ["rna", "prot"]
    mdata = split_modalities(cells)
    stained = joint._mdata["prot"]
    t_cells = (joint.adata.obs.loc[stained.obs_names, "cell_type"] == "T cell").to_numpy()
    real = np.asarray(stained.X[t_cells].sum(1)).mean()  # of this type: monocytes bind seven times as much
    assert np.asarray(mdata["prot"].X.sum(1)).mean() == pytest.approx(real, rel=0.3)
    sized = joint.generate(n_cells=30, library_size={"rna": 50, "prot": 900}, n_steps=5, seed=0)
    assert sized.obs["requested_library_size_prot"].eq(900).all()
    totals = split_modalities(sized)
    assert np.asarray(totals["rna"].X.sum(1)).mean() == pytest.approx(50, rel=0.2)
    assert np.asarray(totals["prot"].X.sum(1)).mean() == pytest.approx(900, rel=0.2)


def test_empirical_starts_take_cells_with_both(joint):
    cells = joint.generate(n_cells=30, start="empirical", n_steps=3, start_survival=0.9, seed=0)
    assert (np.asarray(split_modalities(cells)["prot"].X.sum(1)) > 0).all()


@pytest.mark.slow  # another process
def test_saved_models_take_a_mudata_and_bring_their_joined_data(joint, query, make_adata, tmp_path):
    joint.save(tmp_path / "model", save_anndata=True)
    query.write_h5mu(tmp_path / "query.h5mu")
    script = f"""
import mudata, warnings
warnings.simplefilter("ignore")
from sccountsdiff import CountsDiff
query = mudata.read_h5mu({str(tmp_path / "query.h5mu")!r})
model = CountsDiff.load({str(tmp_path / "model")!r}, adata=query, accelerator="cpu")
model.impute()
query.write_h5mu({str(tmp_path / "imputed.h5mu")!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    joint.impute(query)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imputed = md.read_h5mu(tmp_path / "imputed.h5mu")
    np.testing.assert_allclose(imputed["rna"].layers["imputed"], query["rna"].layers["imputed"], rtol=1e-4)
    np.testing.assert_allclose(imputed.obsm["prot_imputed"], query.obsm["prot_imputed"], rtol=1e-4)
    alone = CountsDiff.load(tmp_path / "model", accelerator="cpu")
    assert alone.adata.shape == (240, 30)
    assert np.isfinite(alone.get_elbo().nats)


def test_data_of_one_modality_are_queries(joint, query):
    rna = query["rna"].copy()
    with pytest.raises(ValueError, match="prepare_query_anndata"):
        joint.impute(rna)
    CountsDiff.prepare_query_anndata(rna, joint)
    rna.obs = query.obs.loc[rna.obs_names, ["batch", "cell_type"]]
    imputed = joint.impute(rna, layer_added=None)
    assert (imputed[query["prot"].var_names] > 0).all(axis=None)
    assert rna.var["modality"].iloc[-1] == "prot"


def test_one_anndata_with_feature_types_is_enough(make_adata, quick_train):
    adata = make_adata()
    adata.var["feature_types"] = ["Gene Expression"] * 20 + ["Antibody Capture"] * 10
    has = pd.DataFrame(True, index=adata.obs_names, columns=["Gene Expression", "Antibody Capture"])
    has.iloc[::2, 1] = False
    adata.obsm["feature_types"] = has
    CountsDiff.setup_anndata(adata, layer="counts", modality_key="feature_types")
    model = quick_train(CountsDiff(adata, n_hidden=8), 1)
    model.impute(replace="masked")
    changed = adata.layers["imputed"] != adata.layers["counts"].toarray()
    assert changed[::2, 20:].all()
    assert changed.sum() == changed[::2, 20:].sum()


def _repeat(mdata):
    mdata.mod["prot"].var_names = ["gene_0", *mdata["prot"].var_names[1:]]
    return MODALITIES


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (lambda mdata: {"rna": None, "atac": None}, "no modality 'atac'; it has 'rna', 'prot'"),
        (lambda mdata: {"rna": "count"}, r"mdata\['rna'\] has no layer 'count'; it has \['counts'\]"),
        (lambda mdata: [], "modalities is empty"),
        (_repeat, "'gene_0' is in the data more than once.*var_names_make_unique"),
    ],
)
def test_wrong_modalities_are_refused(mdata, modalities, message):
    with pytest.raises((KeyError, ValueError), match=message):
        CountsDiff.setup_mudata(mdata, modalities(mdata))


def _no_column(adata):
    adata.var = adata.var[[]]


def _no_name(adata):
    adata.var["modality"] = adata.var["modality"].astype(object).where(adata.var_names != "gene_7", None)


def _mixed(adata):
    adata.var["modality"] = ["rna", "prot"] * 15


def _floats(adata):
    adata.obsm["modality"] = np.ones((adata.n_obs, 2))


def _stranger(adata):
    adata.obsm["modality"]["atac"] = True


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_column, "no column 'modality' .modality_key."),
        (_no_name, "missing for 'gene_7'"),
        (_mixed, "must follow each other.*sort_values"),
        (_floats, "boolean DataFrame.*'rna', 'prot'"),
        (_stranger, "names modalities 'atac'; there are 'rna', 'prot'"),
    ],
)
def test_unclear_modalities_are_refused(mdata, spoil, message):
    adata = join_modalities(mdata, MODALITIES)
    spoil(adata)
    with pytest.raises((KeyError, ValueError), match=message):
        CountsDiff.setup_anndata(adata, modality_key="modality")


def test_library_sizes_are_asked_for_by_modality(joint):
    with pytest.raises(ValueError, match="library_size=.'rna': ..., 'prot': ...}"):
        joint.generate(n_cells=2, library_size=100)


def test_other_mudata_and_views_are_refused(joint, mdata, trained):
    with pytest.raises(ValueError, match="setup_mudata first"):
        CountsDiff(mdata)
    with pytest.raises(ValueError, match="view"):
        CountsDiff.setup_mudata(mdata[:50], MODALITIES)
    with pytest.raises(ValueError, match="one modality"):
        trained.impute(mdata)
    CountsDiff.setup_mudata(mdata, MODALITIES)
    with pytest.raises(ValueError, match="not those it was set up with"):
        CountsDiff(mdata[:50].copy())


@pytest.mark.filterwarnings("ignore:Trying to query")
def test_forecasts_are_of_one_modality(mdata):
    CountsDiff.setup_mudata(mdata, MODALITIES, batch_key="batch", perturbation_key="cell_type", control="B cell")
    model = CountsDiff(mdata, n_hidden=8)
    with pytest.raises(ValueError, match="one modality.*'joint' or 'contrast'"):
        model.generate({"cell_type": "T cell"}, 2, method="forecast")
    assert model.generate({"cell_type": "T cell+monocyte"}, 2, n_steps=2, seed=0).n_vars == 30
