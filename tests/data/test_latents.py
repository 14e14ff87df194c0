"""Count latents have the mean and the spread they promise, and find their way back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from sccountsdiff.data import from_counts, to_counts

N = 20_000
LEVELS = np.array([0.0, 0.3, 2.0, 40.0])
STORES = [np.asarray, sparse.csr_matrix, sparse.csc_matrix]


def dense(values):
    return values.toarray() if sparse.issparse(values) else values


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("scale", [1.0, 25.0, np.array([1.0, 10.0, 100.0, 0.5])])
def test_round_trip_is_unbiased_with_poisson_spread(store, scale):
    values = store(np.tile(LEVELS, (N, 1)))
    counts = to_counts(values, scale, seed=0)
    assert np.array_equal(dense(counts), np.rint(dense(counts)))
    back = dense(from_counts(counts, scale))
    error = np.sqrt(LEVELS / scale / N)
    assert (abs(back.mean(0) - LEVELS) <= 4 * error).all()
    assert back.var(0) == pytest.approx(LEVELS / scale, rel=0.06)
    assert (back[:, 0] == 0).all()


@pytest.mark.parametrize("store", STORES)
def test_storage_stays_sparse_and_the_input_unchanged(store):
    values = store(np.tile(LEVELS, (5, 1)))
    before = dense(values).copy()
    counts = to_counts(values, 3.0, seed=1)
    assert sparse.issparse(counts) == sparse.issparse(values)
    assert counts.dtype == from_counts(counts, 3.0).dtype == np.float32
    assert np.array_equal(dense(values), before)


def test_law_tends_to_that_of_the_values():
    values = np.random.default_rng(0).gamma(2.0, 3.0, (N, 1))
    quantiles = np.linspace(0.05, 0.95, 10)
    wanted = np.quantile(values, quantiles)
    far, near = (
        abs(np.quantile(from_counts(to_counts(values, scale, seed=0), scale), quantiles) - wanted).max()
        for scale in (0.2, 200.0)
    )
    assert near < 0.05 < far


def test_same_seed_same_counts_and_the_global_state_is_left_alone():
    values = np.full((50, 3), 7.0)
    state = np.random.get_state()[1].copy()
    assert np.array_equal(to_counts(values, 2.0, seed=4), to_counts(values, 2.0, seed=4))
    assert not np.array_equal(to_counts(values, 2.0, seed=4), to_counts(values, 2.0, seed=5))
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, 1e9])
def test_values_that_cannot_be_counted_are_named(store, value):
    values = np.ones((4, 3))
    values[2, 1] = value
    with pytest.raises(ValueError, match=r"cell 2, feature 1 is .*non-negative"):
        to_counts(store(values), 1.0, seed=0)


@pytest.mark.parametrize(
    ("scale", "message"),
    [(0.0, "positive and finite, got 0"), ([1.0, np.nan, 1.0], "got nan"), ([1.0, 2.0], "each of 3 features")],
)
def test_bad_scales_are_refused(scale, message):
    for transform in (lambda: to_counts(np.ones((4, 3)), scale, seed=0), lambda: from_counts(np.ones((4, 3)), scale)):
        with pytest.raises(ValueError, match=message):
            transform()
