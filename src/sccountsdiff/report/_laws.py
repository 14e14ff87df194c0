"""Predictions as negative-binomial laws of single entries: those of the model and of simple baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sccountsdiff import metrics
from sccountsdiff.model import CellsRead
from sccountsdiff.report._scores import FLOOR, MODEL, score

_SMALLEST_DISPERSION = 1e-6
_SMALLEST_MEAN = 1e-9
MEANS = ("poisson_deviance", "rmse", "bias")
PROPER = ("log_score", "crps")


class Law(NamedTuple):
    """Negative binomials with variance ``mean + mean ** 2 / size``, entry by entry.

    Attributes
    ----------
    mean, size
        Of one shape.
    """

    mean: NDArray[np.float64]
    size: NDArray[np.float64]

    @classmethod
    def of_moments(cls, mean: NDArray, variance: NDArray) -> Law:
        """The law with these moments.

        Parameters
        ----------
        mean, variance
            Of one shape.

        Returns
        -------
        The law; Poisson where the variance does not exceed the mean.
        """
        mean = np.maximum(np.asarray(mean, dtype=np.float64), _SMALLEST_MEAN)
        return cls(mean, mean**2 / np.maximum(variance - mean, _SMALLEST_DISPERSION * mean**2))

    def part(self, share: float) -> Law:
        """The law of a part of the molecules.

        Parameters
        ----------
        share
            Expected size of the part.

        Returns
        -------
        The thinned law.
        """
        return Law(share * self.mean, self.size)

    def at(self, where: NDArray[np.bool_]) -> Law:
        """The law of some entries.

        Parameters
        ----------
        where
            Boolean, in the shape of the law.

        Returns
        -------
        One-dimensional.
        """
        return Law(self.mean[where], self.size[where])

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Counts that follow the law.

        Parameters
        ----------
        rng
            Source of randomness.

        Returns
        -------
        Integers in the shape of the law.
        """
        return rng.poisson(rng.gamma(self.size, self.mean / self.size))

    def pit(self, counts: NDArray, seed: int) -> NDArray[np.float64]:
        """Randomised probability integral transform of counts.

        Parameters
        ----------
        counts
            In the shape of the law.
        seed
            Seed of the randomisation.

        Returns
        -------
        Values between 0 and 1.
        """
        below, at = (metrics.negative_binomial_cdf(bound, self.mean, self.size) for bound in (counts - 1, counts))
        return metrics.randomized_pit(below, at, seed)


class Profile:
    """Share of each gene in the molecules of a cell, of all cells or by group, and how much single cells differ.

    Parameters
    ----------
    cells
        Training cells.
    labels
        Group of each of them; None is one group.
    """

    def __init__(self, cells: CellsRead, labels: NDArray | None = None) -> None:
        groups = np.zeros(len(cells.counts), dtype=int) if labels is None else labels
        self._all = _shares(cells.counts.sum(0), cells.measured.sum(0))
        size = self.library_size(cells.counts, cells.measured)
        self._share = {
            group: _shares(
                cells.counts[groups == group].sum(0), size[groups == group] @ cells.measured[groups == group]
            )
            for group in np.unique(groups)
        }
        mean = size[:, None] * self._of(groups) * cells.measured
        excess = ((cells.counts - mean) ** 2 - mean).sum(0) / np.maximum((mean**2).sum(0), _SMALLEST_MEAN)
        self._size = 1 / np.maximum(excess, _SMALLEST_DISPERSION)

    def library_size(self, counts: NDArray, seen: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Molecules that each cell would have if all of it were seen.

        Parameters
        ----------
        counts
            Counts ``(n_cells, n_genes)``.
        seen
            Entries that may be looked at, same shape.

        Returns
        -------
        Sizes ``(n_cells,)``.
        """
        return np.where(seen, counts, 0).sum(1) / np.maximum(seen @ self._all, _SMALLEST_MEAN)

    def law(self, size: NDArray, labels: NDArray | None = None) -> Law:
        """What cells of given sizes should show.

        Parameters
        ----------
        size
            Molecules of each cell, ``(n_cells,)``.
        labels
            Group of each cell; one that has no training cells takes the profile of all.

        Returns
        -------
        The law ``(n_cells, n_genes)``.
        """
        groups = np.zeros(len(size), dtype=int) if labels is None else labels
        mean = np.maximum(size[:, None] * self._of(groups), _SMALLEST_MEAN)
        return Law(mean, np.broadcast_to(self._size, mean.shape))

    def _of(self, groups: NDArray) -> NDArray[np.float64]:
        return np.stack([self._share.get(group, self._all) for group in groups])


def score_laws(question: str, laws: Mapping[str, Law], truth: NDArray, seed: int) -> pd.DataFrame:
    """Score predictions of entries, with the floor that the model would reach if it were exactly right.

    Parameters
    ----------
    question
        What is asked.
    laws
        Name of an entrant -> its law; ``"sccountsdiff"`` is the model.
    truth
        Counts that came.
    seed
        Seed of the floor's draw.

    Returns
    -------
    Table of :func:`sccountsdiff.report.score`.
    """
    ours = laws[MODEL]
    drawn = ours.draw(np.random.default_rng(seed))
    means = {name: (law.mean, truth) for name, law in laws.items()} | {FLOOR: (ours.mean, drawn)}
    proper = {name: (truth, *law) for name, law in laws.items()} | {FLOOR: (drawn, *ours)}
    return pd.concat([score(question, MEANS, means), score(question, PROPER, proper)], ignore_index=True)


def _shares(molecules: NDArray, chances: NDArray) -> NDArray[np.float64]:
    """Molecules of each gene for each chance to see some, summing to one."""
    rate = molecules / np.maximum(chances, _SMALLEST_MEAN)
    return rate / max(rate.sum(), _SMALLEST_MEAN)
