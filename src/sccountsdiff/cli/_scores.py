"""The baseline of the quickstart, and how its intervals and those of the model are judged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sccountsdiff import metrics

if TYPE_CHECKING:
    import numpy.typing as npt


def gene_mean(training: npt.NDArray, size: npt.NDArray) -> npt.NDArray:
    """Expected counts ``(n_cells, n_genes)`` when every cell has the average profile and the library size ``size``."""
    return np.outer(size, training.sum(0) / training.sum())


def pit_of_draws(counts: npt.NDArray, draws: npt.NDArray, seed: int) -> npt.NDArray:
    """Randomised PIT of ``counts`` among ``draws`` of shape ``(n_draws, *counts.shape)``.

    The count is ranked among the draws as one more of them, which is exactly uniform for a calibrated model however few
    the draws; shares of draws alone would make every interval look too narrow.
    """
    n_draws = len(draws)
    below = metrics.sample_cdf(counts - 1, draws) * n_draws / (n_draws + 1)
    at = (metrics.sample_cdf(counts, draws) * n_draws + 1) / (n_draws + 1)
    return metrics.randomized_pit(below, at, seed)


def pit_of_poisson(counts: npt.NDArray, mean: npt.NDArray, seed: int) -> npt.NDArray:
    """Randomised PIT of ``counts`` under Poisson distributions of the given means."""
    below, at = (metrics.negative_binomial_cdf(bound, mean) for bound in (counts - 1, counts))
    return metrics.randomized_pit(below, at, seed)
