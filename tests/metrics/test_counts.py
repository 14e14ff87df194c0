import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from sccountsdiff import metrics


def test_poisson_deviance_is_twice_the_log_likelihood_gap():
    rng = np.random.default_rng(0)
    mean, count = rng.gamma(1.0, 2.0, (30, 7)), rng.poisson(2.0, (30, 7))
    gap = stats.poisson.logpmf(count, np.maximum(count, 1e-12)) - stats.poisson.logpmf(count, mean)
    assert metrics.poisson_deviance(mean, count) == pytest.approx(2 * gap.mean())


@pytest.mark.parametrize("score", [metrics.poisson_deviance, metrics.mse_counts, metrics.mse_log1p_cp10k])
def test_proper_scores_are_least_at_the_truth(score):
    rng = np.random.default_rng(1)
    truth = rng.gamma(0.5, 2.0, (300, 40))
    count = rng.poisson(truth)
    best = score(truth, count)
    assert all(best < score(factor * truth, count) for factor in (0.8, 1.25))
    assert best < score(np.broadcast_to(truth.mean(axis=0), truth.shape), count)


def test_sparse_and_dense_counts_score_alike():
    rng = np.random.default_rng(2)
    mean, count = rng.gamma(1.0, 1.0, (20, 5)), rng.poisson(1.0, (20, 5))
    for score in (metrics.poisson_deviance, metrics.mse_counts, metrics.mse_log1p_cp10k, metrics.total_ratio):
        assert score(mean, sp.csr_matrix(count)) == pytest.approx(score(mean, count))


def test_expected_log1p_cp10k_is_the_mean_of_the_transform():
    mean = np.array([[0.0, 0.3, 4.0, 14.0, 40.0]])
    draws = np.random.default_rng(3).poisson(mean, (200_000, 5))
    expected = np.log1p(draws * 1e4 / 60).mean(axis=0)
    np.testing.assert_allclose(metrics.expected_log1p_cp10k(mean, [60.0])[0], expected, rtol=5e-3, atol=1e-12)


def test_log1p_cp10k_leaves_an_empty_cell_at_zero():
    np.testing.assert_allclose(metrics.log1p_cp10k(np.array([[0, 0], [1, 3]])), [[0, 0], np.log1p([2500, 7500])])


def test_masked_scores_see_hidden_entries_only_and_count_zeros():
    truth = np.array([[0.0, 4.0], [2.0, 9.0]])
    imputed = np.array([[1.0, 2.0], [2.0, 100.0]])
    mask = np.array([[True, True], [False, False]])
    assert metrics.rmse(imputed, truth, mask) == pytest.approx(np.sqrt(2.5))
    assert metrics.mae(imputed, truth, mask) == pytest.approx(1.5)
    assert metrics.bias(imputed, truth, mask) == pytest.approx(-0.5)
    assert metrics.bias(imputed, truth) == pytest.approx(22.5)


@pytest.mark.parametrize("score", [metrics.rmse, metrics.mae, metrics.bias, metrics.energy_distance])
def test_an_empty_mask_is_refused(score):
    with pytest.raises(ValueError, match="nothing to score"):
        score(np.ones((2, 3)), np.ones((2, 3)), np.zeros((2, 3), dtype=bool))


@pytest.mark.parametrize("score", [metrics.poisson_deviance, metrics.mse_counts, metrics.crps, metrics.log_score])
def test_no_entries_are_refused(score):
    with pytest.raises(ValueError, match=r"nothing to score: of shape \(0, 3\)"):
        score(np.ones((0, 3)), np.ones((0, 3)))


@pytest.mark.parametrize("wrong", [-0.5, np.nan])
def test_expectations_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match=f"1 of 2 expected counts are negative or NaN, the first being {wrong}"):
        metrics.poisson_deviance([[1.0, wrong]], [[1, 0]])
    assert metrics.poisson_deviance([[0.0]], [[0]]) < 1e-5


def test_total_ratio():
    assert metrics.total_ratio([[1.0, 2.0]], [[2, 4]]) == pytest.approx(0.5)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        metrics.mse_counts(np.ones((2, 3)), np.ones((3, 2)))
