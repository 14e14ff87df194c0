"""Copies of training cells are noticed, new cells of the same law are not."""

from __future__ import annotations

import numpy as np
import pytest

from sccountsdiff import metrics


@pytest.fixture
def cells():
    """Training, held-out and new cells of one law."""
    return np.random.default_rng(0).normal(size=(3, 400, 5))


def test_new_cells_are_as_far_from_training_cells_as_held_out_ones(cells):
    assert metrics.copied_fraction(*cells) == pytest.approx(0.05, abs=0.03)
    assert metrics.novelty_ks(*cells) < 0.1


def test_copies_are_noticed_also_if_they_are_few(cells):
    train, held_out, new = cells
    assert metrics.copied_fraction(train, held_out, train) == 1.0
    assert metrics.novelty_ks(train, held_out, train) == 1.0
    mixed = np.concatenate([new[:360], train[:40]])
    assert metrics.copied_fraction(train, held_out, mixed) > 0.12


def test_distances_are_to_the_nearest(cells):
    train, held_out, _ = cells
    expected = [np.sqrt(((train - cell) ** 2).sum(1)).min() for cell in held_out[:5]]
    np.testing.assert_allclose(metrics.nearest_distance(train, held_out[:5]), expected)


def test_nearest_neighbor_ratio_finds_copies():
    rng = np.random.default_rng(7)
    train, held_out, fresh = rng.normal(size=(3, 200, 3))
    assert metrics.nearest_neighbor_ratio(train, held_out, train) == 0
    assert metrics.nearest_neighbor_ratio(train, held_out, fresh) == pytest.approx(1, abs=0.2)
