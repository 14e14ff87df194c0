"""What a perturbation would do if it did everywhere what it does elsewhere: the baseline that is hard to beat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sccountsdiff.report._contest import JOINT_NAME, CellSet

#: Part of a molecule per cell that is added to both sides of a ratio.
_PSEUDOCOUNT = 0.01


class Effects(NamedTuple):
    """Training cells of perturbations in groups, and which of them are controls.

    Parameters
    ----------
    train
        The cells, named ``group / perturbation`` in the order of the keys.
    place
        Position of the perturbation in these names.
    control
        The perturbation that stands for none.
    separator
        What stands between the parts in the name of a combination; None if there are no combinations.
    """

    train: CellSet
    place: int
    control: str
    separator: str | None = None

    def perturbation(self, name: str) -> str:
        """Perturbation of a condition.

        Parameters
        ----------
        name
            The condition.

        Returns
        -------
        Its name.
        """
        return name.split(JOINT_NAME)[self.place]

    def has_combinations(self, names: Iterable[str]) -> bool:
        """Whether any of some conditions combines perturbations."""
        return self.separator is not None and any(self.separator in self.perturbation(name) for name in names)

    def control_of(self, name: str) -> str:
        """Condition of the control cells of the same group.

        Parameters
        ----------
        name
            A condition.

        Returns
        -------
        Name of a condition.
        """
        parts = name.split(JOINT_NAME)
        return JOINT_NAME.join([*parts[: self.place], self.control, *parts[self.place + 1 :]])

    def shifted_control(self, name: str, seed: int) -> NDArray[np.float64]:
        """Control cells, each gene multiplied by its mean ratio elsewhere and rounded at random.

        Elsewhere is the same perturbation in other groups, or if there is none other perturbations of the same group.

        Parameters
        ----------
        name
            A condition.
        seed
            Seed of the rounding.

        Returns
        -------
        Counts ``(n_cells, n_genes)``; control cells as they are if there is no elsewhere.
        """
        others = self._measured() - {name}
        alike = {other for other in others if self.perturbation(other) == self.perturbation(name)}
        alike = alike or {other for other in others if self.control_of(other) == self.control_of(name)}
        return self._moved(name, self._log_ratio(alike), seed)

    def summed_control(self, name: str, seed: int) -> NDArray[np.float64]:
        """Control cells, each gene multiplied by what the parts of a combination do by themselves.

        Parameters
        ----------
        name
            A condition.
        seed
            Seed of the rounding.

        Returns
        -------
        Counts ``(n_cells, n_genes)``; a part that was not measured by itself does nothing.
        """
        sums = np.zeros(self.train.counts.shape[1])
        for part in self.perturbation(name).split(self.separator):
            alone = {other for other in self._measured() - {name} if self.perturbation(other) == part}
            here = {other for other in alone if self.control_of(other) == self.control_of(name)}
            sums += self._log_ratio(here or alone)
        return self._moved(name, sums, seed)

    def _measured(self) -> set[str]:
        """Perturbed conditions with a control of their group."""
        names = set(np.unique(self.train.labels))
        return {name for name in names if self.perturbation(name) != self.control and self.control_of(name) in names}

    def _log_ratio(self, names: set[str]) -> NDArray[np.float64]:
        """Log ratio of the shares of expression to the control, mean over conditions; 0 if there are none."""
        ratios = [self._log_share(name) - self._log_share(self.control_of(name)) for name in sorted(names)]
        return np.mean(ratios, axis=0) if ratios else np.zeros(self.train.counts.shape[1])

    def _moved(self, name: str, log_ratio: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
        """Control cells of the group of a condition, multiplied and rounded at random."""
        moved = self.train.of(self.control_of(name)) * np.exp(log_ratio)
        return np.floor(moved + np.random.default_rng(seed).random(moved.shape))

    def _log_share(self, name: str) -> NDArray[np.float64]:
        mean = self.train.of(name).mean(0) + _PSEUDOCOUNT
        return np.log(mean / mean.sum())
