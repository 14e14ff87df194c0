"""Tests of markers on what was measured, and analyses pooled over imputations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sccountsdiff import CountsDiff
from sccountsdiff.stats import compare_groups, pool_synthetic


@pytest.fixture(scope="module")
def half_hidden(trained):
    """A mask over half of the entries of the training data."""
    return np.random.default_rng(3).random(trained.adata.shape) < 0.5


def test_markers_of_each_group_are_found(trained):
    table = trained.test_markers("cell_type")
    assert len(table) == 3 * trained.adata.n_vars
    for number, (name, part) in enumerate(table.groupby("group1", sort=True)):
        markers = [f"gene_{g}" for g in range(10 * number, 10 * (number + 1))]
        assert set(part.index[:10]) == set(markers), name
        assert (part.loc[markers, "log2_fold_change"] > 1).all()
        assert (part.loc[markers, "p_adjusted"] < 1e-3).all()
    assert (table["group2"] == "rest").all()
    assert (table["missing_information"] == 0).all()


def test_two_groups_are_those_of_the_statistic(trained):
    data = trained.adata
    cells = data.obs["cell_type"].isin(["B cell", "monocyte"]).to_numpy()
    first = (data.obs["cell_type"] == "monocyte").to_numpy()[cells]
    expected = compare_groups(data.layers["counts"][cells], first)
    table = trained.test_markers("cell_type", "monocyte", "B cell").loc[data.var_names]
    np.testing.assert_allclose(table["p_value"], expected.p_value)
    np.testing.assert_allclose(table["difference"], expected.difference)
    assert (table["group2"] == "B cell").all()


def test_hidden_entries_are_not_used(trained, half_hidden):
    before = trained.test_markers("cell_type", "B cell", mask=half_hidden)
    changed = trained.adata.copy()
    changed.layers["counts"] = sparse.csr_matrix(np.where(half_hidden, 7, changed.layers["counts"].toarray()))
    after = trained.test_markers("cell_type", "B cell", adata=changed, mask=half_hidden)
    np.testing.assert_allclose(before["p_value"], after.loc[before.index, "p_value"])
    assert not np.allclose(before["p_value"], trained.test_markers("cell_type", "B cell").loc[before.index, "p_value"])


def test_pooled_test_finds_the_markers_and_says_what_is_missing(trained, half_hidden):
    table = trained.test_markers("cell_type", "B cell", mask=half_hidden, n_imputations=20, seed=0)
    markers = table.loc[[f"gene_{g}" for g in range(10)]]
    assert (markers["p_adjusted"] < 0.01).all()
    assert (markers["difference"] > 0).all()
    assert table["missing_information"].between(0.02, 0.98).all()
    again = trained.test_markers("cell_type", "B cell", mask=half_hidden, n_imputations=20, seed=0)
    np.testing.assert_array_equal(table["p_value"], again["p_value"])


def test_imputations_change_nothing_where_nothing_is_hidden(trained):
    one = trained.test_markers("cell_type", "B cell")
    other = trained.test_markers("cell_type", "B cell", n_imputations=3)
    np.testing.assert_array_equal(one["p_value"], other["p_value"])


def test_pooled_analysis_keeps_what_was_measured(trained, half_hidden):
    counts = trained.adata.layers["counts"].toarray()

    def mean_of_genes(completed):
        values = completed.X.toarray()
        assert np.array_equal(values[~half_hidden], counts[~half_hidden])
        assert list(completed.obs.columns) == list(trained.adata.obs.columns)
        return values.mean(0), values.var(0) / len(values)

    pooled = trained.pool_imputations(mean_of_genes, mask=half_hidden, n_imputations=8, seed=1)
    truth = counts.mean(0)
    assert pooled.estimate.shape == truth.shape
    # More doubt than with all counts; not of each gene for certain: the spread of its completed counts varies as well.
    doubt = pooled.variance / (counts.var(0) / len(counts))
    assert doubt.mean() > 1.1
    assert doubt.min() > 0.9
    assert np.abs((pooled.estimate - truth) / pooled.standard_error).max() < 4
    low, high = pooled.interval(0.95)
    assert np.mean((low < truth) & (truth < high)) > 0.8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"groupby": "type"}, KeyError, "no column 'type'.*cell_type"),
        ({"groupby": "cell_type", "group1": "NK"}, KeyError, "holds no 'NK'.*'B cell'"),
        ({"groupby": "cell_type", "group1": "B cell", "group2": "NK"}, KeyError, "holds no 'NK'"),
    ],
)
def test_markers_name_what_is_wrong(trained, arguments, error, message):
    with pytest.raises(error, match=message):
        trained.test_markers(**arguments)


def test_groups_of_one_cell_are_named(trained):
    data = trained.adata.copy()
    data.obs["sorted"] = np.where(np.arange(data.n_obs) == 5, "rare", "usual")
    with pytest.raises(ValueError, match="'rare' of adata.obs\\['sorted'\\] has 1 cell.*set the label"):
        trained.test_markers("sorted", adata=data)


def test_cells_without_a_label_are_left_out(trained):
    data = trained.adata.copy()
    labels = data.obs["cell_type"].astype(object)
    data.obs["known"] = labels.where(np.arange(data.n_obs) < 120)
    table = trained.test_markers("known", "B cell", adata=data)
    expected = compare_groups(data.layers["counts"][:120], (labels == "B cell").to_numpy()[:120])
    np.testing.assert_allclose(table.loc[data.var_names, "p_value"], expected.p_value)


def test_one_imputation_is_not_enough(trained, half_hidden):
    with pytest.raises(ValueError, match="at least 2"):
        trained.test_markers("cell_type", mask=half_hidden, n_imputations=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Nothing is hidden"),
        ({"mask": np.ones((240, 30), bool), "replace": "all"}, "need different pooling"),
        ({"replace": "zeros"}, "must be one of"),
    ],
    ids=["masked", "all", "unknown"],
)
def test_pooling_names_what_it_cannot_draw(trained, options, message):
    with pytest.raises(ValueError, match=message):
        trained.pool_imputations(lambda completed: (0.0, 1.0), **options)


def test_draws_of_all_entries_are_pooled_by_reiters_rule(trained):
    def mean_of_genes(drawn):
        values = drawn.X.toarray()
        return values.mean(0), values.var(0) / len(values)

    options = {"replace": "all", "n_imputations": 4, "seed": 2}
    pooled = trained.pool_imputations(mean_of_genes, **options)
    draws = [trained.impute(n_samples=1, seed=2 + k, layer_added=None)[0].toarray() for k in range(4)]
    means = np.stack([draw.mean(0) for draw in draws])
    variances = np.stack([draw.var(0) / len(draw) for draw in draws])
    expected = pool_synthetic(means, variances)
    np.testing.assert_allclose(pooled.estimate, expected.estimate)
    np.testing.assert_allclose(pooled.variance, expected.variance)
    table = trained.test_markers("cell_type", "B cell", **options)
    assert (table.loc[[f"gene_{g}" for g in range(10)], "p_adjusted"] < 0.01).all()


@pytest.mark.parametrize("test", ["test_markers", "differential_expression"])
def test_counts_written_by_the_model_are_warned_of(trained, test):
    data = trained.adata.copy()
    data.uns["sccountsdiff"] = {"counts": {"method": "impute"}}
    with pytest.warns(UserWarning, match="drawn by a model"):
        getattr(trained, test)(adata=data, groupby="cell_type", group1="B cell")


def test_training_on_counts_written_by_a_model_is_warned_of(adata):
    adata.uns["sccountsdiff"] = {"counts": {"method": "impute"}}
    with pytest.warns(UserWarning, match="'counts' were drawn by a model.*raw counts"):
        CountsDiff.setup_anndata(adata, layer="counts")
