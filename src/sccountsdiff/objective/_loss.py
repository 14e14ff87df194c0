"""The training loss, and the bound on the likelihood that it is a weighted form of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE, Condition, drop_condition
from sccountsdiff.nets import Denoiser
from sccountsdiff.objective._pattern import MIN_DEAD, SurvivalPattern
from sccountsdiff.objective._rehearsal import NoRehearsal, Rehearsal, Scene
from sccountsdiff.objective._weighting import Weighting
from sccountsdiff.process import Process


class Corrupted(NamedTuple):
    """A minibatch of training.

    Parameters
    ----------
    x_0
        Counts, ``(n_cells, n_genes)``.
    x_t
        What is left of them.
    shown
        What a network sees of it: counts and survivals.
    weight
        Weight of the loss of each entry.
    seen
        1 where an entry was measured, else 0; broadcastable to ``x_0``.
    """

    x_0: Tensor
    x_t: Tensor
    shown: tuple[Tensor, Tensor]
    weight: Tensor
    seen: Tensor


def weighed_loss(process: Process, denoiser: Denoiser, condition: Condition, cells: Corrupted) -> Tensor:
    """Loss of a network, weighed over the entries of each cell.

    Parameters
    ----------
    process
        How counts are corrupted.
    denoiser
        The network.
    condition
        Condition of each cell.
    cells
        The cells, corrupted.

    Returns
    -------
    ``(n_cells,)``.
    """
    loss = process.loss(denoiser(*cells.shown, condition), cells.x_0, cells.x_t)
    return torch.linalg.vecdot(loss.flatten(1), cells.weight.flatten(1))


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
    rehearsal
        What cells play that lack some genes.
    weigh
        How the network is run and its loss weighed: :func:`weighed_loss`, as it is or compiled (:meth:`compiled`), or
        :class:`Taught`.
    """

    process: Process
    pattern: SurvivalPattern
    weighting: Weighting
    library_dropout: float = 0.3
    rehearsal: Rehearsal = field(default_factory=NoRehearsal)
    weigh: Callable[..., Tensor] = field(default=weighed_loss, repr=False)

    def compiled(self, **options: Any) -> Objective:
        """The same objective, with network and loss compiled; what is drawn is not.

        Parameters
        ----------
        **options
            Passed on to :func:`torch.compile`; shapes are fixed (``dynamic=False``) by default.

        Returns
        -------
        Another objective.
        """
        return replace(self, weigh=torch.compile(weighed_loss, **{"dynamic": False} | options))

    def loss(
        self,
        denoiser: Denoiser,
        x_0: Tensor,
        condition: Condition,
        observed: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Weighted loss of each cell, summed over its observed entries.

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
        n_entries = x_0[0].numel()
        drawn = Scene(self.pattern.draw(len(x_0), n_entries, generator, x_0.device), condition)
        survival, condition = self.rehearsal.play(drawn, observed, n_entries, generator)
        condition = drop_condition(condition, denoiser.keys, denoiser.condition_dropout, generator)
        condition = _drop_library(condition, self.library_dropout, generator)
        alpha = _per_entry(survival.alpha, x_0)
        alpha = alpha if observed is None else alpha * observed
        x_t = self.process.corrupt(x_0, alpha, generator)
        weight = self.weighting.weight(alpha).expand_as(x_0)
        weight = weight if observed is None else weight * observed
        cells = Corrupted(x_0, x_t, self.process.shown(x_t, alpha), weight, _seen(x_0, observed))
        return self.weigh(self.process, denoiser, condition, cells) * survival.importance.squeeze(-1)


def _per_entry(alpha: Tensor, x_0: Tensor) -> Tensor:
    """Survivals ``(n_cells, 1)`` or ``(n_cells, n_entries)`` in the shape of the counts, whatever that is."""
    trailing = x_0.shape[1:] if alpha.shape[-1] > 1 else [1] * (x_0.dim() - 1)
    return alpha.reshape(len(x_0), *trailing)


def _seen(x_0: Tensor, observed: Tensor | None) -> Tensor:
    """1 where an entry was measured, else 0; broadcastable to the counts."""
    return x_0.new_ones(()).expand(len(x_0), *[1] * (x_0.dim() - 1)) if observed is None else observed.to(x_0)


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

    Survivals of a cell are stratified over the samples. A control variate removes most of the noise left: under
    thinning :math:`\mathrm{E}[m \mid x_0] = (1 - \alpha) x_0`, so that the term
    :math:`(m / (1 - \alpha) - x_0) \log \tilde r` has mean zero for any rate that does not depend on the thinning;
    :math:`\tilde r` is the rate given the whole cell. Masking does the same with entries in place of molecules
    (:meth:`~sccountsdiff.process.Process.control`).

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
    n_cells, seen = len(x_0), _seen(x_0, observed)
    x_0 = x_0 * seen
    reference = denoiser(*process.reference(x_0, seen), condition)
    shift = torch.rand(n_cells, 1, generator=generator, device=x_0.device)
    estimates = []
    for k in range(n_samples):
        alpha = _per_entry(((shift + k) / n_samples).clamp_max(1 - MIN_DEAD), x_0)
        x_t = process.corrupt(x_0, alpha, generator)
        posterior = denoiser(*process.shown(x_t, alpha * seen), condition)
        nats = process.loss(posterior, x_0, x_t) / (1 - alpha) + process.control(reference, x_0, x_t, alpha)
        estimates.append((nats * seen).flatten(1).sum(-1))
    return torch.stack(estimates)
