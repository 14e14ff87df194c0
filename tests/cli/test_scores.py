"""Scores know their direction, baseline and floor; intervals are judged fairly."""

import numpy as np
import pandas as pd
import pytest

from sccountsdiff import metrics
from sccountsdiff.cli._report import leader
from sccountsdiff.cli._scores import Entrants, gene_mean, pit_of_draws, pit_of_poisson, score


def test_score_calls_every_entrant_and_keeps_the_direction():
    truth, exact, off = np.ones((2, 3)), np.ones((2, 3)), np.full((2, 3), 3.0)
    table = score("question", ["mse_counts", "total_ratio"], Entrants((exact, truth), (off, truth), (exact, truth)))
    assert list(table["sccountsdiff"]) == [0.0, 1.0]
    assert list(table["baseline"]) == [4.0, 3.0]
    assert list(table["better"]) == ["lower", "1.0"]


@pytest.mark.parametrize(
    ("metric", "better", "model", "baseline", "expected"),
    [
        ("mse_counts", "lower", 1.0, 2.0, "sccountsdiff"),
        ("gene_correlation_agreement", "higher", 0.4, 0.5, "baseline"),
        ("total_ratio", "1.0", 1.2, 0.9, "baseline"),
        ("bias", "0.0", -0.1, 0.2, "sccountsdiff"),
    ],
)
def test_leader_is_who_comes_closer_to_what_is_wanted(metric, better, model, baseline, expected):
    row = pd.Series({"metric": metric, "better": better, "sccountsdiff": model, "baseline": baseline})
    assert leader(row) == expected


def test_gene_mean_has_the_size_of_the_cell_and_the_profile_of_the_training_cells():
    expected = gene_mean(np.array([[1, 0], [2, 1]]), np.array([4, 8]))
    np.testing.assert_allclose(expected, [[3, 1], [6, 2]])


def test_pit_of_few_draws_from_the_truth_is_uniform():
    # Shares of 10 draws without the rank correction would cover 82 % with a 90 % interval.
    rng = np.random.default_rng(0)
    pit = pit_of_draws(rng.poisson(3, 40_000), rng.poisson(3, (10, 40_000)), seed=0)
    assert metrics.pit_ks(pit) < 0.01
    assert metrics.interval_coverage(pit, 0.9) == pytest.approx(0.9, abs=0.01)


def test_pit_of_poisson_is_uniform_for_poisson_counts():
    rng = np.random.default_rng(0)
    mean = rng.gamma(1, 3, 20_000)
    assert metrics.pit_ks(pit_of_poisson(rng.poisson(mean), mean, seed=1)) < 0.015
