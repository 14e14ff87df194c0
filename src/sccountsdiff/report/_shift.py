"""What a perturbation would do if it did everywhere what it does elsewhere: the baseline that is hard to beat."""

from __future__ import annotations

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
    """

    train: CellSet
    place: int
    control: str

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
        base, measured = self.train.of(self.control_of(name)), set(np.unique(self.train.labels))
        others = {
            other
            for other in measured - {name}
            if self.perturbation(other) != self.control and self.control_of(other) in measured
        }
        alike = {other for other in others if self.perturbation(other) == self.perturbation(name)}
        alike = alike or {other for other in others if self.control_of(other) == self.control_of(name)}
        if not alike:
            return base
        ratios = [self._log_share(other) - self._log_share(self.control_of(other)) for other in sorted(alike)]
        moved = base * np.exp(np.mean(ratios, axis=0))
        return np.floor(moved + np.random.default_rng(seed).random(moved.shape))

    def _log_share(self, name: str) -> NDArray[np.float64]:
        mean = self.train.of(name).mean(0) + _PSEUDOCOUNT
        return np.log(mean / mean.sum())
