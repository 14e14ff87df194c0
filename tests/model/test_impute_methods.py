"""RePaint beside the direct answer: same question, same form of result, its own walk."""

from __future__ import annotations

import numpy as np
import pytest

from sccountsdiff import CountsDiff
from sccountsdiff.data import mcar_mask
from sccountsdiff.model import METHODS, Direct, RePaint

QUICK = RePaint(n_steps=6)


@pytest.fixture
def data(make_adata):
    """A few cells that the model has not seen."""
    return make_adata(9)[:60].copy()


@pytest.fixture
def mask(data):
    """A third of the entries."""
    return mcar_mask(data.shape, 1 / 3, seed=0)


def test_the_paper_is_one_word_away():
    assert METHODS["repaint"]() == RePaint(19, 3, 20, 0.5, 0.02, "binomial", "cosine")
    assert METHODS["direct"]() == Direct(20)


@pytest.mark.parametrize("method", ["repaint", QUICK, RePaint(n_steps=6, n_resample=2, jump=2, guidance=1.0)], ids=str)
def test_repaint_draws_hidden_entries_and_keeps_the_others(trained, data, mask, method):
    counts = data.layers["counts"].toarray()
    one = trained.impute(data, mask=mask, method=method, layer_added=None, seed=0).toarray()
    np.testing.assert_array_equal(one[~mask], counts[~mask])
    assert np.issubdtype(one.dtype, np.integer)
    assert one[mask].mean() == pytest.approx(counts[mask].mean(), rel=0.2)
    assert trained.impute(data, mask=mask, method=method, layer_added="painted", seed=0) is None
    assert "RePaint" in data.uns["sccountsdiff"]["painted"]["imputation"]


def test_repaint_does_not_read_hidden_values(trained, data, mask):
    changed = data.copy()
    changed.layers["counts"] = np.where(mask, 1000, data.layers["counts"].toarray())
    first, second = (trained.impute(d, mask=mask, method=QUICK, layer_added=None, seed=0) for d in (data, changed))
    assert (first != second).nnz == 0


def test_one_direct_pass_beats_repaint_with_five_draws(trained, data, mask):
    truth = data.layers["counts"].toarray()[mask]
    direct = trained.impute(data, mask=mask, layer_added=None).to_numpy()[mask]
    options = {"n_samples": 5, "return_mean": True, "layer_added": None, "seed": 0}
    painted = trained.impute(data, mask=mask, method="repaint", **options).to_numpy()[mask]
    assert np.square(direct - truth).mean() < 0.95 * np.square(painted - truth).mean()


@pytest.mark.parametrize("options", [{"quantiles": 0.5}, {"return_mean": True}])
def test_repaint_has_no_closed_form(trained, data, mask, options):
    with pytest.raises(ValueError, match="RePaint has no closed form"):
        trained.impute(data, mask=mask, method="repaint", **options)


def test_steps_belong_to_the_method(trained, data, mask):
    by_name = trained.impute(data, mask=mask, method="repaint", n_steps=6, layer_added=None, seed=0)
    by_object = trained.impute(data, mask=mask, method=QUICK, layer_added=None, seed=0)
    assert (by_name != by_object).nnz == 0
    with pytest.raises(ValueError, match="n_steps=5 is given beside RePaint"):
        trained.impute(data, mask=mask, method=QUICK, n_steps=5)


def test_repaint_guidance_needs_condition_dropout(adata, quick_train):
    CountsDiff.setup_anndata(adata, layer="counts", labels_key="cell_type")
    model = quick_train(CountsDiff(adata, n_hidden=8, condition_dropout=0.0), 1)
    mask = mcar_mask(adata.shape, 0.1, seed=0)
    with pytest.raises(ValueError, match="condition dropout"):
        model.impute(mask=mask, method="repaint", layer_added=None)
    model.impute(mask=mask, method=RePaint(n_steps=3, guidance=1.0), layer_added=None, seed=0)
