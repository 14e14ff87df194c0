import numpy as np
import pytest
from scipy import stats

from sccountsdiff import metrics


@pytest.fixture
def entries():
    rng = np.random.default_rng(0)
    truth = rng.poisson(rng.gamma(1.0, 3.0, 30), (12, 30)).astype(float)
    return truth + rng.normal(0, 1, truth.shape), truth, rng.random(truth.shape) < 0.6


@pytest.mark.parametrize(
    ("score", "by_hand"),
    [
        (metrics.cell_pearson, lambda one, other: stats.pearsonr(one, other).statistic),
        (metrics.cell_spearman, lambda one, other: stats.spearmanr(one, other).statistic),
        (metrics.cell_r2, lambda one, other: 1 - np.sum((one - other) ** 2) / np.sum((other - other.mean()) ** 2)),
    ],
)
def test_scores_are_means_over_cells(entries, score, by_hand):
    imputed, truth, mask = entries
    expected = np.mean([by_hand(imputed[n][mask[n]], truth[n][mask[n]]) for n in range(len(truth))])
    assert score(imputed, truth, mask) == pytest.approx(expected)
    assert score(truth, truth, mask) == pytest.approx(1)


def test_constant_predictions_score_nothing_and_are_not_left_out(entries):
    imputed, truth, _ = entries
    imputed[:6] = 2.0
    assert metrics.cell_pearson(imputed, truth) == pytest.approx(metrics.cell_pearson(imputed[6:], truth[6:]) / 2)
    assert metrics.cell_spearman(np.ones_like(truth), truth) == 0


def test_cells_that_say_nothing_are_left_out(entries):
    imputed, truth, mask = entries
    truth[0] = 3.0
    mask[1] = np.arange(30) == 0
    assert metrics.cell_r2(imputed, truth, mask) == pytest.approx(metrics.cell_r2(imputed[2:], truth[2:], mask[2:]))
    assert np.isnan(metrics.cell_pearson(imputed[:1], truth[:1]))


def test_energy_distance_asks_for_the_distribution(entries):
    _, truth, _ = entries
    shuffled = np.random.default_rng(1).permutation(truth.ravel()).reshape(truth.shape)
    assert metrics.energy_distance(shuffled, truth) == 0
    assert metrics.energy_distance(np.full_like(truth, truth.mean()), truth) > 0.5


def test_open_problems_scores_and_what_is_wrong_with_them():
    rng = np.random.default_rng(2)
    rate = rng.gamma(0.3, 1.0, (200, 50))
    train, test = rng.poisson(0.9 * rate), rng.poisson(0.1 * rate)
    zeros, truth = np.zeros_like(rate), 0.9 * rate
    total = train.sum()
    assert metrics.open_problems_poisson(zeros, test, total) < metrics.open_problems_poisson(truth, test, total)
    assert metrics.poisson_deviance(truth / 9, test) < metrics.poisson_deviance(zeros, test)
    by_hand = np.mean(test - truth * test.sum() / total * np.log(test + 1e-6))
    assert metrics.open_problems_poisson(truth, test, total) == pytest.approx(by_hand)
    logged = [np.log1p(1e4 * x / np.maximum(x.sum(1, keepdims=True), 1e-300)) for x in (truth, test.astype(float))]
    assert metrics.open_problems_mse(truth, test) == pytest.approx(np.mean((logged[0] - logged[1]) ** 2), rel=1e-3)
