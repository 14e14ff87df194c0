"""A loss on what a teacher expects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from sccountsdiff.conditioning import Condition
from sccountsdiff.nets import Denoiser
from sccountsdiff.objective._loss import Corrupted, weighed_loss
from sccountsdiff.process import Process


@final
@dataclass(frozen=True)
class Taught:
    r"""Loss of a network on missing molecules of which a part are those that a teacher expects.

    The teacher is shown the whole cell. As :math:`x_t` is a thinned :math:`x_0`,
    :math:`\mathrm{E}[\mathrm{E}[r \mid x_0] \mid x_t] = \mathrm{E}[r \mid x_t]`: its rates have the expectation that is
    to be learned, without the noise of one draw of molecules, which a network of few cells would learn by heart. What a
    teacher gets wrong it passes on, so that the rest are the cell's own molecules.

    Parameters
    ----------
    teacher
        A trained network, in evaluation mode.
    share
        Part of the molecules that the teacher tells.
    """

    teacher: Denoiser
    share: float

    def __call__(self, process: Process, denoiser: Denoiser, condition: Condition, cells: Corrupted) -> Tensor:
        """Loss, weighed over the entries of each cell, ``(n_cells,)``."""
        with torch.no_grad():
            rate = self.teacher(*process.reference(cells.x_0 * cells.seen, cells.seen), condition).rate
            told = cells.x_t + (1 - cells.shown[1]) * rate
        return weighed_loss(process, denoiser, condition, cells._replace(x_0=cells.x_0.lerp(told, self.share)))
