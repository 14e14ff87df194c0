"""A key whose value is a set: several perturbations at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
from torch import Tensor, nn

from sccountsdiff.conditioning._keys import LevelKey
from sccountsdiff.conditioning._table import LevelTable

#: Combinations are coded in signed 64-bit integers.
_LARGEST_CODE = 2**63 - 1


@final
@dataclass(frozen=True)
class CombinationKey(LevelKey):
    """A set of levels per cell (perturbations given together), coded as one integer; -1 is null.

    The code of ``{i, j, ...}`` with rising levels is ``(i + 1) + (j + 1) * base + ...``, with ``base = n_levels + 1``:
    its digits are the members. Each level has an embedding of its own and a set is their sum, so that sets that were
    never seen together can be asked for. With ``vectors`` the embeddings are a learned function of given vectors, so
    that levels which were never seen at all can be asked for.

    Parameters
    ----------
    name
        Name of the key in a condition.
    n_levels
        Number of levels.
    vectors
        One given vector for each level ``(n_levels, dim)``, or None.
    """

    vectors: Tensor | None = field(default=None, compare=False, repr=False)

    @property
    def base(self) -> int:
        """Base of the digits: one more than there are levels, since digit 0 is "no member"."""
        return self.n_levels + 1

    @property
    def max_size(self) -> int:
        """Members of the largest set that can be coded."""
        size = 1
        while self.base ** (size + 1) <= _LARGEST_CODE and size < self.n_levels:
            size += 1
        return size

    def encode(self, members: set[int]) -> int:
        """Code of a set of levels.

        Parameters
        ----------
        members
            Levels, from 0.

        Returns
        -------
        The code; 0 for the empty set.

        Raises
        ------
        ValueError
            If the set has more members than can be coded.
        """
        if len(members) > self.max_size:
            raise ValueError(
                f"{len(members)} values of {self.name!r} together; at most {self.max_size} can be combined."
            )
        return sum((level + 1) * self.base**place for place, level in enumerate(sorted(members)))

    def members(self, value: Tensor) -> Tensor:
        """Which levels are in each set: 0/1 floats ``(n_cells, n_levels)``."""
        digits = torch.stack([value // self.base**place % self.base for place in range(self.max_size)], -1)
        belongs = torch.zeros(len(value), self.base, device=value.device).scatter_(1, digits, 1.0)
        return belongs[:, 1:]

    def encoder(self, width: int) -> nn.Module:
        """Sum of the embeddings of the members."""
        return _SetSum(self, width)

    def is_null(self, value: Tensor) -> Tensor:
        """Code -1."""
        return value == -1

    def null(self, n_cells: int, device: torch.device) -> Tensor:
        """Codes -1."""
        return torch.full((n_cells,), -1, dtype=torch.long, device=device)

    def fill(self, value: Tensor, is_null: Tensor) -> Tensor:
        """The empty set where null."""
        return value.masked_fill(is_null, 0)


@final
class _SetSum(nn.Module):
    """Sum over the members of each set of their embeddings."""

    def __init__(self, key: CombinationKey, width: int) -> None:
        super().__init__()
        self.key = key
        self.table = _Learned(key.n_levels, width) if key.vectors is None else _Projected(key.vectors, width)

    def forward(self, value: Tensor) -> Tensor:
        return self.key.members(value) @ self.table()


@final
class _Learned(nn.Module):
    """A free embedding for each level, ``(n_levels, width)``."""

    def __init__(self, n_levels: int, width: int) -> None:
        super().__init__()
        self.embedding = LevelTable(n_levels, width)

    def forward(self) -> Tensor:
        return self.embedding.rows()


@final
class _Projected(nn.Module):
    """Embeddings as a learned function of given vectors, ``(n_levels, width)``."""

    vectors: Tensor

    def __init__(self, vectors: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors.float(), persistent=False)
        dim = vectors.shape[1]
        self.project = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self) -> Tensor:
        return self.project(self.vectors)
