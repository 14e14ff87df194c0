"""Clusters and markers: what is known by construction is found, and what smoothing does to it is seen."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import mannwhitneyu

from sccountsdiff import metrics

LABELS = np.repeat(["one", "other", "third"], 30)


@pytest.fixture(scope="module")
def counts():
    """Three types, each with eight genes of its own at four times the rate."""
    rate = np.full((3, 24), 2.0)
    for k in range(3):
        rate[k, 8 * k : 8 * k + 8] = 8.0
    return np.random.default_rng(0).poisson(np.repeat(rate, 30, axis=0))


@pytest.mark.parametrize("score", [metrics.clustering_ari, metrics.clustering_nmi])
def test_clusters_that_are_there_are_found(counts, score):
    assert score(sp.csr_matrix(counts), LABELS) > 0.95
    shuffled = np.random.default_rng(1).permuted(counts, axis=0)
    assert score(shuffled, LABELS) < 0.15


def test_marker_auc_is_that_of_the_rank_sum_statistic(counts):
    first, markers = LABELS == "one", np.arange(24) < 8
    values = metrics.log1p_cp10k(counts)
    u = mannwhitneyu(values[first], values[~first], axis=0).statistic[markers]
    assert metrics.marker_auc(counts, first, markers) == pytest.approx(np.mean(u / (30 * 60)))
    assert metrics.marker_auc(np.ones_like(counts), first, markers) == pytest.approx(0.5)


def test_shrunken_fold_changes_have_a_small_slope(counts):
    first, markers = LABELS == "one", np.arange(24) < 8
    slope = metrics.fold_change_slope(counts, counts, first, markers)
    assert slope == pytest.approx(1)
    shrunk = 0.5 * counts + 0.5 * counts.mean(0)
    assert 0.3 < metrics.fold_change_slope(shrunk, counts, first, markers) < 0.7


def test_inflation_is_measured_against_the_raw_counts(counts):
    null = np.ones(24, dtype=bool)
    assert metrics.correlation_inflation(counts, counts, null) == 0
    smooth = np.stack([counts[np.maximum(i - 9, 0) : i + 1].mean(0) for i in range(len(counts))])
    assert metrics.correlation_inflation(smooth, counts, null) > 0.1
