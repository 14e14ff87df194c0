"""Imputation: what is filled in, what is kept, and that hidden values are not used."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from sccountsdiff.data import mcar_mask


@pytest.fixture
def data(make_adata):
    """Cells that the model has not seen."""
    return make_adata(9)


@pytest.fixture
def mask(data):
    """A third of the entries."""
    return mcar_mask(data.shape, 1 / 3, seed=0)


def test_plain_call_writes_a_layer_and_a_note(trained, data):
    counts, x = data.layers["counts"].copy(), data.X.copy()
    assert trained.impute(data) is None
    assert data.layers["imputed"].shape == data.shape
    assert data.uns["sccountsdiff"]["imputed"]["replace"] == "all"
    assert (data.layers["counts"] != counts).nnz == 0
    np.testing.assert_array_equal(data.X, x)


def test_all_is_the_expected_fresh_measurement(trained, data):
    imputed = trained.impute(data, layer_added=None)
    expected = trained.get_normalized_expression(data, library_size="observed")
    np.testing.assert_allclose(imputed, expected, rtol=1e-5)


def test_zeros_keeps_what_was_counted(trained, data):
    counts = data.layers["counts"].toarray()
    imputed = trained.impute(data, replace="zeros", layer_added=None).to_numpy()
    np.testing.assert_array_equal(imputed[counts > 0], counts[counts > 0])
    assert (imputed[counts == 0] > 0).all()


@pytest.mark.parametrize("kind", ["layer", "array", "sparse", "csc"])
def test_masks_of_every_kind_hide_the_same(trained, data, mask, kind):
    data.layers["hidden"] = mask
    form = {"layer": "hidden", "array": mask, "sparse": sp.csr_matrix(mask), "csc": sp.csc_matrix(mask)}[kind]
    imputed = trained.impute(data, mask=form, layer_added=None).to_numpy()
    counts = data.layers["counts"].toarray()
    np.testing.assert_array_equal(imputed[~mask], counts[~mask])
    np.testing.assert_allclose(imputed, trained.impute(data, mask=mask, layer_added=None), rtol=1e-5)


def test_hidden_values_are_not_used(trained, data, make_adata, mask):
    changed = make_adata(9)
    counts = changed.layers["counts"].toarray()
    counts[mask] = 1000
    changed.layers["counts"] = counts
    for options in ({}, {"quantiles": 0.5}, {"n_samples": 1, "seed": 0}):
        np.testing.assert_array_equal(
            np.asarray(trained.impute(data, mask=mask, layer_added=None, **options))[..., mask],
            np.asarray(trained.impute(changed, mask=mask, layer_added=None, **options))[..., mask],
        )


def test_hidden_entries_are_recovered_better_than_by_the_gene_mean(trained, data, mask):
    truth = data.layers["counts"].toarray()
    imputed = trained.impute(data, mask=mask, layer_added=None).to_numpy()
    mean = np.where(mask, np.nan, truth)
    baseline = np.broadcast_to(np.nanmean(mean, axis=0), truth.shape)
    assert np.square(imputed - truth)[mask].mean() < 0.7 * np.square(baseline - truth)[mask].mean()


def test_draws_are_integers_with_known_entries_kept(trained, data, mask):
    draws = trained.impute(data, mask=mask, n_samples=30, layer_added=None, seed=0)
    counts = data.layers["counts"].toarray()
    assert draws.shape == (30, *data.shape)
    assert np.issubdtype(draws.dtype, np.integer)
    np.testing.assert_array_equal(draws[:, ~mask], np.broadcast_to(counts[~mask], (30, (~mask).sum())))
    mean = trained.impute(data, mask=mask, layer_added=None).to_numpy()
    assert draws.mean(0)[mask].mean() == pytest.approx(mean[mask].mean(), rel=0.1)


def test_quantiles_cover_hidden_entries(trained, data, mask):
    low, high = trained.impute(data, mask=mask, quantiles=[0.05, 0.95], layer_added=None)
    truth = data.layers["counts"].toarray()
    covered = ((truth >= low) & (truth <= high))[mask].mean()
    assert 0.85 < covered < 0.999
    np.testing.assert_array_equal(low[~mask], truth[~mask])


def test_several_results_go_to_several_layers(trained, data):
    trained.impute(data, quantiles=[0.05, 0.5])
    trained.impute(data, n_samples=2, layer_added="drawn", seed=1)
    assert {"imputed_q0.05", "imputed_q0.5", "drawn_sample0", "drawn_sample1"} <= set(data.layers)
    assert data.uns["sccountsdiff"]["drawn_sample1"]["seed"] == 1


def test_notes_survive_a_file(trained, data, tmp_path):
    import anndata as ad

    trained.impute(data, quantiles=[0.1, 0.9])
    data.write_h5ad(tmp_path / "imputed.h5ad")
    assert "imputed_q0.1" in ad.read_h5ad(tmp_path / "imputed.h5ad").uns["sccountsdiff"]


def test_selections_are_returned_not_written(trained, data):
    found = trained.impute(data, [3, 1], gene_list=["gene_9", "gene_4"], layer_added=None)
    assert list(found.index) == ["cell_3", "cell_1"]
    assert list(found.columns) == ["gene_9", "gene_4"]
    with pytest.raises(ValueError, match="layer_added=None"):
        trained.impute(data, gene_list=["gene_9"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"mask": np.ones((240, 30))}, "boolean.*astype", id="float mask"),
        pytest.param({"mask": np.ones((3, 30), dtype=bool)}, "shape", id="shape"),
        pytest.param({"replace": "nothing"}, "'masked', 'zeros' or 'all'", id="replace"),
        pytest.param({"n_samples": 2, "quantiles": 0.5}, "not for both", id="both"),
        pytest.param({"n_samples": 0}, "at least 1", id="no draws"),
        pytest.param({"quantiles": 1.5}, "between 0 and 1", id="quantile"),
        pytest.param({"layer_added": "counts"}, "never written", id="counts layer"),
    ],
)
def test_wrong_requests_are_refused(trained, data, options, message):
    with pytest.raises(ValueError, match=message):
        trained.impute(data, **options)


def test_an_unknown_mask_layer_is_named(trained, data):
    with pytest.raises(KeyError, match="no layer 'hiden'"):
        trained.impute(data, mask="hiden")
