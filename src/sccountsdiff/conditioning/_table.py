"""A table of vectors that can be extended: old levels stay as they are while new ones are learned."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@final
class LevelTable(nn.Embedding):
    """A learned vector for each level of a key.

    Parameters
    ----------
    n_levels
        Number of levels.
    width
        Length of a vector.

    Attributes
    ----------
    n_kept
        The first so many levels are constants: no gradient reaches them. An optimiser that decays weights would move
        them all the same, and must not decay this table.
    """

    def __init__(self, n_levels: int, width: int) -> None:
        super().__init__(n_levels, width)
        self.n_kept = 0

    @property
    def n_levels(self) -> int:
        """Number of levels."""
        return self.num_embeddings

    def rows(self) -> Tensor:
        """Read all vectors, kept ones without gradient.

        Returns
        -------
        Vectors of shape ``(n_levels, width)``.
        """
        if self.n_kept == 0:
            return self.weight
        return torch.cat([self.weight[: self.n_kept].detach(), self.weight[self.n_kept :]])

    def forward(self, value: Tensor) -> Tensor:
        """Vectors of some levels, ``(n_cells, width)``."""
        return F.embedding(value, self.rows())
