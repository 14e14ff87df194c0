"""Data that scvi-tools would take in silence are refused, with the offender and the remedy."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from sccountsdiff import CountsDiff


def test_genes_in_another_order_are_refused(trained, make_adata):
    other = make_adata(1)[:, ::-1].copy()
    with pytest.raises(ValueError, match="another order"):
        trained.get_normalized_expression(other)


def test_other_genes_and_missing_genes_are_refused_by_name(trained, make_adata):
    other = make_adata(1)
    other.var_names = ["foreign", *other.var_names[1:]]
    with pytest.raises(ValueError, match=r"1 of the 30 genes.*missing: 'gene_0'"):
        trained.get_normalized_expression(other)
    with pytest.raises(ValueError, match="missing"):
        trained.get_normalized_expression(make_adata(1)[:, :20].copy())


def test_genes_renamed_after_setup_are_noticed(model):
    model.adata.var_names = model.adata.var_names[::-1]
    with pytest.raises(ValueError, match="another order"):
        model.get_normalized_expression()


def test_unregistered_data_and_views_work(trained, make_adata):
    other = make_adata(1)
    whole = trained.get_normalized_expression(other)
    view = trained.get_normalized_expression(make_adata(1)[:50])
    np.testing.assert_allclose(whole.iloc[:50], view, rtol=1e-5)


def test_foreign_data_are_let_go_of(trained, make_adata):
    other = make_adata(1)
    trained.get_latent_representation(other)
    trained.impute(other)
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None


def test_unseen_categories_are_listed(trained, make_adata):
    other = make_adata(1)
    other.obs["cell_type"] = other.obs["cell_type"].replace("B cell", "basophil")
    with pytest.raises(ValueError, match="not trained on: 'basophil'.*Known categories: 'B cell'"):
        trained.get_normalized_expression(other)


def test_unseen_integer_category_zero_is_noticed(adata, make_adata, quick_train):
    """scvi-tools asks whether any unseen category is true, which 0 is not."""
    data = adata[adata.obs["donor"] != 0].copy()
    CountsDiff.setup_anndata(data, layer="counts", categorical_covariate_keys=["donor"])
    model = quick_train(CountsDiff(data, n_hidden=8), 1)
    with pytest.raises(ValueError, match="not trained on: '0'"):
        model.get_normalized_expression(make_adata(1))


def test_a_foreign_column_that_is_missing_is_named(trained, make_adata):
    other = make_adata(1)
    del other.obs["batch"]
    with pytest.raises(KeyError, match="no column 'batch'"):
        trained.get_normalized_expression(other)


def test_categories_renamed_after_setup_are_noticed(model):
    model.adata.obs["cell_type"] = model.adata.obs["cell_type"].replace({"B cell": "T cell", "T cell": "B cell"})
    with pytest.raises(ValueError, match="changed after setup_anndata"):
        model.get_normalized_expression()


def test_columns_removed_after_setup_are_noticed(model):
    del model.adata.obs["cell_type"]
    with pytest.raises(KeyError, match="no column 'cell_type'"):
        model.get_normalized_expression()


def test_counts_changed_after_setup_do_not_reach_the_network(model):
    model.adata.layers["counts"] = model.adata.layers["counts"] * 0.5
    with pytest.raises(ValueError, match="changed after setup_anndata.*non-integer"):
        model.get_normalized_expression()


@pytest.mark.parametrize("value", [np.nan, -3.0, 0.25])
def test_foreign_counts_are_scanned_in_full(trained, make_adata, value):
    other = make_adata(1)
    other.layers["counts"] = other.layers["counts"].toarray()
    other.layers["counts"][150, 3] = value
    with pytest.raises(ValueError, match="'cell_150'.*'gene_3'"):
        trained.get_normalized_expression(other)


def test_indices_of_every_kind(trained):
    everything = trained.get_normalized_expression(return_numpy=True)
    mask = np.zeros(len(everything), dtype=bool)
    mask[[3, 8]] = True
    for indices, expected in (([5, 1, 1], [5, 1, 1]), ([-1], [len(everything) - 1]), (mask, [3, 8])):
        found = trained.get_normalized_expression(indices=indices, return_numpy=True)
        np.testing.assert_allclose(found, everything[expected], rtol=1e-5)
    with pytest.raises(IndexError, match="9999"):
        trained.get_normalized_expression(indices=[9999])
    with pytest.raises(ValueError, match="boolean"):
        trained.get_normalized_expression(indices=mask[:-1])


def test_a_model_without_data_says_so(trained, tmp_path):
    trained.save(tmp_path / "model")
    alone = CountsDiff.load(tmp_path / "model", adata=False)
    with pytest.raises(ValueError, match="adata="):
        alone.get_normalized_expression()
    with pytest.raises(ValueError, match="adata="):
        alone.train(1)
