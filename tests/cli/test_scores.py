"""The baseline of the quickstart is what it says, and intervals are judged fairly."""

import numpy as np
import pytest

from sccountsdiff import metrics
from sccountsdiff.cli._scores import gene_mean, pit_of_draws, pit_of_poisson


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
