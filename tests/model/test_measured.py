"""Genes that were not measured, by batch or by entry: hidden, without loss, imputed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from sccountsdiff import CountsDiff
from sccountsdiff.data import concat_panels

#: Genes that the second batch measured.
PANEL = [f"gene_{g}" for g in range(0, 30, 2)]


def as_layer(adata):
    """The panel of the second batch as a layer."""
    observed = np.ones(adata.shape, dtype=bool)
    observed[np.ix_(adata.obs["batch"] == "second", ~adata.var_names.isin(PANEL))] = False
    adata.layers["seen"] = observed
    return {"observed_layer": "seen"}


def as_lists(adata):
    """As a list of genes."""
    return {"measured_genes": {"second": PANEL}}


def as_table(adata):
    """As a table in varm."""
    seen = {"first": np.ones(adata.n_vars, dtype=bool), "second": adata.var_names.isin(PANEL)}
    adata.varm["measured"] = pd.DataFrame(seen, index=adata.var_names)
    return {"measured_genes": "measured"}


FORMS = [as_layer, as_lists, as_table]


def set_up(adata, form):
    """An untrained model; one seed gives the same weights."""
    import torch

    CountsDiff.setup_anndata(adata, layer="counts", batch_key="batch", **form(adata))
    torch.manual_seed(0)
    return CountsDiff(adata, n_hidden=16)


@pytest.fixture(scope="module")
def panel_model(make_adata, quick_train):
    """A model of two batches, one of which measured half of the genes."""
    import scvi

    scvi.settings.seed = 0
    return quick_train(set_up(make_adata(), as_lists), 100, plan_kwargs={"lr": 3e-3})


@pytest.mark.filterwarnings("ignore:Trying to query")
def test_every_form_means_the_same(make_adata):
    expected = None
    for form in FORMS:
        model = set_up(make_adata(), form)
        cells = next(model._minibatches(model.adata, np.arange(40), 40))
        found = [cells.counts, cells.observed, model.impute(layer_added=None, replace="masked").to_numpy()]
        expected = expected or found
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not expected[1].all()


def test_values_of_unmeasured_genes_are_never_read(panel_model, make_adata):
    plain, changed = make_adata(3), make_adata(3)
    second = (changed.obs["batch"] == "second").to_numpy()
    counts = changed.layers["counts"].toarray()
    counts[np.ix_(second, ~changed.var_names.isin(PANEL))] = np.nan
    changed.layers["counts"] = counts
    for question in (panel_model.get_latent_representation, panel_model.get_normalized_expression):
        np.testing.assert_array_equal(np.asarray(question(plain)), np.asarray(question(changed)))
    assert panel_model.get_elbo(plain) == panel_model.get_elbo(changed)


def test_unmeasured_genes_are_imputed_from_the_others(panel_model, make_adata):
    data = make_adata(3)
    second = (data.obs["batch"] == "second").to_numpy()
    hidden = np.outer(second, ~data.var_names.isin(PANEL))
    imputed = panel_model.impute(data, replace="masked", layer_added=None).to_numpy()
    truth = data.layers["counts"].toarray()
    np.testing.assert_array_equal(imputed[~hidden], truth[~hidden])
    seen = np.where(hidden, 0, truth)
    share = truth[~second].sum(0)
    baseline = seen.sum(1, keepdims=True) * share / share[data.var_names.isin(PANEL)].sum()
    assert np.square(imputed - truth)[hidden].mean() < 0.7 * np.square(baseline - truth)[hidden].mean()


def test_training_is_told_the_depth_of_what_was_measured(panel_model):
    """Imputation is not: a gene that was not measured and one that is hidden are the same to it."""
    module = panel_model.module
    cells = next(panel_model._minibatches(panel_model.adata, np.arange(40), 40))
    partial = ~cells.observed.all(-1)
    np.testing.assert_array_equal(cells.condition["library_size"].isnan(), partial)
    told = module.told(cells)
    np.testing.assert_array_equal(told["library_size"], cells.counts.sum(-1))
    np.testing.assert_array_equal(told["measured"], cells.observed)


def test_sparse_tensors_carry_panels_too(make_adata, quick_train):
    model = set_up(make_adata(), as_lists)
    quick_train(model, 1, load_sparse_tensor=True)
    assert np.isfinite(model.get_elbo().nats)


def test_data_without_a_table_take_that_of_the_training_data(make_adata, quick_train):
    model = quick_train(set_up(make_adata(), as_table), 1)
    other = make_adata(3)
    imputed = model.impute(other, replace="masked", layer_added=None).to_numpy()
    assert (imputed != other.layers["counts"].toarray()).any()
    other.varm["measured"] = pd.DataFrame(True, index=other.var_names, columns=["first", "second"])
    np.testing.assert_array_equal(
        model.impute(other.copy(), replace="masked", layer_added=None), other.layers["counts"].toarray()
    )


def test_joined_data_sets_train(make_adata, quick_train):
    atlas, targeted = make_adata(0, 120), make_adata(1, 60)[:, PANEL].copy()
    joined = concat_panels({"atlas": atlas, "targeted": targeted}, label="study", index_unique="-")
    CountsDiff.setup_anndata(joined, layer="counts", batch_key="study", measured_genes="measured")
    model = quick_train(CountsDiff(joined, n_hidden=16), 2)
    imputed = model.impute(layer_added=None, replace="masked")
    assert (imputed.loc[joined.obs["study"] == "targeted", ["gene_1", "gene_29"]] > 0).all(axis=None)


@pytest.mark.slow  # another process
def test_a_new_process_knows_the_panels(panel_model, make_adata, tmp_path):
    panel_model.save(tmp_path / "model")
    make_adata(3).write_h5ad(tmp_path / "cells.h5ad")
    script = f"""
