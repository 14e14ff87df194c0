"""Distances between populations, and where generated cells lie: against closed forms, and blind to the order of cells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sccountsdiff import metrics

rng = np.random.default_rng(0)
CELLS, OTHERS = rng.normal(size=(60, 4)), rng.normal(0.5, 1.5, size=(60, 4))
COUNTS, OTHER_COUNTS = rng.poisson(3.0, (50, 8)), rng.poisson(4.0, (50, 8))
EMBEDDED = ("ot_w2", "gaussian_w2", "support_precision", "support_recall", "support_density", "support_coverage")
OF_COUNTS = ("gene_total_variation", "zero_fraction_error", "library_size_distance", "genes_detected_distance")


@pytest.mark.parametrize("name", [*EMBEDDED, *OF_COUNTS])
def test_the_order_of_cells_does_not_matter(name):
    one, other = (CELLS, OTHERS) if name in EMBEDDED else (COUNTS, OTHER_COUNTS)
    function = metrics.METRICS[name].function
    assert function(one, other) == pytest.approx(function(one[::-1], np.roll(other, 7, axis=0)))


@pytest.mark.parametrize("name", ["ot_w2", "gaussian_w2", *OF_COUNTS])
def test_a_copy_is_at_no_distance_and_other_cells_are_further_than_a_new_sample(name):
    one, other = (CELLS, OTHERS) if name in EMBEDDED else (COUNTS, OTHER_COUNTS)
    again = np.random.default_rng(1).permuted(one, axis=0)
    function = metrics.METRICS[name].function
    assert function(one, one) == pytest.approx(0, abs=1e-6)
    assert function(one, again) < function(one, other)


def test_optimal_transport_between_sets_of_one_size_is_the_best_matching():
    squared = cdist(CELLS, OTHERS, "sqeuclidean")
    matched = squared[linear_sum_assignment(squared)].mean()
    assert metrics.ot_w2(CELLS, OTHERS) == pytest.approx(np.sqrt(matched))
    assert metrics.ot_w2(CELLS, np.repeat(OTHERS, 2, axis=0)) == pytest.approx(np.sqrt(matched))
    assert metrics.gaussian_w2(CELLS, OTHERS) < metrics.ot_w2(CELLS, OTHERS)


def test_gaussian_w2_of_one_dimension_is_the_closed_form():
    x, y = CELLS[:, :1], OTHERS[:, :1]
    expected = np.hypot(x.mean() - y.mean(), x.std(ddof=1) - y.std(ddof=1))
    assert metrics.gaussian_w2(x, y) == pytest.approx(expected)


def test_shifted_library_sizes_are_as_far_apart_as_they_are_shifted():
    assert metrics.library_size_distance([[4, 0], [8, 0]], [[5, 0], [9, 0]]) == pytest.approx(1 / 6)
    assert metrics.genes_detected_distance([[4, 0], [8, 0]], [[5, 1], [9, 1]]) == pytest.approx(1.0)


def test_laws_of_genes_are_compared_gene_by_gene():
    real, generated = [[0, 1, 0], [0, 3, 0]], [[0, 1, 0], [1, 1, 0]]
    assert metrics.gene_total_variation(real, generated) == pytest.approx(0.5)
    assert metrics.gene_total_variation([[0]], [[0]]) == 0.0
    assert metrics.zero_fraction_error(real, generated) == pytest.approx(0.5 / 3)


def test_support_sees_what_is_left_out_and_what_is_made_up():
    real = np.concatenate([CELLS, CELLS + 100])
    one_mode, made_up = CELLS + 0.01, np.concatenate([real, CELLS - 100]) + 0.01
    assert metrics.support_precision(real, one_mode) == 1.0
    assert metrics.support_recall(real, one_mode) == metrics.support_coverage(real, one_mode) == 0.5
    assert metrics.support_recall(real, made_up) == metrics.support_coverage(real, made_up) == 1.0
    assert metrics.support_precision(real, made_up) == pytest.approx(2 / 3)
    assert metrics.support_density(real, np.repeat(real[:1], 9, axis=0)) > 1


def test_coverage_of_as_many_real_cells_is_known():
    values = [metrics.support_coverage(*np.random.default_rng(k).normal(size=(2, 200, 3)), 2) for k in range(10)]
    assert np.mean(values) == pytest.approx(1 - 2**-2, abs=0.04)


def test_balls_need_neighbours():
    with pytest.raises(ValueError, match="more than 5 cells, got 5"):
        metrics.support_precision(CELLS[:5], CELLS)
