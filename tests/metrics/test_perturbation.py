"""Scores of predicted responses, against sums written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sccountsdiff import metrics


@pytest.fixture
def study():
    """Control cells, and real cells in which four of twelve genes respond."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(2, 10, 12)
    factor = np.ones(12)
    factor[:4] = [4, 3, 0.25, 0.3]
    return rng.poisson(rate, (300, 12)), rng.poisson(rate * factor, (300, 12)), rng.poisson(rate * factor, (300, 12))


def test_scores_are_what_they_say(study):
    control, real, generated = study
    mean = [np.log1p(1e4 * x / x.sum(1, keepdims=True)).mean(0) for x in study]
    one, other = mean[1] - mean[0], mean[2] - mean[0]
    np.testing.assert_allclose(metrics.response(real, control), one)
    assert metrics.pearson_delta(real, control, generated) == pytest.approx(np.corrcoef(one, other)[0, 1])
    assert metrics.mse_delta(real, control, generated) == pytest.approx(np.mean((mean[1] - mean[2]) ** 2))
    top = set(np.argsort(-abs(one))[:4])
    assert metrics.top_response_overlap(real, control, generated, 4) == len(top & set(np.argsort(-abs(other))[:4])) / 4
    assert metrics.direction_match(real, control, generated, 4) == 1.0
    ranks = [np.argsort(np.argsort(delta)) for delta in (one, other)]
    assert metrics.spearman_delta(real, control, generated) == pytest.approx(np.corrcoef(*ranks)[0, 1])


@pytest.mark.parametrize(
    "score",
    [
        metrics.pearson_delta,
        metrics.spearman_delta,
        metrics.mse_delta,
        metrics.direction_match,
        metrics.top_response_overlap,
    ],
)
def test_a_mean_profile_scores_as_its_cells_do(study, score):
    control, real, generated = study
    profiles = [metrics.log1p_cp10k(cells).mean(0) for cells in (real, control, generated)]
    assert score(real, control, profiles[2]) == pytest.approx(score(real, control, generated))
    assert score(*profiles) == pytest.approx(score(real, control, generated))


def test_the_noise_of_few_control_cells_correlates():
    rng = np.random.default_rng(1)
    real, generated, many = (rng.poisson(5.0, (300, 100)) for _ in range(3))
    few = many[:5]
    assert metrics.pearson_delta(real, few, generated) > 0.9, "although nothing responds"
    assert metrics.pearson_delta(real, many, generated) < 0.75


@pytest.mark.parametrize("score", [metrics.pearson_delta, metrics.spearman_delta])
def test_no_response_scores_zero(study, score):
    control, real, _ = study
    assert score(real, control, control) == 0.0


def test_the_energy_distance_is_unbiased_and_leaves_out_pairs_of_one():
    x, y = np.array([[0.0], [1.0]]), np.array([[3.0], [5.0]])
    assert metrics.e_distance(x, y) == pytest.approx(2 * np.mean([3, 5, 2, 4]) - 1 - 2)
    rng = np.random.default_rng(0)
    halves = [metrics.e_distance(rng.normal(size=(40, 3)), rng.normal(size=(40, 3))) for _ in range(200)]
    assert abs(np.mean(halves)) < 3 * np.std(halves) / np.sqrt(200)
    assert metrics.e_distance(rng.normal(size=(40, 3)), rng.normal(1, 1, size=(40, 3))) > 0.3


def test_discrimination_is_one_for_the_truth_and_a_half_by_chance():
    rng = np.random.default_rng(0)
    real = {f"drug {i}": rng.normal(size=20) for i in range(30)}
    assert metrics.discrimination_score(real, real) == 1.0
    shuffled = dict(zip(real, rng.permutation(list(real.values())), strict=True))
    assert metrics.discrimination_score(real, shuffled) == pytest.approx(0.5, abs=0.15)
    with pytest.raises(KeyError, match="'new' was predicted but not measured"):
        metrics.discrimination_score(real, {"new": real["drug 0"]})
