"""The walk back: from thinned or empty cells to whole ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.conditioning import Condition, ConditionalDenoiser
from sccountsdiff.process import Births, Posterior, Process
from sccountsdiff.sampling._attrition import Attrition, NoAttrition
from sccountsdiff.sampling._covarying import CovaryingRates, Factors
from sccountsdiff.sampling._evidence import Evidence


class Step(NamedTuple):
    """What a callback sees of a step, before it is taken.

    Parameters
    ----------
    number
        Number of the step, from 0.
    alpha
        Survival before the step.
    x_t
        State before the step, ``(n_cells, n_genes)``.
    posterior
        What the denoiser believes is missing.
    """

    number: int
    alpha: Tensor
    x_t: Tensor
    posterior: Posterior


@final
@dataclass(frozen=True)
class Sampler:
    """Walks a state back along a grid of survivals.

    Parameters
    ----------
    process
        How counts were corrupted.
    denoiser
        A denoiser, or one wrapped by guidance.
    births
        How births are drawn from the posterior; as suits the process if ``None``.
    attrition
        How many of the living die in a step.
    covarying
        Draws the rates of a step for all genes together; each gene has the mean of its posterior if ``None``. For walks
        whose entries are all at the survival of the grid.
    """

    process: Process
    denoiser: ConditionalDenoiser
    births: Births | None = None
    attrition: Attrition = field(default_factory=NoAttrition)
    covarying: CovaryingRates | None = None

    @torch.no_grad()
    def sample(
        self,
        start: Tensor,
        condition: Condition,
        grid: Tensor,
        known: Evidence | None = None,
        generator: torch.Generator | None = None,
        callback: Callable[[Step], None] | None = None,
    ) -> Tensor:
        """Draw cells at the last survival of a grid: whole cells if that is 1.

        Parameters
        ----------
        start
            State at survival ``grid[0]``, ``(n_cells, n_genes)``: zeros for ``grid[0] = 0``, or cells thinned to that
            survival (an exact draw from the marginal law there).
        condition
            Condition of each cell.
        grid
            Rising survivals ``(n_steps + 1,)``; see :func:`survival_grid`. The walk ends at the last of them.
        known
            What was seen of the cells: :class:`Known` entries to keep exactly, or :class:`Thinned` counts to complete.
            The grid is then that of entries of which nothing was seen.
        generator
            Source of randomness, on the device of the state; the global one if None.
        callback
            Called with a :class:`Step` before each step.

        Returns
        -------
        UMI counts ``(n_cells, n_genes)``, integer-valued floats.
        """
        births = self.process.births if self.births is None else self.births
        x_t = start if known is None else known.impose(start)
        per_cell = (len(start), *[1] * (start.dim() - 1))
        factors: Factors | None = None
        for number, (level, next_level) in enumerate(pairwise(grid.to(start))):
            alpha_t, alpha_s = level.expand(per_cell), next_level.expand(per_cell)
            if known is not None:
                alpha_t, alpha_s = known.survival(alpha_t), known.survival(alpha_s)
            posterior = self.denoiser(*self.process.shown(x_t, alpha_t), condition)
            if callback is not None:
                callback(Step(number, alpha_t, x_t, posterior))
            if self.covarying is not None:
                posterior, factors = self.covarying.draw(posterior, level, factors, generator)
            death = self.attrition.death(alpha_t, alpha_s)
            x_t = self.process.revive(x_t, posterior, alpha_t, alpha_s, death, births, generator)
        return x_t
