"""Imputation: what is filled in, what is kept, and that hidden values are not used."""

from __future__ import annotations

import numpy as np
import pandas as pd
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


def dense(draws):
    """Draws as one array ``(n_samples, n_cells, n_genes)``."""
    return np.stack([draw.toarray() for draw in draws])


def test_plain_call_writes_a_layer_and_a_note(trained, data):
    counts, x = data.layers["counts"].copy(), data.X.copy()
    assert trained.impute(data) is None
    assert data.layers["imputed"].shape == data.shape
    assert data.uns["sccountsdiff"]["imputed"]["replace"] == "all"
    assert "must not use" in data.uns["sccountsdiff"]["imputed"]["holds"]
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
    for options in ({"return_variance": True}, {"quantiles": 0.5}):
        np.testing.assert_array_equal(
            *(trained.impute(cells, mask=mask, layer_added=None, **options)[:, mask] for cells in (data, changed))
        )
    drawn = (trained.impute(cells, mask=mask, n_samples=1, seed=0, layer_added=None) for cells in (data, changed))
    np.testing.assert_array_equal(*(dense(draws)[:, mask] for draws in drawn))


def test_hidden_entries_are_recovered_better_than_by_the_gene_mean(trained, data, mask):
    truth = data.layers["counts"].toarray()
    imputed = trained.impute(data, mask=mask, layer_added=None).to_numpy()
    mean = np.where(mask, np.nan, truth)
    baseline = np.broadcast_to(np.nanmean(mean, axis=0), truth.shape)
    assert np.square(imputed - truth)[mask].mean() < 0.7 * np.square(baseline - truth)[mask].mean()


def test_draws_are_integers_with_known_entries_kept(trained, data, mask):
    sparse_draws = trained.impute(data, mask=mask, n_samples=30, layer_added=None, seed=0)
    assert all(sp.issparse(draw) for draw in sparse_draws)
    draws = dense(sparse_draws)
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


def test_the_variance_is_that_of_draws(trained, data, mask):
    mean, variance = trained.impute(data, mask=mask, return_variance=True, layer_added=None)
    np.testing.assert_array_equal(mean, trained.impute(data, mask=mask, layer_added=None))
    assert (variance[~mask] == 0).all()
    assert (variance[mask] > mean[mask]).all()  # more than Poisson counts of that mean
    # Many draws: a few wide entries decide the mean.
    draws = dense(trained.impute(data, mask=mask, n_samples=400, n_steps=1, layer_added=None, seed=0))[:, mask]
    assert draws.var(0, ddof=1).mean() == pytest.approx(variance[mask].mean(), rel=0.05)
    trained.impute(data, return_variance=True)
    assert {"imputed", "imputed_variance"} <= set(data.layers)


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
        trained.impute(data, [3, 1])


def test_some_genes_of_all_cells_go_to_obsm(trained, data, tmp_path):
    import anndata as ad

    genes = ["gene_9", "gene_4"]
    trained.impute(data, gene_list=genes, quantiles=[0.1, 0.9])
    whole = trained.impute(data, quantiles=[0.1, 0.9], layer_added=None)
    data.write_h5ad(tmp_path / "cells.h5ad")
    found = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert not {"imputed_q0.1", "imputed_q0.9"} & set(found.layers)
    for values, name in zip(whole, ("imputed_q0.1", "imputed_q0.9"), strict=True):
        assert list(found.obsm[name].columns) == genes
        assert list(found.obsm[name].index) == list(data.obs_names)
        np.testing.assert_array_equal(found.obsm[name], values[:, [9, 4]])
        assert name in found.uns["sccountsdiff"]
    with pytest.raises(ValueError, match="'drug'.*condition of the model"):
        trained.impute(data, gene_list=genes, layer_added="drug")


def test_draws_are_kept_sparse_where_that_is_smaller(trained, data):
    trained.impute(data, n_samples=1)
    assert isinstance(data.layers["imputed"], np.ndarray)
    assert data.layers["imputed"].dtype == np.int32
    counts = data.layers["counts"].toarray()
    counts[:, 3:] = 0
    data.layers["counts"] = counts
    trained.impute(data, mask=mcar_mask(data.shape, 0.01, seed=0), n_samples=1)
    assert sp.issparse(data.layers["imputed"])
    assert data.layers["imputed"].dtype == np.int32


def test_the_mean_over_draws_approaches_the_closed_form(trained, data, mask):
    mean = trained.impute(data, mask=mask, layer_added=None).to_numpy()
    options = {"mask": mask, "n_samples": 20, "n_steps": 4, "layer_added": None, "seed": 0}
    drawn = trained.impute(data, return_mean=True, **options).to_numpy()
    draws = dense(trained.impute(data, **options))
    np.testing.assert_allclose(drawn, draws.mean(0), rtol=1e-5)
    assert drawn[mask].mean() == pytest.approx(mean[mask].mean(), rel=0.03)


