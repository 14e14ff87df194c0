r"""What a denoiser is trained on: survival patterns, weightings and the loss.

For uniform survival :math:`\alpha \sim U(0, 1)` shared by the entries of a cell, and weight :math:`1 / (1 - \alpha)`,

.. math:: -\log p(x_0) \le \mathrm{E}_{\alpha, x_t} \sum_g
          \frac{(1 - \alpha) r_g - m_g \log r_g}{1 - \alpha} + \log x_{0,g}!

with equality for the true posterior mean rates: the exact bound, in nats. Any positive weight has the same optimum.

In survival instead of time the paper's weight :math:`-p'(t)` with uniform time is plain: uniform survival and weight
1, that is :math:`1 - \alpha` times the bound's, whatever the schedule. A schedule then only decides where survivals
are drawn, which importance weights undo.

References
----------
CountsDiff (arXiv 2604.03779), section 3.2 and appendices B.5, B.7; the bound is the integral of the pointwise Poisson
loss along a thinning channel (Guo, Shamai and Verdu 2008; Atar and Weissman 2012).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE, Condition, drop_condition
from sccountsdiff.nets import Denoiser
from sccountsdiff.process import MIN_RATE, Process, Registry, Schedule

__all__ = [
    "PATTERNS",
    "WEIGHTINGS",
    "BoundWeighting",
    "EntrywiseSurvival",
    "MixtureSurvival",
    "Objective",
    "PaperWeighting",
    "ScheduledSurvival",
    "Survival",
    "SurvivalPattern",
    "UniformSurvival",
    "Weighting",
    "bound",
]

PATTERNS: Registry[SurvivalPattern] = Registry("survival pattern")
WEIGHTINGS: Registry[Weighting] = Registry("loss weighting")

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
        Smallest log-uniform survival.
    """

    def __init__(self, log_fraction: float = 0.4, floor: float = 0.003) -> None:
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


@final
class ScheduledSurvival(SurvivalPattern):
    """The paper's: uniform time, survival from a schedule, importance ``-p'(t)`` back to uniform survival.

    Parameters
    ----------
    schedule
        Survival as a function of time.

    References
    ----------
    CountsDiff, Alg. 1 and appendix B.7.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

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
        alpha = torch.where(hidden, level, 1.0)
        return Survival(alpha, torch.ones_like(fraction))


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

    def __init__(self, entrywise_fraction: float = 0.35, log_fraction: float = 0.4, floor: float = 0.003) -> None:
        if not 0 < entrywise_fraction < 1:
            raise ValueError(f"entrywise_fraction must lie in (0, 1), got {entrywise_fraction}.")
        self.entrywise_fraction = entrywise_fraction
        self.uniform = UniformSurvival(log_fraction, floor)
        self.entrywise = EntrywiseSurvival()

    def draw(
        self, n_cells: int, n_genes: int, generator: torch.Generator | None = None, device: torch.device | None = None
    ) -> Survival:
        """Draw ``(n_cells, n_genes)`` survivals."""
        chance = torch.rand((), generator=generator, device=device).item()
        n_entrywise = math.floor(self.entrywise_fraction * n_cells + chance)
        parts = [
            self.uniform.draw(n_cells - n_entrywise, n_genes, generator, device),
            self.entrywise.draw(n_entrywise, n_genes, generator, device),
        ]
        return Survival(
            torch.cat([part.alpha.expand(-1, n_genes) for part in parts]),
            torch.cat([part.importance for part in parts]),
        )


class Weighting(ABC):
    """Weight of the loss as a function of survival."""

    @abstractmethod
    def weight(self, alpha: Tensor) -> Tensor:
        """Weight of each entry.

        Parameters
        ----------
        alpha
            Survival, any shape.

        Returns
        -------
        Weights, same shape as ``alpha``.
        """


@WEIGHTINGS.register("bound")
@final
class BoundWeighting(Weighting):
    """``1 / (1 - alpha)``: with uniform survival the exact bound; the paper's "NLL" weight."""

    def weight(self, alpha: Tensor) -> Tensor:
        """Weights."""
        return 1 / (1 - alpha).clamp_min(MIN_DEAD)


@WEIGHTINGS.register("paper")
@final
class PaperWeighting(Weighting):
    """1: the paper's ``-p'(t)`` of every schedule, seen from uniform survival. Stresses small survivals; no bound."""

    def weight(self, alpha: Tensor) -> Tensor:
        """Weights."""
        return torch.ones_like(alpha)