import anndata, numpy
from sccountsdiff import CountsDiff
cells = anndata.read_h5ad({str(tmp_path / "cells.h5ad")!r})
model = CountsDiff.load({str(tmp_path / "model")!r}, adata=cells, accelerator="cpu")
numpy.save({str(tmp_path / "imputed.npy")!r}, model.impute(replace="masked", layer_added=None).to_numpy())
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    expected = panel_model.impute(make_adata(3), replace="masked", layer_added=None)
    np.testing.assert_allclose(np.load(tmp_path / "imputed.npy"), expected, rtol=1e-4)


def _without_batch(adata):
    return {"batch_key": None, "measured_genes": {"second": PANEL}}


def _unknown_batch(adata):
    return {"measured_genes": {"secnd": PANEL}}


def _unknown_gene(adata):
    return {"measured_genes": {"second": [*PANEL, "gene_x"]}}


def _no_gene(adata):
    return {"measured_genes": {"second": []}}


def _no_table(adata):
    return {"measured_genes": "measurd"}


def _floats(adata):
    adata.varm["measured"] = np.ones((adata.n_vars, 2))
    return {"measured_genes": "measured"}


def _lost_column(adata):
    adata.varm["measured"] = pd.DataFrame(True, index=adata.var_names, columns=["first"])
    return {"measured_genes": "measured"}


def _no_layer(adata):
    return {"observed_layer": "sen"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (_without_batch, "pass batch_key as well"),
        (_unknown_batch, "does not hold: 'secnd'. It holds 'first', 'second'|does not hold: 'secnd'"),
        (_unknown_gene, r"measured_genes\['second'\] names genes that adata does not hold: 'gene_x'.*intersection"),
        (_no_gene, "leaves no gene to the batches 'second'"),
        (_no_table, "no 'measurd' .measured_genes."),
        (_floats, "boolean DataFrame"),
        (_lost_column, "no column for the batches 'second'; it has 'first'"),
        (_no_layer, "no 'sen' .observed_layer."),
    ],
)
def test_wrong_panels_are_refused(adata, wrong, message):
    options = {"batch_key": "batch"} | wrong(adata)
    with pytest.raises((ValueError, KeyError), match=message):
        CountsDiff.setup_anndata(adata, layer="counts", **options)
