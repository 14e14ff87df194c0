"""Keys of a condition: what a value of each kind looks like, and what it looks like when it is not given."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from sccountsdiff.conditioning._table import LevelTable

#: Name of a key -> one value per cell: ``(n_cells,)`` codes or floats, ``(n_cells, dim)`` vectors.
Condition: TypeAlias = Mapping[str, Tensor]

#: Reserved key: UMI total of each cell ``(n_cells,)``, or of each group of its features ``(n_cells, n_groups)``; NaN
#: where unknown.
LIBRARY_SIZE = "library_size"

#: Reserved key: boolean ``(n_cells, n_genes)``, the entries that the library size counts. Left out if it counts all.
MEASURED = "measured"


@dataclass(frozen=True)
class Key(ABC):
    """One key of a condition.

    Parameters
    ----------
    name
        Name of the key in a condition.
    """

    name: str

    @abstractmethod
    def encoder(self, width: int) -> nn.Module:
        """Module from values of the key to vectors ``(n_cells, width)``.

        Parameters
        ----------
        width
            Length of a vector.
        """

    @abstractmethod
    def is_null(self, value: Tensor) -> Tensor:
        """Where the value is not given.

        Parameters
        ----------
        value
            Values of the key, one per cell.

        Returns
        -------
        Boolean ``(n_cells,)``.
        """

    @abstractmethod
    def null(self, n_cells: int, device: torch.device) -> Tensor:
        """Null values.

        Parameters
        ----------
        n_cells
            Number of cells.
        device
            Where to make them.
        """

    @abstractmethod
    def fill(self, value: Tensor, is_null: Tensor) -> Tensor:
        """The values with harmless numbers where they are null, ready for the encoder.

        Parameters
        ----------
        value
            Values of the key, one per cell.
        is_null
            Boolean ``(n_cells,)``.
        """


@dataclass(frozen=True)
class LevelKey(Key):
    """A key whose values are levels, one or several.

    Parameters
    ----------
    name
        Name of the key in a condition.
    n_levels
        Number of levels.
    """

    n_levels: int

    @abstractmethod
    def members(self, value: Tensor) -> Tensor:
        """Which levels each cell has: 0/1 floats ``(n_cells, n_levels)``.

        Parameters
        ----------
        value
            Codes, one per cell, none of them null.
        """

    def members_given(self, value: Tensor) -> Tensor:
        """Which levels each cell has, none where the value is null.

        Parameters
        ----------
        value
            Codes, one per cell.

        Returns
        -------
        0/1 floats, ``(n_cells, n_levels)``.
        """
        null = self.is_null(value)
        return self.members(self.fill(value, null)) * ~null.unsqueeze(-1)

    def sum_rows(self, rows: Tensor, value: Tensor) -> Tensor:
        """Sum of the rows of the levels of each cell; zeros where the value is null.

        Parameters
        ----------
        rows
            One row for each level, ``(n_levels, width)``.
        value
            Codes, one per cell.

        Returns
        -------
        ``(n_cells, width)``.
        """
        return self.members_given(value).to(rows) @ rows


@final
@dataclass(frozen=True)
class CategoricalKey(LevelKey):
    """A key with categories, coded 0 to ``n_levels - 1``; -1 is null.

    Parameters
    ----------
    name
        Name of the key in a condition.
    n_levels
        Number of categories.
    """

    def encoder(self, width: int) -> nn.Module:
        """Embedding table."""
        return LevelTable(self.n_levels, width)

    def members(self, value: Tensor) -> Tensor:
        """Which level each cell has: 0/1 floats ``(n_cells, n_levels)``."""
        return nn.functional.one_hot(value.long(), self.n_levels).float()

    def sum_rows(self, rows: Tensor, value: Tensor) -> Tensor:
        """The row of each cell's level, looked up: levels may be many."""
        null_last = nn.functional.pad(rows, (0, 0, 0, 1))
        return nn.functional.embedding(value.long() % (self.n_levels + 1), null_last)

    def is_null(self, value: Tensor) -> Tensor:
        """Code -1; any other code outside the table raises ``ValueError`` (on a GPU the look-up itself fails)."""
        outside = (value < -1) | (value >= self.n_levels)
        if value.device.type == "cpu" and bool(outside.any()):  # asking a GPU would hold up every pass
            code = int(value[outside][0])
            raise ValueError(f"Code {code} of condition {self.name!r} lies outside 0..{self.n_levels - 1} (null: -1).")
        return value == -1

    def null(self, n_cells: int, device: torch.device) -> Tensor:
        """Codes -1."""
        return torch.full((n_cells,), -1, dtype=torch.long, device=device)

    def fill(self, value: Tensor, is_null: Tensor) -> Tensor:
        """Code 0 where null."""
        return value.masked_fill(is_null, 0)


@final
@dataclass(frozen=True)
class ContinuousKey(Key):
    """A number per cell (dose, time), standardised; NaN is null.

    Parameters
    ----------
    name
        Name of the key in a condition.
    mean, std
        Moments to standardise with, usually those of the training cells.
    """

    mean: float = 0.0
    std: float = 1.0

    def encoder(self, width: int) -> nn.Module:
        """Small network of the standardised value."""
        return nn.Sequential(_Standardise(self.mean, self.std), nn.Linear(1, width), nn.SiLU(), nn.Linear(width, width))

    def is_null(self, value: Tensor) -> Tensor:
        """NaN."""
        return value.isnan()

    def null(self, n_cells: int, device: torch.device) -> Tensor:
        """NaN."""
        return torch.full((n_cells,), math.nan, device=device)

    def fill(self, value: Tensor, is_null: Tensor) -> Tensor:
        """The mean where null."""
        return value.masked_fill(is_null, self.mean)


@final
@dataclass(frozen=True)
class EmbeddingKey(Key):
    """A dense vector per cell (a perturbation or dose embedding); a vector with NaN is null.

    Parameters
    ----------
    name
        Name of the key in a condition.
    dim
        Length of the vector.
    """

    dim: int

    def encoder(self, width: int) -> nn.Module:
        """Small network of the layer-normalised vector."""
        return nn.Sequential(nn.LayerNorm(self.dim), nn.Linear(self.dim, width), nn.SiLU(), nn.Linear(width, width))

    def is_null(self, value: Tensor) -> Tensor:
        """Any NaN in the vector."""
        return value.isnan().any(-1)

    def null(self, n_cells: int, device: torch.device) -> Tensor:
        """Vectors of NaN."""
        return torch.full((n_cells, self.dim), math.nan, device=device)

    def fill(self, value: Tensor, is_null: Tensor) -> Tensor:
        """Zero vectors where null."""
        return value.masked_fill(is_null.unsqueeze(-1), 0.0)


@final
class _Standardise(nn.Module):
    """``(value - mean) / std`` as a column."""

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean, self.std = mean, std or 1.0

    def forward(self, value: Tensor) -> Tensor:
        return ((value - self.mean) / self.std).unsqueeze(-1)
