"""Inputs: how thinned counts and per-entry survival enter a network."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from sccountsdiff.nets._library import Library
from sccountsdiff.process import Registry

INPUTS: Registry[CountInput] = Registry("count input")

#: Molecules of the average profile that a cell's size is shrunk by.
_PRIOR_MOLECULES = 5.0
#: Added to counts before the square root; far below the rounding of any count but 0.
_ALMOST_ZERO = 1e-30


@final
class GroupDropout(nn.Module):
    """Dropout with the same blanks for a group of neighbouring cells.

    On the input entries it forces the network to read a cell from any part of its genes. One mask per group is as good
    as one per cell, and drawing a number for every entry would cost a tenth of a training step.

    Parameters
    ----------
    p
        Chance that an entry is blanked.
    """

    #: Cells that share a mask, at most: as many as divide the minibatch.
    GROUP = 16

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Blank entries of ``(n_cells, n_features)`` in training, and scale up the others."""
        if not self.training or self.p == 0:
            return x
        group = math.gcd(len(x), self.GROUP)
        kept = torch.rand(len(x) // group, 1, x.shape[-1], device=x.device) >= self.p
        return (x.unflatten(0, (-1, group)) * (kept.to(x.dtype) / (1 - self.p))).flatten(0, 1)


class CountInput(nn.Module, ABC):
    """First layer of a network: ``(x_t, alpha)`` to hidden features.

    Parameters
    ----------
    log_share
        Log share of each gene in the training cells, ``(n_genes,)``.
    library
        What the library sizes count.
    width
        Number of hidden features.
    dropout
        Share of the entries that is blanked in training.
    """

    @abstractmethod
    def __init__(self, log_share: Tensor, library: Library, width: int, dropout: float) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x_t: Tensor, alpha: Tensor) -> Tensor:
        """Features ``(n_cells, width)`` of counts ``(n_cells, n_genes)`` under survival ``alpha`` (broadcastable)."""


@INPUTS.register("residual")
@final
class ResidualInput(CountInput):
    r"""Freeman-Tukey residuals from the average profile at the cell's size and survival.

    .. math:: z_g = \sqrt{x_g} + \sqrt{x_g + 1} - \sqrt{4 \alpha_g s \pi_g + 1}

    with shares :math:`\pi` and, in each group of features, size :math:`s = (5 + \sum_g x_g) / (5 / \bar L + \sum_g \alpha_g \pi_g)`. The variance is
    about 1 at every depth, so that one set of weights reads cells thinned to any degree; an entry that was not seen
    (survival 0) is exactly 0, unlike a seen zero.
    """

    share: Tensor

    def __init__(self, log_share: Tensor, library: Library, width: int, dropout: float) -> None:
        super().__init__(log_share, library, width, dropout)
        self.register_buffer("share", log_share.exp())
        self.library = library
        self.dropout = GroupDropout(dropout)
        self.projection = nn.Linear(len(log_share), width)

    def forward(self, x_t: Tensor, alpha: Tensor) -> Tensor:
        """Project the residuals."""
        library = self.library
        seen = library.seen_share(alpha, self.share)
        size = (_PRIOR_MOLECULES + library.total(x_t)) / (_PRIOR_MOLECULES / library.mean + seen)
        expected = (4 * library.spread(size) * alpha) * self.share
        # The square root of an exact 0 takes a slow path on CPUs, twenty times as long. In place, for time goes into
        # memory here.
        residual = (x_t + _ALMOST_ZERO).sqrt_().add_((x_t + 1).sqrt_()).sub_(expected.add_(1).sqrt_())
        return self.projection(self.dropout(residual))


@INPUTS.register("log")
@final
class LogInput(CountInput):
    """Log counts ``log1p(x_t)`` as in the paper, and survival beside them."""

    def __init__(self, log_share: Tensor, library: Library, width: int, dropout: float) -> None:
        super().__init__(log_share, library, width, dropout)
        self.dropout = GroupDropout(dropout)
        self.projection = nn.Linear(len(log_share), width)
        self.survival_projection = nn.Linear(len(log_share), width, bias=False)
        nn.init.normal_(self.survival_projection.weight, std=1 / len(log_share))

    def forward(self, x_t: Tensor, alpha: Tensor) -> Tensor:
        """Project log counts and survival."""
        return self.projection(self.dropout(torch.log1p(x_t))) + self.survival_projection(alpha.expand_as(x_t))
