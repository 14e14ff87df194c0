import numpy as np
import pytest
from scipy import stats

from sccountsdiff import metrics

MEAN, SIZE = 3.0, 2.0


@pytest.fixture
def counts():
    return np.random.default_rng(0).negative_binomial(SIZE, SIZE / (SIZE + MEAN), (400, 50))


def pit_of(counts, size, seed=1):
    below, at = (metrics.negative_binomial_cdf(counts - shift, MEAN, size) for shift in (1, 0))
    return metrics.randomized_pit(below, at, seed)


def test_pit_of_the_true_distribution_is_uniform(counts):
    pit = pit_of(counts, SIZE)
    assert stats.kstest(pit.ravel(), "uniform").pvalue > 0.01
    assert metrics.pit_ks(pit) < 0.012
    assert metrics.coverage_error(pit) < 0.01


def test_poisson_intervals_of_overdispersed_counts_cover_too_little(counts):
    pit = pit_of(counts, np.inf)
    assert metrics.pit_ks(pit) > 0.1
    assert metrics.interval_coverage(pit, 0.9) < 0.75
    assert metrics.coverage_error(pit) > 0.1


def test_cdf_of_draws_agrees_with_the_closed_form(counts):
    draws = np.random.default_rng(2).negative_binomial(SIZE, SIZE / (SIZE + MEAN), (4000, 3, 4))
    np.testing.assert_allclose(
        metrics.sample_cdf(counts[:3, :4], draws), metrics.negative_binomial_cdf(counts[:3, :4], MEAN, SIZE), atol=0.03
    )


def test_cdf_takes_poisson_and_negative_binomial_entries_together():
    np.testing.assert_allclose(
        metrics.negative_binomial_cdf([-1, 2, 2], [1.0, 1.0, 1.0], [2.0, 2.0, np.inf]),
        [0, stats.nbinom.cdf(2, 2, 2 / 3), stats.poisson.cdf(2, 1)],
    )


def test_pit_is_reproducible_and_refuses_a_falling_distribution():
    below, at = np.zeros(5), np.ones(5)
    np.testing.assert_array_equal(metrics.randomized_pit(below, at, 3), metrics.randomized_pit(below, at, 3))
    with pytest.raises(ValueError, match="x - 1 first"):
        metrics.randomized_pit(at, below)
