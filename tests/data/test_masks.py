"""Masks hide what they say, and planted null genes hold nothing but depth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sccountsdiff.data import cell_mask, mar_mask, mnar_mask, panel_mask, plant_null_genes


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(1.0, 2.0, 40) * rng.gamma(4, 0.25, (400, 1)))


def test_mar_hides_more_of_shallow_cells(counts):
    size = counts.sum(1)
    mask = mar_mask(size, 500, 0.3, seed=0)
    assert mask.mean() == pytest.approx(0.3, abs=0.01)
    order = np.argsort(size)
    assert mask[order[:40]].mean() == pytest.approx(0.57, abs=0.02)
    assert mask[order[-40:]].mean() == pytest.approx(0.03, abs=0.02)


@pytest.mark.parametrize("tail", ["low", "high"])
@pytest.mark.parametrize("store", [np.asarray, sparse.csr_matrix])
def test_mnar_hides_one_tail_of_each_gene(counts, tail, store):
    mask = mnar_mask(store(counts), 0.25, tail=tail, seed=0)
    assert (mask.sum(0) == 100).all()
    hidden = np.where(mask, counts, np.nan)
    middle = np.median(counts, axis=0)
    outermost = np.nanmax(hidden, axis=0) if tail == "low" else np.nanmin(hidden, axis=0)
    assert (outermost <= middle if tail == "low" else outermost >= middle).all()


def test_panel_hides_the_same_genes_in_some_cells():
    mask = panel_mask((20, 30), cells=0.25, genes=0.5, seed=0)
    assert mask.any(1).sum() == 5
    assert mask.any(0).sum() == 15
    assert mask.sum() == 75


def test_cells_are_hidden_whole():
    mask = cell_mask((20, 30), 0.25, seed=0)
    assert sorted(mask.sum(1)) == [0] * 15 + [30] * 5


def test_masks_are_reproducible(counts):
    for make in (
        lambda seed: mar_mask(counts.sum(1), 40, 0.3, seed=seed),
        lambda seed: mnar_mask(counts, 0.3, seed=seed),
        lambda seed: panel_mask(counts.shape, seed=seed),
    ):
        np.testing.assert_array_equal(make(1), make(1))
        assert (make(1) != make(2)).any()


@pytest.mark.parametrize("fraction", [-0.1, 1.1])
def test_masks_want_a_fraction(counts, fraction):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        mnar_mask(counts, fraction, seed=0)


def test_null_genes_follow_depth_and_nothing_else():
    rng = np.random.default_rng(1)
    group = np.arange(2000) < 1000
    share = np.where(group[:, None], rng.gamma(2.0, 1.0, 60), rng.gamma(2.0, 1.0, 60))
    counts = rng.poisson(share * rng.gamma(4, 0.25, (2000, 1)))
    planted, null = plant_null_genes(sparse.csr_matrix(counts), 0.5, seed=0)
    values = planted.toarray()
    assert null.sum() == 30
    np.testing.assert_array_equal(values[:, ~null], counts[:, ~null])
    depth = values[:, ~null].sum(1)
    rate = [values[cells][:, null].sum(0) / depth[cells].sum() for cells in (group, ~group)]
    np.testing.assert_allclose(rate[0], rate[1], rtol=0.25)
    np.testing.assert_allclose(values[:, null].mean(0), counts[:, null].mean(0), rtol=0.15)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_null_genes_leave_real_ones(counts, fraction):
    with pytest.raises(ValueError, match="must leave real and null genes"):
        plant_null_genes(counts, fraction, seed=0)
