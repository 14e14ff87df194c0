"""The test of two groups: right where it can be computed by hand, at its level, and not fooled by depth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse, stats

from sccountsdiff.stats import compare_groups, rarefied_detection, visible_sizes

N_GENES = 1500


def make_counts(rng, n_cells=(120, 80), depth=(1500, 600), spread=0.0):
    """Two groups of different depth and equal shares; ``spread`` is the variance of a cell's own relative rate."""
    first = np.repeat([True, False], n_cells)
    share = rng.lognormal(0, 1.5, N_GENES)
    size = np.where(first, *depth) * rng.lognormal(0, 0.4, len(first))
    rate = size[:, None] * share / share.sum()
    if spread:
        rate = rate * rng.gamma(1 / spread, spread, rate.shape)
    return rng.poisson(rate), first


@pytest.mark.parametrize("depth", [5.0, 50.0])
def test_detection_does_not_depend_on_depth(depth):
    rng = np.random.default_rng(0)
    share = 0.01
    for size in (100, 1000):
        counts = rng.poisson(size * share, 200_000)
        detected = rarefied_detection(counts, size, depth)
        assert detected.mean() == pytest.approx(1 - np.exp(-depth * share), abs=4 * detected.std() / 200_000**0.5)


def test_detection_is_the_mean_over_thinnings():
    counts = np.array([0, 1, 3])
    thinned = np.random.default_rng(1).binomial(counts, 0.2, (100_000, 3))
    np.testing.assert_allclose(rarefied_detection(counts, 50, 10), (thinned > 0).mean(0), atol=0.006)


@pytest.mark.parametrize("spread", [0.0, 1.0], ids=["poisson", "overdispersed"])
def test_level_holds_where_depth_differs(spread):
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(3):
        counts, first = make_counts(rng, spread=spread)
        rates.append(np.mean(compare_groups(counts, first).p_value < 0.05))
    assert 0.025 < np.mean(rates) < 0.056
    scaled = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    assert np.mean(stats.mannwhitneyu(scaled[first], scaled[~first]).pvalue < 0.05) > 0.2  # what it is made against


def test_power_is_that_of_a_rank_test_where_depth_is_equal():
    rng = np.random.default_rng(3)
    counts, first = make_counts(rng, depth=(1000, 1000), spread=0.5)
    changed = np.arange(N_GENES) < 500
    boosted = rng.binomial(counts, 0.6)  # a fold change of 0.6 in the second group
    counts = np.where(changed & ~first[:, None], boosted, counts)
    found = compare_groups(counts, first)
    scaled = np.log1p(1e4 * counts / counts.sum(1, keepdims=True))
    ranks = stats.mannwhitneyu(scaled[first], scaled[~first]).pvalue
    assert np.mean(found.p_value[changed] < 0.05) > np.mean(ranks[changed] < 0.05)
    assert np.mean(found.difference[changed] > 0) > 0.8


def test_hidden_entries_keep_the_level_and_are_not_used():
    rng = np.random.default_rng(4)
    counts, first = make_counts(rng)
    hidden = rng.random(counts.shape) < np.where(first, 0.7, 0.3)[:, None]  # more is missing in one group
    result = compare_groups(sparse.csr_matrix(counts), first, hidden=hidden)
    assert np.nanmean(result.p_value < 0.05) < 0.06
    other = compare_groups(np.where(hidden, 99, counts), first, hidden=sparse.csr_matrix(hidden))
    np.testing.assert_allclose(result.p_value, other.p_value)


def test_visible_sizes_are_those_of_whole_cells():
    rng = np.random.default_rng(5)
    counts, _ = make_counts(rng)
    hidden = sparse.csr_matrix(rng.random(counts.shape) < 0.5)
    ratio = visible_sizes(sparse.csr_matrix(counts), hidden) / counts.sum(1)
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    assert ratio.std() < 0.1


def test_welch_by_hand():
    """Cells of equal size that spread more than Poisson counts: the test is Welch's on the detections."""
    counts = np.array([[29, 71], [2, 98], [16, 84], [1, 99], [0, 100], [13, 87], [2, 98]])
    first = np.arange(7) < 3
    result = compare_groups(counts, first, depth=np.array([4.0, 4.0]))
    detected = 1 - (1 - 0.04) ** counts[:, 0]
    plain = stats.ttest_ind(detected[first], detected[~first], equal_var=False)
    assert result.difference[0] == pytest.approx(detected[first].mean() - detected[~first].mean())
    assert result.df[0] == pytest.approx(plain.df)
    assert result.p_value[0] == pytest.approx(plain.pvalue)
    rates = (47 + 1) / (300 + 700 / 63), (16 + 1) / (400 + 700 / 63)
    assert result.log2_fold_change[0] == pytest.approx(np.log2(rates[0] / rates[1]))


def test_variance_is_at_least_that_of_counting_molecules():
    """Cells that happen to agree do not make a few molecules certain."""
    counts = np.array([[1, 99]] * 8 + [[0, 100]] * 8)
    result = compare_groups(counts, np.arange(16) < 8, depth=np.array([25.0, 25.0]))
    kept = np.random.default_rng(7).poisson(0.5, 200_000)
    assert result.variance[0] == pytest.approx(rarefied_detection(kept, 100, 25).var() / 4, rel=0.02)
    assert result.df[0] == pytest.approx(14)


def test_genes_that_cannot_be_tested_are_not_a_number():
    rng = np.random.default_rng(6)
    counts = rng.poisson(3.0, (20, 3))
    counts[:, 1] = 0
    first = np.arange(20) < 10
    hidden = np.zeros(counts.shape, bool)
    hidden[:10, 2] = True
    assert np.isnan(compare_groups(counts, first, hidden=hidden).p_value).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": np.full((6, 2), 0.5)}, "raw UMI counts, found 0.5.*Pass the raw counts"),
        ({"first": np.array([True] + [False] * 5)}, "at least two cells, got 1 and 5"),
        ({"first": np.arange(6)}, "must be boolean of shape"),
        ({"hidden": np.zeros((6, 3), bool)}, r"hidden must be boolean of shape \(6, 2\)"),
    ],
)
def test_comparison_names_what_is_wrong(change, message):
    arguments = {"counts": np.ones((6, 2)), "first": np.arange(6) < 3} | change
    with pytest.raises(ValueError, match=message):
        compare_groups(**arguments)
