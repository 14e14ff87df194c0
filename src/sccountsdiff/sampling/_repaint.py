"""Imputation as in the paper: walk back with observed entries that are noised afresh at every level."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor

from sccountsdiff.conditioning import Condition
from sccountsdiff.sampling._evidence import Known
from sccountsdiff.sampling._sampler import Sampler


@final
@dataclass(frozen=True)
class RePaintSampler:
    """Conditions a sampler on known entries without telling the denoiser which they are.

    All entries walk at one survival. After each step the known ones are overwritten by a fresh thinning of their counts
    to the survival reached. The grid is walked in windows of ``jump`` steps, each window ``n_resample`` times: between
    repetitions the state is thinned back to where the window began, so that hidden entries can adapt to known ones.

    The denoiser sees known counts only thinned. :class:`Thinned` shows them whole and needs no repetition, given a
    denoiser that was trained with a survival for every entry.

    Parameters
    ----------
    sampler
        Takes the steps; its attrition and guidance are those of the walk.
    n_resample
        Walks through each window; 1 does not resample.
    jump
        Steps of a window. A jump of all steps walks back from nothing each time: repetitions then change nothing.

    Raises
    ------
    ValueError
        If a number is below 1.

    References
    ----------
    CountsDiff (arXiv 2604.03779), imputation; Lugmayr et al. 2022 (RePaint), Alg. 1.
    """

    sampler: Sampler
    n_resample: int = 3
    jump: int = 20

    def __post_init__(self) -> None:
        for name in ("n_resample", "jump"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")

    @torch.no_grad()
    def sample(
        self, known: Known, condition: Condition, grid: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw whole cells that agree with the known entries.

        Parameters
        ----------
        known
            Entries that are given.
        condition
            Condition of each cell.
        grid
            Rising survivals from 0 to 1, ``(n_steps + 1,)``.
        generator
            Source of randomness, on the device of the counts; the global one if None.

        Returns
        -------
        UMI counts ``(n_cells, n_genes)``, integer-valued floats; known entries are returned as they are.
        """
        grid = grid.to(known.values)
        x_t = torch.zeros_like(known.values)
        for first in range(0, len(grid) - 1, self.jump):
            window = grid[first : first + self.jump + 1]
            for repetition in range(self.n_resample):
                if repetition > 0:
                    x_t = self.sampler.process.renoise(x_t, window[-1], window[0], generator)
                    x_t = self._overwrite(x_t, known, window[0], generator)
                x_t = self._walk(x_t, known, condition, window, generator)
        return x_t

    def _walk(
        self, x_t: Tensor, known: Known, condition: Condition, window: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        for alpha_t, alpha_s in pairwise(window):
            x_t = self.sampler.sample(x_t, condition, torch.stack([alpha_t, alpha_s]), generator=generator)
            x_t = self._overwrite(x_t, known, alpha_s, generator)
        return x_t

    def _overwrite(self, x_t: Tensor, known: Known, alpha: Tensor, generator: torch.Generator | None) -> Tensor:
        """Thin the known counts afresh: not a continuation of their last thinning, as in the paper."""
        counts = torch.where(known.mask, known.values, 0.0)
        return Known(self.sampler.process.corrupt(counts, alpha, generator), known.mask).impose(x_t)
