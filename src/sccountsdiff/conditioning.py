"""Conditions: what is known of a cell besides its counts, and how hard to insist on it.

A *condition* maps names of keys to one value per cell: integer codes for a categorical key, floats for a continuous
one, vectors for an embedding. A null value (code -1, NaN) or an absent key means "not given": the network then sees a
learned null vector, which is what a model trained with condition dropout has learned to marginalise over.

Guidance is an object that wraps a denoiser into another denoiser; samplers do not know of it.

The key ``"library_size"`` is reserved: the UMI total of the cell, read by denoisers that scale their rates to it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, final

import torch
from torch import Tensor, nn

from sccountsdiff.process import Posterior

__all__ = [
    "LIBRARY_SIZE",
    "CategoricalKey",
    "ClassifierFreeGuidance",
    "CompositionalGuidance",
    "Condition",
    "ConditionEncoder",
    "ConditionalDenoiser",
    "ContinuousKey",
    "EmbeddingKey",
    "Guidance",
    "Key",
    "drop_condition",
]

#: Name of a key -> one value per cell: ``(n_cells,)`` codes or floats, ``(n_cells, dim)`` vectors.
Condition: TypeAlias = Mapping[str, Tensor]

#: Reserved key: UMI total of each cell, NaN where unknown.
LIBRARY_SIZE = "library_size"


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


@final
@dataclass(frozen=True)
class CategoricalKey(Key):
    """A key with categories, coded 0 to ``n_levels - 1``; -1 is null.

    Parameters
    ----------
    name
        Name of the key in a condition.
    n_levels
        Number of categories.
    """

    n_levels: int

    def encoder(self, width: int) -> nn.Module:
        """Embedding table."""
        return nn.Embedding(self.n_levels, width)

    def is_null(self, value: Tensor) -> Tensor:
        """Code -1; any other code outside the table raises ``ValueError``."""
        outside = (value < -1) | (value >= self.n_levels)
        if bool(outside.any()):
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


@final
class ConditionEncoder(nn.Module):
    """Encode a condition as one token per key, with a learned null token for each.

    Parameters
    ----------
    keys
        The keys, in a fixed order.
    width
        Length of a token.
    """

    def __init__(self, keys: Sequence[Key], width: int) -> None:
        super().__init__()
        self.keys = tuple(keys)
        self.width = width
        self.encoders = nn.ModuleList(key.encoder(width) for key in self.keys)
        self.null_tokens = nn.Parameter(torch.randn(len(self.keys), width) * 0.02)

    def forward(self, condition: Condition, n_cells: int) -> Tensor:
        """Tokens ``(n_cells, n_keys, width)``."""
        tokens = []
        for key, encoder, null_token in zip(self.keys, self.encoders, self.null_tokens, strict=True):
            value = condition.get(key.name)
            if value is None:
                tokens.append(null_token.expand(n_cells, -1))
                continue
            is_null = key.is_null(value)
            token = encoder(key.fill(value, is_null))
            tokens.append(torch.where(is_null.unsqueeze(-1), null_token.to(token.dtype), token))
        return torch.stack(tokens, 1) if tokens else self.null_tokens.new_zeros(n_cells, 0, self.width)


def drop_condition(
    condition: Condition, keys: Sequence[Key], probability: float, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Hide keys at random, so that the network learns the null tokens.

    Half of the dropping takes all keys of a cell at once (for joint guidance), half takes each key by itself (for
    compositional guidance and for conditions given in part). The library size is kept.

    Parameters
    ----------
    condition
        Condition of ``n_cells`` cells.
    keys
        Keys of the denoiser.
    probability
        Chance that a key of a cell is hidden.
    generator
        Source of randomness, on the device of the condition.

    Returns
    -------
    The condition with nulls in place of what is hidden.
    """
    dropped = dict(condition)
    given = [key for key in keys if key.name in condition]
    if not given or probability == 0:
        return dropped
    n_cells, device = len(condition[given[0].name]), condition[given[0].name].device
    one_way = 1 - math.sqrt(1 - probability)
    all_keys = torch.rand(n_cells, generator=generator, device=device) < one_way
    for key in given:
        hide = all_keys | (torch.rand(n_cells, generator=generator, device=device) < one_way)
        value = condition[key.name]
        hide = hide.view(-1, *[1] * (value.dim() - 1))
        dropped[key.name] = torch.where(hide, key.null(n_cells, device).to(value.dtype), value)
    return dropped


