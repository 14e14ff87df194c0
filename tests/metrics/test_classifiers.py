import numpy as np
import pytest

from sccountsdiff import metrics


@pytest.fixture(autouse=True)
def _small_forests(monkeypatch):
    monkeypatch.setattr("sccountsdiff.metrics.classifiers.N_TREES", 30)


def test_one_population_cannot_be_told_apart_and_two_can():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(120, 5))
    same = [metrics.two_sample_auc(real, rng.normal(size=(150, 5)), seed=seed) for seed in range(3)]
    assert np.mean(same) == pytest.approx(0.5, abs=0.08)
    assert metrics.two_sample_auc(real, rng.normal(2, 1, size=(120, 5))) > 0.97
    assert metrics.two_sample_auc(real, real[:20] + 0.0, seed=1) == metrics.two_sample_auc(real, real[:20], seed=1)


def test_a_narrow_population_is_found_out_though_its_mean_is_right():
    rng = np.random.default_rng(1)
    assert metrics.two_sample_auc(rng.normal(size=(150, 4)), rng.normal(0, 0.3, size=(150, 4))) > 0.8


def test_too_few_cells_are_refused():
    with pytest.raises(ValueError, match="at least 5 cells"):
        metrics.two_sample_auc(np.zeros((4, 2)), np.zeros((9, 2)))


def test_labels_are_transferred():
    rng = np.random.default_rng(2)
    labels = np.repeat(["a", "b", "c"], 40)
    centre = {"a": 0.0, "b": 4.0, "c": 8.0}
    cells = np.array([centre[label] for label in labels])[:, None] + rng.normal(size=(120, 3))
    assert metrics.label_transfer_accuracy(cells, labels, cells + rng.normal(0, 0.1, cells.shape), labels) > 0.95
    assert metrics.label_transfer_accuracy(cells, labels, cells, np.roll(labels, 40)) < 0.05
