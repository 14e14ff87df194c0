"""The walk back: from thinned or empty cells to whole ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.conditioning import Condition, ConditionalDenoiser
from sccountsdiff.process import Births, PoissonBirths, Posterior, Process
from sccountsdiff.sampling._attrition import Attrition, NoAttrition


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
class Known:
    """Entries whose counts are given: they survive with probability 1 throughout and are returned as they are.

    Parameters
    ----------
    values
        UMI counts, ``(n_cells, n_genes)``; read only where ``mask``.
    mask
        Boolean, True where the count is known.
    """

    values: Tensor
    mask: Tensor

    def impose(self, x_t: Tensor) -> Tensor:
        """Put the known counts into a state.

        Parameters
        ----------
        x_t
            State, ``(n_cells, n_genes)``.

        Returns
        -------
        A new state.
        """
        return torch.where(self.mask, self.values, x_t)

    def survival(self, alpha: Tensor) -> Tensor:
        """Survival of the entries: 1 where known.

        Parameters
        ----------
        alpha
            Survival of the others, broadcastable to the mask.

        Returns
        -------
        ``(n_cells, n_genes)``.
        """
        return torch.where(self.mask, 1.0, alpha)


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
        How births are drawn from the posterior.
    attrition
        How many of the living die in a step.
    """

    process: Process
    denoiser: ConditionalDenoiser
    births: Births = field(default_factory=PoissonBirths)
    attrition: Attrition = field(default_factory=NoAttrition)

    @torch.no_grad()
    def sample(
        self,
        start: Tensor,
        condition: Condition,
        grid: Tensor,
        known: Known | None = None,
        generator: torch.Generator | None = None,
        callback: Callable[[Step], None] | None = None,
    ) -> Tensor:
        """Draw whole cells.

        Parameters
        ----------
        start
            State at survival ``grid[0]``, ``(n_cells, n_genes)``: zeros for ``grid[0] = 0``, or cells thinned to that
            survival (an exact draw from the marginal law there).
        condition
            Condition of each cell.
        grid
            Rising survivals ``(n_steps + 1,)`` that end in 1; see :func:`survival_grid`.
        known
            Entries to keep exactly.
        generator
            Source of randomness, on the device of the state; the global one if None.
        callback
            Called with a :class:`Step` before each step.

        Returns
        -------
        UMI counts ``(n_cells, n_genes)``, integer-valued floats.
        """
        x_t = start if known is None else known.impose(start)
        per_cell = (len(start), *[1] * (start.dim() - 1))
        for number, (alpha_t, alpha_s) in enumerate(pairwise(level.expand(per_cell) for level in grid.to(start))):
            if known is not None:
                alpha_t, alpha_s = known.survival(alpha_t), known.survival(alpha_s)
            posterior = self.denoiser(x_t, alpha_t, condition)
            if callback is not None:
                callback(Step(number, alpha_t, x_t, posterior))
            death = self.attrition.death(alpha_t, alpha_s)
            x_t = self.process.revive(x_t, posterior, alpha_s, death, self.births, generator)
        return x_t
