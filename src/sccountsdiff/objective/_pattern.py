"""Survival patterns: which entries of a training cell survive with which probability."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.process import CosineSchedule, Registry, Schedule

PATTERNS: Registry[SurvivalPattern] = Registry("survival pattern")

#: Survivals closer to 1 than this are drawn as this: there almost nothing is missing and 1 / (1 - alpha) explodes.
MIN_DEAD = 1e-3


class Survival(NamedTuple):
    """Survivals drawn for a batch.

    Parameters
    ----------
    alpha
        Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
    importance
        Density of uniform survival over the density drawn from, ``(n_cells, 1)``; 1 where the emphasis is wanted.
    """

    alpha: Tensor
    importance: Tensor


def stratified(n: int, generator: torch.Generator | None, device: torch.device | None) -> Tensor:
    """``n`` uniform numbers, one in each of ``n`` equal strata, in random order: ``(n, 1)``."""
    jitter = torch.rand(n, generator=generator, device=device)
    order = torch.randperm(n, generator=generator, device=device)
    return ((order + jitter) / n).unsqueeze(-1)


class SurvivalPattern(ABC):
    """Which entries survive with which probability, drawn for each training batch."""

    @abstractmethod
    def draw(
        self, n_cells: int, n_genes: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Survival:
        """Draw survivals for a batch.

        Parameters
        ----------
        n_cells, n_genes
            Shape of the batch.
        generator
            Source of randomness, on ``device``; the global one if None.
        device
            Where to draw.
        """


@PATTERNS.register("uniform")
@final
class UniformSurvival(SurvivalPattern):
    """One survival per cell: uniform on (0, 1), and for a part of the cells log-uniform down to a floor.

    Parameters
    ----------
    log_fraction
        Part of the cells whose survival is log-uniform on (``floor``, 1): sampling spends half of its steps where
        fewer than a tenth of the molecules are back. An emphasis, not undone by importance weights.
    floor
        Smallest log-uniform survival: about one molecule of a library, where a sampler takes its first steps.
    """

    def __init__(self, log_fraction: float = 0.5, floor: float = 3e-4) -> None:
        if not 0 <= log_fraction <= 1 or not 0 < floor < 1:
            raise ValueError(f"Need log_fraction in [0, 1] and floor in (0, 1), got {log_fraction} and {floor}.")
        self.log_fraction, self.floor = log_fraction, floor

    def draw(
        self, n_cells: int, n_genes: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Survival:
        """Draw ``(n_cells, 1)`` survivals."""
        u = stratified(n_cells, generator, device)
        # One uniform number serves both laws: its upper part picks the uniform law, its lower part the log-uniform.
        log_uniform = u < self.log_fraction
        low = u / max(self.log_fraction, 1e-12)
        high = (u - self.log_fraction) / max(1 - self.log_fraction, 1e-12)
        alpha = torch.where(log_uniform, self.floor ** (1 - low.clamp(0, 1)), high)
        return Survival(alpha.clamp(0, 1 - MIN_DEAD), torch.ones_like(alpha))


@PATTERNS.register("paper")
@final
class ScheduledSurvival(SurvivalPattern):
    """The paper's: uniform time, survival from a schedule, importance ``-p'(t)`` back to uniform survival.

    Parameters
    ----------
    schedule
        Survival as a function of time; ``None`` is the paper's cosine schedule.

    References
    ----------
    CountsDiff, Alg. 1 and appendix B.7.
    """

    def __init__(self, schedule: Schedule | None = None) -> None:
        self.schedule = CosineSchedule() if schedule is None else schedule

    def draw(
        self, n_cells: int, n_genes: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Survival:
        """Draw ``(n_cells, 1)`` survivals."""
        t = stratified(n_cells, generator, device)
        alpha = self.schedule.survival(t).clamp(0, 1 - MIN_DEAD)
        return Survival(alpha, -self.schedule.derivative(t))


@PATTERNS.register("entrywise")
@final
class EntrywiseSurvival(SurvivalPattern):
    """Each entry of a cell is either seen in full or hidden (partly, for half of the cells).

    The hidden fraction is uniform over cells. Hidden entries have survival 0, or one uniform survival per cell: what a
    sampler meets on its way to joint draws of the hidden entries.
    """

    def draw(
        self, n_cells: int, n_genes: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Survival:
        """Draw ``(n_cells, n_genes)`` survivals."""
        fraction = stratified(n_cells, generator, device)
        hidden = torch.rand(n_cells, n_genes, generator=generator, device=device) < fraction
        level = (2 * stratified(n_cells, generator, device) - 1).clamp(0, 1 - MIN_DEAD)
        return Survival(torch.where(hidden, level, 1.0), torch.ones_like(fraction))


@PATTERNS.register("mixture")
@final
class MixtureSurvival(SurvivalPattern):
    """Some cells of each batch follow the uniform pattern, the others the entry-wise one.

    Parameters
    ----------
    entrywise_fraction
        Part of the cells with entry-wise survival.
    log_fraction, floor
        Of the uniform pattern, see :class:`UniformSurvival`.
    """

    def __init__(self, entrywise_fraction: float = 0.35, log_fraction: float = 0.5, floor: float = 3e-4) -> None:
        if not 0 < entrywise_fraction < 1:
            raise ValueError(f"entrywise_fraction must lie in (0, 1), got {entrywise_fraction}.")
        self.entrywise_fraction = entrywise_fraction
        self.uniform = UniformSurvival(log_fraction, floor)
        self.entrywise = EntrywiseSurvival()

    def draw(
        self, n_cells: int, n_genes: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Survival:
        """Draw ``(n_cells, n_genes)`` survivals."""
        # Without a generator on the device, drawn where nobody waits for it.
        chance = torch.rand((), generator=generator, device=None if generator is None else device).item()
        n_entrywise = math.floor(self.entrywise_fraction * n_cells + chance)
        parts = [
            self.uniform.draw(n_cells - n_entrywise, n_genes, generator, device),
            self.entrywise.draw(n_entrywise, n_genes, generator, device),
        ]
        return Survival(
            torch.cat([part.alpha.expand(-1, n_genes) for part in parts]),
            torch.cat([part.importance for part in parts]),
        )