class ConditionalDenoiser(Protocol):
    """What guidance needs of a denoiser."""

    keys: tuple[Key, ...]
    condition_dropout: float

    def __call__(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Posterior:
        """Posterior over the missing molecules."""
        ...


class Guidance(ABC):
    """How hard a sampler should insist on a condition: wraps a denoiser into a guided one."""

    @abstractmethod
    def wrap(self, denoiser: ConditionalDenoiser) -> ConditionalDenoiser:
        """Return the guided denoiser.

        Parameters
        ----------
        denoiser
            A denoiser that was trained with condition dropout.

        Raises
        ------
        ValueError
            If the denoiser was trained without condition dropout, so that it has no null to compare with.
        """


@final
class ClassifierFreeGuidance(Guidance):
    r"""Joint guidance: :math:`\log r = \log r_\varnothing + \gamma (\log r_c - \log r_\varnothing)`.

    Parameters
    ----------
    scale
        Guidance scale gamma: 0 ignores the condition, 1 (no guidance) follows the model, more exaggerates. The other
        convention in the literature, ``w = gamma - 1``, calls no guidance 0.

    References
    ----------
    CountsDiff, section 3.3; Nisonoff et al. 2025.
    """

    def __init__(self, scale: float) -> None:
        self.scale = _checked_scale(scale, "guidance scale")

    def wrap(self, denoiser: ConditionalDenoiser) -> ConditionalDenoiser:
        """Guide jointly over all keys that the condition gives; scale 1 returns the denoiser itself."""
        if self.scale == 1:
            return denoiser
        return _GuidedDenoiser(denoiser, [(frozenset(key.name for key in denoiser.keys), self.scale)])


@final
class CompositionalGuidance(Guidance):
    r"""One term per key: :math:`\log r = \log r_\varnothing + \sum_k w_k (\log r_{c_k} - \log r_\varnothing)`.

    Parameters
    ----------
    scales
        Guidance scale of each key; a key that is not named does not steer at all.
    """

    def __init__(self, scales: Mapping[str, float]) -> None:
        self.scales = {name: _checked_scale(scale, f"guidance scale of {name!r}") for name, scale in scales.items()}

    def wrap(self, denoiser: ConditionalDenoiser) -> ConditionalDenoiser:
        """Guide by each key on its own."""
        known = [key.name for key in denoiser.keys]
        unknown = [name for name in self.scales if name not in known]
        if unknown:
            raise ValueError(f"Guidance names {unknown}, which are not condition keys. Condition keys: {known}.")
        return _GuidedDenoiser(denoiser, [(frozenset([name]), scale) for name, scale in self.scales.items()])


def _checked_scale(scale: float, what: str) -> float:
    if not (math.isfinite(scale) and 0 <= scale <= 20):
        raise ValueError(f"The {what} must lie between 0 (ignore the condition) and 20, got {scale}. 1 is no guidance.")
    return float(scale)


@final
class _GuidedDenoiser:
    """A denoiser whose log rates are pushed from the null towards subsets of the condition."""

    def __init__(self, denoiser: ConditionalDenoiser, terms: Sequence[tuple[frozenset[str], float]]) -> None:
        if denoiser.condition_dropout == 0:
            raise ValueError(
                "Guidance needs a model trained with condition dropout (condition_dropout > 0): this one never "
                "learned what a cell looks like when its condition is not given."
            )
        self.denoiser = denoiser
        self.terms = tuple(terms)
        self.keys = denoiser.keys
        self.condition_dropout = denoiser.condition_dropout

    def __call__(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Posterior:
        steering = {key.name for key in self.keys}
        free = {name: value for name, value in condition.items() if name not in steering}
        null = self.denoiser(x_t, alpha, free)
        guided = null
        for names, scale in self.terms:
            given = {name: value for name, value in condition.items() if name in names}
            guided = guided.tilt(self.denoiser(x_t, alpha, free | given), null, scale)
        return guided
