import numpy as np
import pytest
from scipy import stats

from sccountsdiff import metrics


def summed_crps(count, law):
    """The definition: squared distance of the predicted distribution function from the step at the count."""
    grid = np.arange(int(law.ppf(1 - 1e-12)) + count + 2)
    return float(((law.cdf(grid) - (grid >= count)) ** 2).sum())


@pytest.mark.parametrize("mean", [1e-3, 0.3, 4.0, 150.0])
@pytest.mark.parametrize("size", [0.02, 1.0, 7.5, 3e4, np.inf])
@pytest.mark.parametrize("count", [0, 1, 12])
def test_closed_form_is_the_sum(mean, size, count):
    law = stats.poisson(mean) if np.isinf(size) else stats.nbinom(size, size / (size + mean))
    assert metrics.crps_negative_binomial(count, mean, size) == pytest.approx(
        summed_crps(count, law), rel=1e-5, abs=1e-9
    )


def test_draws_agree_with_the_closed_form():
    rng = np.random.default_rng(0)
    draws = rng.negative_binomial(2.0, 2.0 / 5.0, (4000, 6))
    count = np.arange(6)
    expected = metrics.crps_negative_binomial(count, 3.0, 2.0)
    np.testing.assert_allclose(metrics.crps_draws(count, draws), expected, atol=0.06)


def test_few_draws_are_not_punished_for_being_few():
    rng = np.random.default_rng(1)
    draws = rng.poisson(4.0, (3, 200_000))
    assert metrics.crps_draws(np.full(200_000, 4), draws).mean() == pytest.approx(
        float(metrics.crps_negative_binomial(4, 4.0)), abs=0.01
    )
    with pytest.raises(ValueError, match="at least two"):
        metrics.crps_draws(np.zeros(3), np.zeros((1, 3)))


@pytest.mark.parametrize("score", [metrics.crps, metrics.log_score])
def test_the_true_law_scores_best(score):
    counts = np.random.default_rng(2).negative_binomial(2.0, 2.0 / 5.0, 20_000)
    true = score(counts, 3.0, 2.0)
    assert true < min(score(counts, 3.5, 2.0), score(counts, 3.0), score(counts, 3.0, 0.8))


def test_log_score_is_the_mean_log_probability():
    counts = np.array([0, 2, 5])
    expected = -np.mean([stats.poisson.logpmf(0, 1.0), *stats.nbinom.logpmf([2, 5], 3, 0.5)])
    assert metrics.log_score(counts, [1.0, 3.0, 3.0], [np.inf, 3.0, 3.0]) == pytest.approx(expected)
