"""Baselines and predictions as negative binomials."""

import numpy as np
import pytest

from sccountsdiff import metrics
from sccountsdiff.model import CellsRead
from sccountsdiff.report._laws import Law, Profile, score_laws

rng = np.random.default_rng(0)
SHARE = np.repeat([[0.07, 0.02, 0.01], [0.01, 0.02, 0.07]], 10, axis=1)
LABELS = np.repeat(["A", "B"], 400)
SIZE = rng.integers(500, 1500, 800)
COUNTS = rng.poisson(rng.gamma(5.0, SIZE[:, None] * SHARE[(LABELS == "B").astype(int)] / 5.0)).astype(float)
SEEN = np.ones(COUNTS.shape, dtype=bool)


def test_moments_make_the_law_and_its_parts():
    law = Law.of_moments(np.array([2.0, 3.0]), np.array([4.0, 3.0]))
    assert law.size[0] == pytest.approx(2.0)
    assert law.size[1] > 1e5
    assert law.part(0.5).mean[0] == 1.0
    np.testing.assert_array_equal(law.at(np.array([False, True])).mean, [3.0])


def test_draws_of_a_law_are_calibrated_under_it():
    law = Law(np.full(20_000, 3.0), np.full(20_000, 2.0))
    drawn = law.draw(np.random.default_rng(1))
    assert drawn.var() == pytest.approx(3 + 9 / 2, rel=0.05)
    assert metrics.pit_ks(law.pit(drawn, seed=0)) < 0.015


def test_profiles_of_all_cells_and_of_groups_are_found():
    everyone, by_group = Profile(CellsRead(COUNTS, SEEN)), Profile(CellsRead(COUNTS, SEEN), LABELS)
    np.testing.assert_allclose(everyone.law(np.array([100.0])).mean[0], 100 * SHARE.mean(0), rtol=0.15)
    law = by_group.law(np.array([100.0, 100.0, 100.0]), np.array(["A", "B", "never seen"]))
    np.testing.assert_allclose(law.mean[:2], 100 * SHARE, rtol=0.15)
    np.testing.assert_allclose(law.mean[2], 100 * SHARE.mean(0), rtol=0.15)
    assert np.median(law.size[0]) == pytest.approx(5, rel=0.2)


def test_hidden_entries_do_not_make_a_cell_small():
    seen = SEEN.copy()
    seen[:, :3] = False
    sizes = [Profile(CellsRead(COUNTS, SEEN)).library_size(COUNTS, part).mean() for part in (SEEN, seen)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_the_right_law_scores_its_floor_and_a_wrong_one_does_not():
    right = Law(np.full((200, 20), 3.0), np.full((200, 20), 2.0))
    truth = right.draw(np.random.default_rng(2))
    laws = {"sccountsdiff": right, "gene mean": Law(2 * right.mean, right.size)}
    scores = score_laws("question", laws, truth, seed=0).set_index("metric")
    assert scores.loc["crps", "sccountsdiff"] == pytest.approx(scores.loc["crps", "floor"], rel=0.08)
    assert (
        scores.loc[["crps", "log_score", "rmse"], "gene mean"] > scores.loc[["crps", "log_score", "rmse"], "floor"]
    ).all()
