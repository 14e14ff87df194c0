import numpy as np
import pytest

from sccountsdiff import metrics
from sccountsdiff.data import plant_null_genes


def test_rates_of_calls():
    p_values = np.array([0.01, 0.2, np.nan, 0.04])
    assert metrics.false_positive_rate(p_values, [True, True, True, False]) == pytest.approx(1 / 3)
    assert metrics.marker_power(p_values, [False, True, False, True]) == pytest.approx(1 / 2)


def test_smoothing_makes_up_correlations_that_counts_do_not_have():
    rng = np.random.default_rng(0)
    state = rng.normal(size=(300, 1))
    counts, null = plant_null_genes(rng.poisson(np.exp(1 + 0.7 * state * rng.normal(size=80))), 0.5, seed=0)
    raw = counts.toarray()
    nearest = np.argsort(np.abs(state - state.T), axis=1)[:, :20]
    smooth = raw[nearest].mean(1)
    assert metrics.null_correlation(raw, null) < 0.07
    assert metrics.made_up_correlations(raw, null) < 0.005
    assert metrics.null_correlation(smooth, null) > 0.15
    assert metrics.made_up_correlations(smooth, null) > 0.1


def test_correlations_are_those_of_numpy():
    rng = np.random.default_rng(1)
    counts = rng.poisson(3.0, (50, 5))
    counts[:, 3] = 0
    null = np.array([True, False, True, True, True])
    values = metrics.log1p_cp10k(counts)
    expected = np.abs([np.corrcoef(values[:, i], values[:, j])[0, 1] for i, j in ((0, 2), (0, 4), (2, 4))])
    found = metrics.null_correlations(counts, null)  # pairs with the constant gene are 0
    np.testing.assert_allclose(found[[0, 2, 4]], expected)
    np.testing.assert_array_equal(found[[1, 3, 5]], 0)
