"""Mean profiles of conditions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


@final
@dataclass(frozen=True)
class Profiles:
    """Mean expression of the measured conditions.

    Parameters
    ----------
    mean
        Mean over cells of log1p(CP10k), ``(n_conditions, n_genes)``.
    n_cells
        Number of cells behind each mean, ``(n_conditions,)``.
    spread
        Variance of log1p(CP10k) of each gene between the cells of a condition, ``(n_genes,)``.
    context
        Number of the context of each condition, from 0, ``(n_conditions,)``.
    members
        1 where a perturbation was given, else 0; all 0 for the control, ``(n_conditions, n_perturbations)``.
    similarity
        Similarity between perturbations, 1 with itself, ``(n_perturbations, n_perturbations)``; None if only equal
        ones have something in common.
    """

    mean: Tensor
    n_cells: Tensor
    spread: Tensor
    context: Tensor
    members: Tensor
    similarity: Tensor | None = None

    @property
    def perturbed(self) -> Tensor:
        """True where at least one perturbation was given, ``(n_conditions,)``."""
        return self.members.sum(-1) > 0

    def control_of(self, context: Tensor) -> Tensor:
        """Row of the control of each context; -1 where it was not measured.

        Parameters
        ----------
        context
            Numbers of contexts, ``(n,)``.

        Returns
        -------
        Rows, ``(n,)``.
        """
        matches = (context[:, None] == self.context) & ~self.perturbed
        return torch.where(matches.any(-1), matches.int().argmax(-1), -1)

    def context_distance(self) -> Tensor:
        """Squared distances between the control profiles of contexts, sampling noise taken off, in units of the median.

        A context without control is as far from all others as the two that differ most.

        Returns
        -------
        ``(n_contexts, n_contexts)``.
        """
        n_contexts = int(self.context.max()) + 1
        control = self.control_of(torch.arange(n_contexts))
        noise = self.spread.sum() / self.n_cells[control]
        distance = torch.cdist(self.mean[control], self.mean[control]) ** 2 - noise - noise[:, None]
        unknown = control < 0
        known = distance[~unknown][:, ~unknown]
        distance[unknown] = distance[:, unknown] = known.max() if known.numel() else 1.0
        distance = distance.clamp_min(0).fill_diagonal_(0)
        positive = distance[distance > 0]
        return distance / positive.median() if len(positive) else distance
