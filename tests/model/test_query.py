"""Query data with other genes: what is missing is imputed, not taken for zero."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from sccountsdiff import CountsDiff


@pytest.fixture
def kept():
    """A random half of the genes, in random order."""
    return np.random.default_rng(0).permutation(30)[:15]


@pytest.fixture
def query(make_adata, kept):
    """Cells over these genes, and one gene that the model does not know."""
    query = make_adata(9)[:, kept].copy()
    foreign = query[:, :1].copy()
    foreign.var_names = ["foreign"]
    return ad.concat([foreign, query], axis=1, merge="same")


def hidden_half(data, kept):
    """The other half as a mask."""
    mask = np.ones(data.shape, dtype=bool)
    mask[:, kept] = False
    return mask


def test_preparing_orders_genes_and_marks_the_missing(trained, query, kept):
    counts = query.layers["counts"].toarray()
    assert CountsDiff.prepare_query_anndata(query, trained) is None
    assert list(query.var_names) == list(trained.adata.var_names)
    assert sp.issparse(query.layers["counts"])
    np.testing.assert_array_equal(query.layers["counts"].toarray()[:, kept], counts[:, 1:])
    np.testing.assert_array_equal(np.flatnonzero(query.var["_sccountsdiff_measured"]), np.sort(kept))
    assert "drug" in query.obsm


def test_missing_genes_are_imputed_as_if_they_were_hidden(trained, make_adata, query, kept):
    CountsDiff.prepare_query_anndata(query, trained)
    data = make_adata(9)
    mask = hidden_half(data, kept)
    for options in ({}, {"quantiles": 0.9}, {"n_samples": 2, "return_mean": True, "seed": 0, "n_steps": 3}):
        ours = trained.impute(query, replace="masked", layer_added=None, **options)
        theirs = trained.impute(data, mask=mask, layer_added=None, **options)
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-5)


def test_every_question_can_be_asked_of_prepared_data(trained, make_adata, query, kept):
    CountsDiff.prepare_query_anndata(query, trained)
    zeros = make_adata(9)
    zeros.layers["counts"] = sp.csr_matrix(np.where(hidden_half(zeros, kept), 0, zeros.layers["counts"].toarray()))
    for question in (trained.get_latent_representation, trained.get_normalized_expression):
        ours = np.asarray(question(query))
        assert np.isfinite(ours).all()
        assert not np.allclose(ours, np.asarray(question(zeros)))
    assert np.isfinite(trained.get_elbo(query).nats)
    trained.impute(query)
    assert (query.layers["imputed"] > 0).all()


def test_preparing_can_leave_the_query_alone(trained, query, kept):
    prepared = CountsDiff.prepare_query_anndata(query, trained, inplace=False)
    assert query.n_vars == 16
    assert prepared.n_vars == 30
    again = CountsDiff.prepare_query_anndata(prepared, trained, inplace=False)
    assert (again.var["_sccountsdiff_measured"] == prepared.var["_sccountsdiff_measured"]).all()


def test_a_saved_model_tells_its_genes_and_prepared_data_survive_a_file(trained, query, tmp_path):
    trained.save(tmp_path / "model")
    genes = CountsDiff.prepare_query_anndata(query, str(tmp_path / "model"), return_reference_var_names=True)
    assert list(genes) == list(trained.adata.var_names)
    CountsDiff.prepare_query_anndata(query, tmp_path / "model")
    query.write_h5ad(tmp_path / "query.h5ad")
    np.testing.assert_allclose(
        trained.impute(ad.read_h5ad(tmp_path / "query.h5ad"), layer_added=None),
        trained.impute(query, layer_added=None),
        rtol=1e-5,
    )


def test_complete_data_are_only_put_in_order(trained, make_adata):
    shuffled = make_adata(9)[:, np.random.default_rng(1).permutation(30)].copy()
    shuffled.varm["loadings"] = np.ones((30, 2))
    shuffled.raw = shuffled
    CountsDiff.prepare_query_anndata(shuffled, trained)
    assert "_sccountsdiff_measured" not in shuffled.var
    assert shuffled.raw.shape == (240, 30)
    np.testing.assert_allclose(
        trained.get_normalized_expression(shuffled), trained.get_normalized_expression(make_adata(9)), rtol=1e-5
    )


def test_few_genes_are_warned_of(trained, make_adata):
    with pytest.warns(UserWarning, match="3 of the 30 genes of the model .10%."):
        CountsDiff.prepare_query_anndata(make_adata(9)[:, :3].copy(), trained)


def test_other_names_views_and_files_are_refused(trained, make_adata, tmp_path):
    other = make_adata(9)
    with pytest.raises(ValueError, match="view.*copy"):
        CountsDiff.prepare_query_anndata(other[:, :20], trained)
    other.write_h5ad(tmp_path / "cells.h5ad")
    with pytest.raises(ValueError, match="to_memory"):
        CountsDiff.prepare_query_anndata(ad.read_h5ad(tmp_path / "cells.h5ad", backed="r"), trained)
    other.var_names = [f"ENSG{g}" for g in range(30)]
    with pytest.raises(ValueError, match="None of the 30 genes.*'gene_0'.*'ENSG0'.*letter case"):
        CountsDiff.prepare_query_anndata(other, trained)
    other.var_names = ["gene_0"] * 30
    with pytest.raises(ValueError, match="not unique"):
        CountsDiff.prepare_query_anndata(other, trained)


def test_genes_that_are_missing_point_to_the_preparation(trained, make_adata):
    with pytest.raises(ValueError, match="prepare_query_anndata"):
        trained.impute(make_adata(9)[:, :20].copy())