def test_draws_agree_with_the_closed_form_quantiles(trained, data, mask):
    """A calibrated interval holds the share of draws that it promises; discrete counts hold a little more."""
    low, median, high = trained.impute(data, mask=mask, quantiles=[0.05, 0.5, 0.95], layer_added=None)
    draws = dense(trained.impute(data, mask=mask, n_samples=20, n_steps=1, layer_added=None, seed=0))[:, mask]
    below, inside, above = (draws < low[mask]).mean(), (draws <= median[mask]).mean(), (draws > high[mask]).mean()
    assert below < 0.05
    assert above < 0.05
    assert inside > 0.5
    assert (draws <= low[mask]).mean() >= 0.05
    assert (draws >= high[mask]).mean() >= 0.05
    walked = dense(trained.impute(data, mask=mask, n_samples=5, layer_added=None, seed=0))[:, mask]
    assert ((walked >= low[mask]) & (walked <= high[mask])).mean() > 0.88


def test_views_get_their_layer(trained, data):
    view = data[:50]
    trained.impute(view)
    np.testing.assert_allclose(view.layers["imputed"], trained.impute(data, range(50), layer_added=None), rtol=1e-5)


def test_minibatches_do_not_matter_for_closed_forms(trained, data, mask):
    one, many = (trained.impute(data, mask=mask, batch_size=size, layer_added=None) for size in (240, 50))
    np.testing.assert_allclose(one, many, rtol=1e-4)


def test_conditions_stand_in_for_the_cells_own(trained, data):
    first = trained.impute(data, condition={"batch": "first", "dose": 5.0}, layer_added=None)
    changed = data.copy()
    changed.obs["batch"], changed.obs["dose"] = "first", 5.0
    np.testing.assert_allclose(first, trained.impute(changed, layer_added=None), rtol=1e-5)
    assert not np.allclose(first, trained.impute(data, layer_added=None), rtol=1e-3)
    columns = {"batch": data.obs["batch"][::-1], "donor": data.obs["donor"].to_numpy(), "drug": data.obsm["drug"]}
    column = trained.impute(data, [7, 2], condition=columns, layer_added=None)
    changed = data.copy()
    changed.obs["batch"] = data.obs["batch"].to_numpy()[::-1]
    np.testing.assert_allclose(column, trained.impute(changed, [7, 2], layer_added=None), rtol=1e-5)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        pytest.param({"batch": "third"}, "'third' is no category of 'batch'.*'first'", id="category"),
        pytest.param({"batsh": "first"}, "'batsh' is no condition key.*'batch'", id="key"),
        pytest.param({"dose": np.nan}, "'dose' takes a finite number", id="number"),
        pytest.param({"batch": ["first", "second"]}, "shape.*one for each of 240 cells", id="length"),
        pytest.param({"drug": np.zeros((240, 2))}, "vector of length 5", id="vector"),
        pytest.param({"cell_type": [None] * 240}, "None|nan", id="missing"),
    ],
)
def test_wrong_conditions_are_refused(trained, data, condition, message):
    with pytest.raises(ValueError, match=message):
        trained.impute(data, condition=condition)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"mask": np.ones((240, 30))}, "boolean.*astype", id="float mask"),
        pytest.param({"mask": np.ones((3, 30), dtype=bool)}, "shape", id="shape"),
        pytest.param({"replace": "nothing"}, "'masked', 'zeros' or 'all'", id="replace"),
        pytest.param({"n_samples": 2, "quantiles": 0.5}, "not for both", id="both"),
        pytest.param({"n_samples": 0}, "at least 1", id="no draws"),
        pytest.param({"n_samples": 2, "return_variance": True}, "leave out n_samples=2", id="variance of draws"),
        pytest.param({"quantiles": 1.5}, "between 0 and 1", id="quantile"),
        pytest.param({"quantiles": []}, "between 0 and 1", id="no quantile"),
        pytest.param({"layer_added": "counts"}, "never written", id="counts layer"),
        pytest.param({"replace": "all", "target_depth": "2x"}, "beside it", id="two questions"),
        pytest.param({"method": "repaint"}, "fills in hidden entries only", id="repaint without mask"),
        pytest.param({"method": "telepathy"}, "'telepathy'.*direct, repaint", id="method"),
        pytest.param({"out": "x.h5ad", "layer_added": None}, "layer_added", id="file without name"),
    ],
)
def test_wrong_requests_are_refused(trained, data, options, message):
    layers = set(data.layers)
    with pytest.raises(ValueError, match=message):
        trained.impute(data, **options)
    assert set(data.layers) == layers


def test_the_mask_is_not_overwritten(trained, data, mask):
    data.layers["hidden"] = mask
    with pytest.raises(ValueError, match="'hidden' is boolean: a mask.*choose another layer_added"):
        trained.impute(data, mask="hidden", layer_added="hidden")
    assert data.layers["hidden"].dtype == bool


def test_a_mask_of_other_cells_is_refused(trained, data, mask):
    frame = pd.DataFrame(mask, index=data.obs_names, columns=data.var_names)
    trained.impute(data, mask=frame)
    with pytest.raises(ValueError, match="not the cells and genes of adata"):
        trained.impute(data, mask=frame[::-1])


def test_missing_counts_are_refused(trained, data):
    data.layers["counts"] = data.layers["counts"].toarray()
    data.layers["counts"][5, 2] = np.nan
    with pytest.raises(ValueError, match="NaN.*'cell_5'.*'gene_2'.*observed_layer"):
        trained.impute(data)


def test_an_unknown_mask_layer_is_named(trained, data):
    with pytest.raises(KeyError, match="no layer 'hiden'"):
        trained.impute(data, mask="hiden")