@final
@dataclass(frozen=True)
class Objective:
    """Training loss of a denoiser.

    Parameters
    ----------
    process
        How counts are corrupted.
    pattern
        Which entries survive with which probability.
    weighting
        Weight of each entry's loss.
    library_dropout
        Part of the cells whose library size is hidden, so that the network learns to estimate it.
    """

    process: Process
    pattern: SurvivalPattern
    weighting: Weighting
    library_dropout: float = 0.3

    def loss(
        self,
        denoiser: Denoiser,
        x_0: Tensor,
        condition: Condition,
        observed: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Weighted Poisson loss of each cell, summed over its observed entries.

        Parameters
        ----------
        denoiser
            The network.
        x_0
            UMI counts, ``(n_cells, n_genes)``.
        condition
            Condition of each cell.
        observed
            Boolean ``(n_cells, n_genes)``, False where a gene was not measured: such entries are hidden from the
            network and carry no loss.
        generator
            Source of randomness, on the device of the counts.

        Returns
        -------
        Losses ``(n_cells,)``, like nats under the bound's weighting.
        """
        survival = self.pattern.draw(len(x_0), x_0[0].numel(), generator, x_0.device)
        condition = drop_condition(condition, denoiser.keys, denoiser.condition_dropout, generator)
        condition = _drop_library(condition, self.library_dropout, generator)
        alpha = _per_entry(survival.alpha, x_0)
        alpha = alpha if observed is None else alpha * observed
        x_t = self.process.corrupt(x_0, alpha, generator)
        loss = denoiser(x_t, alpha, condition).nll(x_0 - x_t) * self.weighting.weight(alpha)
        if observed is not None:
            loss = loss * observed
        return loss.flatten(1).sum(-1) * survival.importance.squeeze(-1)


def _per_entry(alpha: Tensor, x_0: Tensor) -> Tensor:
    """Survivals ``(n_cells, 1)`` or ``(n_cells, n_entries)`` in the shape of the counts, whatever that is."""
    trailing = x_0.shape[1:] if alpha.shape[-1] > 1 else [1] * (x_0.dim() - 1)
    return alpha.reshape(len(x_0), *trailing)


def _drop_library(condition: Condition, probability: float, generator: torch.Generator | None) -> Condition:
    library = condition.get(LIBRARY_SIZE)
    if library is None or probability == 0:
        return condition
    hide = torch.rand(library.shape, generator=generator, device=library.device) < probability
    return {**condition, LIBRARY_SIZE: library.masked_fill(hide, math.nan)}


@torch.no_grad()
def bound(
    denoiser: Denoiser,
    process: Process,
    x_0: Tensor,
    condition: Condition,
    observed: Tensor | None = None,
    n_samples: int = 8,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Monte-Carlo estimates of the upper bound on :math:`-\log p(x_0 \mid \mathrm{condition})`, in nats.

    Survivals of a cell are stratified over the samples. A control variate removes most of the noise left: as
    :math:`\mathrm{E}[m \mid x_0] = (1 - \alpha) x_0`, the term :math:`(m / (1 - \alpha) - x_0) \log \tilde r` has mean
    zero for any rate that does not depend on the thinning; :math:`\tilde r` is the rate given the whole cell.

    Parameters
    ----------
    denoiser
        The network, in evaluation mode.
    process
        How counts are corrupted.
    x_0
        UMI counts, ``(n_cells, n_genes)``.
    condition
        Condition of each cell.
    observed
        Boolean ``(n_cells, n_genes)``; unmeasured entries (False) do not count.
    n_samples
        Number of survivals per cell; one network pass each, and one for the control variate.
    generator
        Source of randomness, on the device of the counts.

    Returns
    -------
    ``(n_samples, n_cells)``; the mean over samples is an unbiased estimate of the bound of each cell.
    """
    n_cells = len(x_0)
    seen = x_0.new_ones(()).expand(n_cells, *[1] * (x_0.dim() - 1)) if observed is None else observed.to(x_0)
    x_0 = x_0 * seen
    log_reference = denoiser(x_0, seen, condition).rate.clamp_min(MIN_RATE).log()
    shift = torch.rand(n_cells, 1, generator=generator, device=x_0.device)
    estimates = []
    for k in range(n_samples):
        alpha = _per_entry(((shift + k) / n_samples).clamp_max(1 - MIN_DEAD), x_0)
        x_t = process.corrupt(x_0, alpha, generator)
        missing = x_0 - x_t
        loss = (denoiser(x_t, alpha * seen, condition).nll(missing) + missing * log_reference) / (1 - alpha)
        estimates.append(((loss - x_0 * log_reference + torch.lgamma(x_0 + 1)) * seen).flatten(1).sum(-1))
    return torch.stack(estimates)
