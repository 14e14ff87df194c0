"""What setup_anndata reads, refuses and leaves alone."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from sccountsdiff import CountsDiff
from sccountsdiff.data import InvalidCountsError


def names(model):
    return [key.name for key in model.module.denoiser.keys]


def test_conditions_carry_the_users_names(adata, setup_args):
    CountsDiff.setup_anndata(adata, **setup_args)
    model = CountsDiff(adata, n_hidden=16)
    assert names(model) == ["batch", "cell_type", "donor", "dose", "drug"]
    assert "3" in repr(model)
    assert "cell_type (3)" in repr(model)
    assert "not trained" in repr(model)


def test_sizes_reach_the_network(adata):
    CountsDiff.setup_anndata(adata, layer="counts")
    model = CountsDiff(adata, n_hidden=16, n_layers=3, dropout=0.3, condition_dropout=0.0, head="poisson")
    assert len(model.module.denoiser.blocks) == 3
    assert model.module.denoiser.condition_dropout == 0
    assert model.module.denoiser.to_logits.in_features == 16


@pytest.mark.parametrize("argument", ["denoiser", "head", "pattern", "weighting"])
def test_unknown_names_list_the_known_ones(adata, argument):
    CountsDiff.setup_anndata(adata, layer="counts")
    with pytest.raises(ValueError, match="nonsense.*Known names"):
        CountsDiff(adata, **{argument: "nonsense"})


def test_setup_changes_neither_counts_nor_global_random_state(adata, setup_args):
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    counts, x = adata.layers["counts"].copy(), adata.X.copy()
    CountsDiff.setup_anndata(adata, **setup_args)
    np.testing.assert_array_equal(state, np.random.get_state()[1])
    assert (adata.layers["counts"] != counts).nnz == 0
    np.testing.assert_array_equal(adata.X, x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 0.5])
def test_one_wrong_count_among_many_is_found(adata, value):
    counts = adata.layers["counts"].tolil()
    counts[200, 17] = value
    adata.layers["counts"] = counts.tocsr()
    with pytest.raises(InvalidCountsError, match="layers.*counts.*'cell_200'.*'gene_17'"):
        CountsDiff.setup_anndata(adata, layer="counts")


def test_normalised_data_in_x_is_refused_with_the_remedy(adata):
    with pytest.raises(InvalidCountsError, match="layer='counts'"):
        CountsDiff.setup_anndata(adata)


def test_a_view_is_refused(adata):
    with pytest.raises(ValueError, match="copy"):
        CountsDiff.setup_anndata(adata[:50], layer="counts")


def test_a_copy_must_be_set_up_itself(adata):
    CountsDiff.setup_anndata(adata, layer="counts")
    with pytest.raises(ValueError, match="copy|setup_anndata"):
        CountsDiff(adata.copy())


@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
def test_empty_data_are_refused(shape):
    with pytest.raises(ValueError, match="empty"):
        CountsDiff.setup_anndata(ad.AnnData(np.zeros(shape)))


def test_genes_must_be_unique(adata):
    adata.var_names = ["gene_0", "gene_0", *adata.var_names[2:]]
    with pytest.raises(ValueError, match=r"not unique: 'gene_0'.*var_names_make_unique"):
        CountsDiff.setup_anndata(adata, layer="counts")


@pytest.mark.parametrize("argument", ["batch_key", "labels_key", "perturbation_key", "categorical_covariate_keys"])
def test_missing_categories_are_refused_by_name(adata, argument):
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(object)
    adata.obs.loc["cell_3", "cell_type"] = None
    value = ["cell_type"] if argument.endswith("keys") else "cell_type"
    with pytest.raises(ValueError, match="missing or infinite.*cell_type|cell_type.*missing or infinite.*'cell_3'"):
        CountsDiff.setup_anndata(adata, layer="counts", **{argument: value})


def test_missing_numbers_are_refused_by_name(adata):
    adata.obs.loc["cell_5", "dose"] = np.nan
    with pytest.raises(ValueError, match="dose.*'cell_5'"):
        CountsDiff.setup_anndata(adata, layer="counts", continuous_covariate_keys=["dose"])


def test_text_is_no_continuous_covariate(adata):
    with pytest.raises(ValueError, match="categorical_covariate_keys"):
        CountsDiff.setup_anndata(adata, layer="counts", continuous_covariate_keys=["cell_type"])


def test_missing_vectors_are_refused_by_name(adata):
    adata.obsm["drug"][9, 1] = np.nan
    with pytest.raises(ValueError, match="drug.*'cell_9'"):
        CountsDiff.setup_anndata(adata, layer="counts", embedding_keys=["drug"])


def test_unknown_columns_are_refused_with_those_there_are(adata):
    with pytest.raises(KeyError, match="no column 'celltype'.*'cell_type'"):
        CountsDiff.setup_anndata(adata, layer="counts", labels_key="celltype")


def test_names_are_used_once_and_one_is_reserved(adata):
    with pytest.raises(ValueError, match="more than once"):
        CountsDiff.setup_anndata(adata, layer="counts", batch_key="batch", categorical_covariate_keys=["batch"])
    adata.obs["library_size"] = 1.0
    with pytest.raises(ValueError, match="reserved"):
        CountsDiff.setup_anndata(adata, layer="counts", continuous_covariate_keys=["library_size"])


def test_categories_without_cells_are_left_out(adata):
    adata.obs["cell_type"] = adata.obs["cell_type"].astype("category").cat.add_categories("unicorn")
    CountsDiff.setup_anndata(adata, layer="counts", labels_key="cell_type")
    assert CountsDiff(adata, n_hidden=16).module.denoiser.keys[0].n_levels == 3


def test_observed_layer_must_be_boolean(adata):
    adata.layers["seen"] = np.ones(adata.shape)
    with pytest.raises(ValueError, match="boolean.*astype"):
        CountsDiff.setup_anndata(adata, layer="counts", observed_layer="seen")


def test_unobserved_entries_may_hold_anything_and_make_the_library_unknown(adata, quick_train):
    counts = adata.layers["counts"].toarray()
    observed = np.ones(adata.shape, dtype=bool)
    observed[:20, :5] = False
    counts[:20, :5] = np.nan
    adata.layers["counts"], adata.layers["seen"] = counts, sp.csr_matrix(observed)
    CountsDiff.setup_anndata(adata, layer="counts", observed_layer="seen")
    model = CountsDiff(adata, n_hidden=16)
    quick_train(model)
    cells = next(model._minibatches(adata, np.array([0, 100]), 2))
    assert cells.condition["library_size"].isnan().tolist() == [True, False]
    assert np.isfinite(model.get_elbo(return_mean=False)).all()
    imputed = model.impute(replace="masked", layer_added=None).to_numpy()
    assert (imputed[:20, :5] > 0).all()
    np.testing.assert_array_equal(imputed[20:], counts[20:])


def test_panels_that_no_cell_saw_in_full_still_generate(adata, quick_train):
    """Two panels of genes: every library size is unknown, and the model estimates all of them."""
    observed = np.ones(adata.shape, dtype=bool)
    observed[::2, :10], observed[1::2, 20:] = False, False
    adata.layers["seen"] = observed
    CountsDiff.setup_anndata(adata, layer="counts", observed_layer="seen")
    model = quick_train(CountsDiff(adata, n_hidden=8))
    assert model.generate(n_cells=4, seed=0).X.sum() > 0
    assert model.generate(n_cells=4, library_size=50, seed=0).X.sum() > 0


def test_one_cell_and_one_gene_work(quick_train):
    for shape in ((1, 6), (40, 1)):
        data = ad.AnnData(np.random.default_rng(0).poisson(3.0, shape).astype(np.float32))
        CountsDiff.setup_anndata(data)
        model = quick_train(CountsDiff(data, n_hidden=8))
        assert model.generate(n_cells=3, seed=0).shape == (3, shape[1])
        assert np.isfinite(model.get_normalized_expression().to_numpy()).all()


def test_empty_cells_empty_genes_and_huge_counts_work(adata, quick_train):
    counts = adata.layers["counts"].toarray()
    counts[4], counts[:, 6], counts[10, 2] = 0, 0, 1_000_000
    adata.layers["counts"] = counts
    CountsDiff.setup_anndata(adata, layer="counts")
    model = quick_train(CountsDiff(adata, n_hidden=8))
    assert np.isfinite(model.get_normalized_expression().to_numpy()).all()
    assert np.isfinite(model.get_elbo(return_mean=False)).all()
    assert np.isfinite(model.get_latent_representation()).all()
    assert np.isfinite(model.generate(n_cells=5, seed=0).X.toarray()).all()
