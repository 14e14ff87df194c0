"""Rubin's and Reiter's rules, by hand and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from sccountsdiff.stats import pool_imputations, pool_synthetic

ESTIMATES, VARIANCES = [1.0, 2.0, 3.0], [0.5, 0.7, 0.6]  # mean 2, W = 0.6, B = 1


def test_rubins_rules_by_hand():
    pooled = pool_imputations(ESTIMATES, VARIANCES)
    ratio = (4 / 3) / 0.6
    df = 2 * (1 + 1 / ratio) ** 2  # Rubin 1987, 3.1.6
    assert pooled.estimate == pytest.approx(2)
    assert pooled.variance == pytest.approx(0.6 + 4 / 3)
    assert pooled.standard_error == pytest.approx((0.6 + 4 / 3) ** 0.5)
    assert pooled.df == pytest.approx(df) == pytest.approx(4.205)
    assert pooled.missing_information == pytest.approx((ratio + 2 / (df + 3)) / (ratio + 1))


def test_few_complete_degrees_of_freedom_by_hand():
    pooled = pool_imputations(ESTIMATES, VARIANCES, complete_df=10)
    lost = (4 / 3) / (0.6 + 4 / 3)
    observed = 11 / 13 * 10 * (1 - lost)  # Barnard and Rubin 1999
    assert pooled.df == pytest.approx(1 / (1 / 4.205 + 1 / observed))


def test_reiters_rules_by_hand():
    pooled = pool_synthetic(ESTIMATES, VARIANCES)
    assert pooled.estimate == pytest.approx(2)
    assert pooled.variance == pytest.approx(0.6 + 1 / 3)
    assert pooled.df == pytest.approx(2 * (1 + 0.6 / (1 / 3)) ** 2)
    assert pooled.missing_information == pytest.approx((1 / 3) / (0.6 + 1 / 3))
    few = pool_synthetic(ESTIMATES, VARIANCES, complete_df=10)
    assert few.df == pytest.approx(1 / (1 / pooled.df + 1 / 10))


@pytest.mark.parametrize("pool", [pool_imputations, pool_synthetic])
def test_equal_draws_leave_the_plain_analysis(pool):
    pooled = pool([[2.0, 0.0]] * 4, [[0.25, 0.0]] * 4)
    np.testing.assert_allclose(pooled.variance, [0.25, 0])
    np.testing.assert_array_equal(pooled.df, np.inf)
    np.testing.assert_array_equal(pooled.missing_information, 0)
    np.testing.assert_allclose(pooled.p_value(), [6.334e-5, 1], rtol=1e-3)
    np.testing.assert_allclose(pooled.interval(0.95)[0], [2 - 1.959964 * 0.5, 0], rtol=1e-6)


def test_intervals_of_properly_imputed_means_cover_as_they_say():
    """Normal data, half missing, drawn with the uncertainty of the observed mean: the case the rules are made for."""
    rng = np.random.default_rng(0)
    n_sets, n, n_seen, n_draws = 4000, 40, 20, 10
    seen = rng.normal(size=(n_sets, n_seen))
    centre = rng.normal(seen.mean(1), n_seen**-0.5, (n_draws, n_sets))
    drawn = rng.normal(size=(n_draws, n_sets, n - n_seen)) + centre[..., None]
    means = (seen.sum(1) + drawn.sum(-1)) / n
    pooled = pool_imputations(means, np.full(means.shape, 1 / n))
    assert np.mean(pooled.p_value() < 0.05) == pytest.approx(0.05, abs=0.012)
    low, high = pooled.interval(0.9)
    assert np.mean((low < 0) & (high > 0)) == pytest.approx(0.9, abs=0.015)
    assert pooled.missing_information.mean() == pytest.approx(0.5, abs=0.08)


def test_replaced_observations_need_reiters_rule():
    """Counts replaced by draws given themselves: Rubin's rule calls far too little, one draw too much."""
    rng = np.random.default_rng(1)
    observed = rng.normal(size=(4000, 30))
    draws = observed.mean(1)[:, None] + rng.normal(
        size=(10, 4000, 30)
    )  # each set drawn around the mean of its own data
    means, variances = draws.mean(-1), draws.var(-1, ddof=1) / 30
    assert np.mean(pool_synthetic(means, variances).p_value() < 0.05) == pytest.approx(0.05, abs=0.012)
    assert np.mean(pool_imputations(means, variances).p_value() < 0.05) < 0.02
    assert np.mean(np.abs(means[0]) > 1.96 * variances[0] ** 0.5) > 0.12


def test_pooling_names_what_is_wrong():
    with pytest.raises(ValueError, match="at least two"):
        pool_imputations([1.0], [1.0])
    with pytest.raises(ValueError, match=r"shape \(3,\), variances \(2,\)"):
        pool_synthetic(ESTIMATES, VARIANCES[:2])
