"""What was seen of the cells that a sampler completes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor


class Evidence(ABC):
    """Counts that are given: where the walk starts, and with which survival each entry is presented."""

    @abstractmethod
    def impose(self, x_t: Tensor) -> Tensor:
        """Put what was seen into a state.

        Parameters
        ----------
        x_t
            State, ``(n_cells, n_genes)``.

        Returns
        -------
        A new state.
        """

    @abstractmethod
    def survival(self, alpha: Tensor) -> Tensor:
        """Survival of the entries.

        Parameters
        ----------
        alpha
            Survival of entries of which nothing was seen, broadcastable to the counts.

        Returns
        -------
        ``(n_cells, n_genes)`` or ``(n_cells, 1)``.
        """


@final
@dataclass(frozen=True)
class Known(Evidence):
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
        """Put the known counts into a state."""
        return torch.where(self.mask, self.values, x_t)

    def survival(self, alpha: Tensor) -> Tensor:
        """1 where known."""
        return torch.where(self.mask, 1.0, alpha)


@final
@dataclass(frozen=True)
class Thinned(Evidence):
    r"""Cells of which a part was seen: the walk takes each entry from its own survival to 1.

    An entry seen at survival :math:`\alpha_0` is at :math:`\alpha_0 + (1 - \alpha_0)\,\alpha` when an unseen one is at
    :math:`\alpha`. Survival 1 is an entry that is known, survival 0 one of which nothing was seen. Walk without
    attrition, which would also kill molecules that were seen.

    Parameters
    ----------
    counts
        UMI counts that were seen ``(n_cells, n_genes)``; 0 where survival is 0.
    alpha
        Survival at which they were seen, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
    """

    counts: Tensor
    alpha: Tensor

    def impose(self, x_t: Tensor) -> Tensor:
        """The counts that were seen."""
        return self.counts

    def survival(self, alpha: Tensor) -> Tensor:
        """Lift the survivals that were seen towards 1."""
        return self.alpha + (1 - self.alpha) * alpha
