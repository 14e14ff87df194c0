"""Bound, expression, representation, posterior predictive counts and differential expression."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from sccountsdiff import CountsDiff


def test_bound_comes_with_its_monte_carlo_error(trained):
    coarse = [trained.get_elbo(n_samples=4, seed=seed) for seed in range(12)]
    spread = np.std([estimate.nats for estimate in coarse], ddof=1)
    assert 0.4 < spread / np.mean([estimate.error for estimate in coarse]) < 2.5
    fine = trained.get_elbo(n_samples=64)
    assert fine.error < coarse[0].error
    assert abs(fine.nats - np.mean([estimate.nats for estimate in coarse])) < 4 * spread
    per_cell = trained.get_elbo(return_mean=False)
    assert per_cell.shape == (trained.adata.n_obs,)
    assert per_cell.mean() == pytest.approx(trained.get_elbo().nats, rel=1e-5)


def test_bound_is_lower_on_real_cells_than_on_shuffled_ones(trained, make_adata):
    real, shuffled = make_adata(5), make_adata(5)
    counts = shuffled.layers["counts"].toarray()
    rng = np.random.default_rng(0)
    shuffled.layers["counts"] = np.stack([rng.permutation(row) for row in counts])
    assert trained.get_elbo(real).nats < trained.get_elbo(shuffled).nats - 10


def test_bound_needs_pairs_of_samples(trained):
    with pytest.raises(ValueError, match="even"):
        trained.get_elbo(n_samples=3)


def test_expression_is_a_share_of_the_library(trained):
    shares = trained.get_normalized_expression()
    assert isinstance(shares, pd.DataFrame)
    assert list(shares.columns) == list(trained.adata.var_names)
    assert list(shares.index) == list(trained.adata.obs_names)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(trained.get_normalized_expression(library_size=1e4), shares * 1e4, rtol=1e-4)
    observed = trained.get_normalized_expression(library_size="observed").sum(axis=1)
    totals = np.asarray(trained.adata.layers["counts"].sum(1)).ravel()
    assert np.corrcoef(observed, totals)[0, 1] > 0.95
    with pytest.raises(ValueError, match="'latent' or 'observed'"):
        trained.get_normalized_expression(library_size="whole")


def test_expression_finds_the_marker_genes(trained):
    mean = trained.get_normalized_expression().groupby(trained.adata.obs["cell_type"].to_numpy()).mean()
    assert mean.loc["B cell"].nlargest(10).index.str.removeprefix("gene_").astype(int).max() < 10


def test_genes_come_in_the_order_asked_for_and_missing_ones_are_named(trained):
    wanted = ["gene_7", "gene_2", "gene_29"]
    everything = trained.get_normalized_expression()
    found = trained.get_normalized_expression(gene_list=wanted, indices=[4, 2])
    pd.testing.assert_frame_equal(found, everything.iloc[[4, 2]][wanted], rtol=1e-5)
    with pytest.raises(KeyError, match="'typo'"):
        trained.get_normalized_expression(gene_list=["gene_1", "typo"])


def test_shapes_of_draws(trained):
    n_cells, n_genes = trained.adata.shape
    draws = trained.get_normalized_expression(n_samples=5, return_mean=False, seed=0)
    assert draws.shape == (5, n_cells, n_genes)
    assert trained.get_normalized_expression(n_samples=5, seed=0).shape == (n_cells, n_genes)
    overall = trained.get_normalized_expression(indices=[1, 2], n_samples_overall=7, return_numpy=True, seed=0)
    assert overall.shape == (7, n_genes)
    np.testing.assert_allclose(
        draws.mean(0), trained.get_normalized_expression(n_samples=5, return_numpy=True, seed=0), rtol=1e-5
    )


def test_mean_of_draws_is_the_posterior_mean(trained):
    mean = trained.get_normalized_expression(library_size="observed", return_numpy=True)
    draws = trained.get_normalized_expression(library_size="observed", n_samples=400, return_numpy=True, seed=1)
    np.testing.assert_allclose(draws.mean(0), mean.mean(0), rtol=0.02)


def test_draws_follow_their_seed_and_leave_the_global_state(trained):
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    calls = [
        lambda seed: trained.get_normalized_expression(n_samples=2, return_mean=False, seed=seed),
        lambda seed: trained.posterior_predictive_sample(seed=seed).todense(),
        lambda seed: trained.impute(n_samples=1, layer_added=None, seed=seed)[0].toarray(),
        lambda seed: trained.generate(n_cells=4, seed=seed).X.toarray(),
        lambda seed: trained.get_elbo(return_mean=False, seed=seed),
    ]
    for call in calls:
        np.testing.assert_array_equal(call(7), call(7))
        assert not np.array_equal(call(7), call(8))
    assert torch.equal(state[0], torch.random.get_rng_state())
    np.testing.assert_array_equal(state[1], np.random.get_state()[1])


def test_transform_batch_moves_cells_to_another_batch(trained):
    own = trained.get_normalized_expression(return_numpy=True)
    first = trained.get_normalized_expression(transform_batch="first", return_numpy=True)
    both = trained.get_normalized_expression(transform_batch=["first", "second"], return_numpy=True)
    second = trained.get_normalized_expression(transform_batch="second", return_numpy=True)
    in_first = (trained.adata.obs["batch"] == "first").to_numpy()
    np.testing.assert_allclose(own[in_first], first[in_first], rtol=1e-5)
    assert not np.allclose(own[~in_first], first[~in_first], rtol=1e-4)
    np.testing.assert_allclose(both, (first + second) / 2, rtol=1e-4)
    scaled = {
        batch: trained.get_normalized_expression(transform_batch=batch, library_size="latent", return_numpy=True)
        for batch in ("first", "second")
    }
    ratio = scaled["second"] / scaled["first"]
    seen = trained.adata.layers["counts"].toarray()
    abundant = seen.mean(0).argmax()
    low, high = np.argsort(seen[:, abundant])[[5, -5]]
    assert np.allclose(ratio[low, abundant], ratio[high, abundant], rtol=0.3), "own counts do not hold a gene back"
    with pytest.raises(ValueError, match="'third' is no category.*'first'"):
        trained.get_normalized_expression(transform_batch="third")


def test_transform_batch_needs_a_batch(model):
    with pytest.raises(ValueError, match="batch_key"):
        model.get_normalized_expression(transform_batch="first")


def test_expression_as_a_layer_leaves_a_note(trained, make_adata):
    data = make_adata(2)
    assert trained.get_normalized_expression(data, layer_added="denoised", library_size=100) is None
    assert data.layers["denoised"].dtype == np.float32
    assert data.uns["sccountsdiff"]["denoised"]["method"] == "get_normalized_expression"
    with pytest.raises(ValueError, match="selection"):
        trained.get_normalized_expression(data, layer_added="denoised", gene_list=["gene_1"])
    with pytest.raises(ValueError, match="never written"):
        trained.get_normalized_expression(data, layer_added="counts")


def test_dataloader_in_place_of_data(trained):
    loader = trained._make_data_loader(adata=trained.adata, batch_size=50)
    values = trained.get_normalized_expression(dataloader=loader)
    np.testing.assert_allclose(values, trained.get_normalized_expression(return_numpy=True), rtol=1e-4)
    assert trained.get_latent_representation(dataloader=loader).shape == (240, 32)
    assert trained.get_elbo(dataloader=loader).nats > 0


def test_representation_separates_cell_types_without_being_told(trained, make_adata):
    data = make_adata(3)
    data.obs["cell_type"] = data.obs["cell_type"].sample(frac=1, random_state=0).to_numpy()
    truth = make_adata(3).obs["cell_type"].to_numpy()
    features = trained.get_latent_representation(data)
    assert features.shape == (240, 32)
    centres = {name: features[truth == name].mean(0) for name in np.unique(truth)}
    nearest = [min(centres, key=lambda name, cell=cell: np.linalg.norm(cell - centres[name])) for cell in features]
    assert np.mean(np.asarray(nearest) == truth) > 0.9
    assert not np.allclose(features, trained.get_latent_representation(data, use_condition=True), atol=1e-3)


def test_posterior_predictive_counts(trained):
    sample = trained.posterior_predictive_sample(n_samples=3, gene_list=["gene_3", "gene_1"], seed=0)
    assert sample.shape == (240, 2, 3)
    assert np.issubdtype(sample.dtype, np.integer)
    one = trained.posterior_predictive_sample(seed=0)
    assert one.shape == trained.adata.shape
    observed = trained.adata.layers["counts"].toarray()
    assert one.todense().mean() == pytest.approx(observed.mean(), rel=0.1)


@pytest.mark.slow  # imports of scvi.criticism take seconds
def test_posterior_predictive_check_of_scvi(trained, make_adata):
    from scvi.criticism import PosteriorPredictiveCheck

    data = make_adata(6)
    data.layers["dense"] = data.layers["counts"].toarray()
    check = PosteriorPredictiveCheck(data, {"model": trained}, count_layer_key="dense", n_samples=2)
    check.coefficient_of_variation()
    assert "model" in next(iter(check.metrics.values()))


@pytest.mark.parametrize("mode", ["vanilla", "change"])
def test_differential_expression_finds_the_markers(trained, mode):
    table = trained.differential_expression(
        groupby="cell_type", group1="B cell", group2="T cell", mode=mode, silent=True
    )
    column = "lfc_mean" if mode == "change" else "bayes_factor"
    up = table.sort_values(column, ascending=False).index[:10]
    assert np.mean(up.str.removeprefix("gene_").astype(int) < 10) >= 0.8


def test_differential_expression_with_batch_correction_and_outliers(trained):
    table = trained.differential_expression(
        idx1=np.arange(100), idx2=np.arange(100, 200), batch_correction=True, filter_outlier_cells=True, silent=True
    )
    assert len(table) == 30


def test_methods_that_do_not_apply_say_why(trained):
    for method, reason in (
        (trained.get_latent_library_size, "observed"),
        (trained.get_likelihood_parameters, "decoder"),
        (trained.get_importance_weights, "uniform"),
    ):
        with pytest.raises(NotImplementedError, match=reason):
            method()
    with pytest.raises(NotImplementedError, match="uniform"):
        trained.get_normalized_expression(weights="importance")


def test_an_untrained_model_warns(adata):
    CountsDiff.setup_anndata(adata, layer="counts")
    with pytest.warns(UserWarning, match="untrained"):
        CountsDiff(adata, n_hidden=8).get_latent_representation()
