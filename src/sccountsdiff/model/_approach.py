"""How a condition is imposed on generated cells: what the walk is told, and how it is guided."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from sccountsdiff.conditioning import (
    ClassifierFreeGuidance,
    CompositionalGuidance,
    ContrastGuidance,
    Guidance,
)
from sccountsdiff.model._perturbation import PerturbationNames
from sccountsdiff.model._setup import ConditionSource

#: One condition in codes and numbers.
Row = Mapping[str, Any]


class Approach(ABC):
    """How a condition is imposed."""

    #: Name at the surface.
    name: ClassVar[str]
    #: Whether the cells are moved to a forecast profile after the walk.
    moves: ClassVar[bool] = False

    @property
    def kept(self) -> tuple[str, ...]:
        """Keys in which cells that are given stay as they are during the walk."""
        return ()

    @abstractmethod
    def template(self, row: Row) -> Row:
        """Condition of the training cells that library sizes, keys left out and empirical starts come from.

        Parameters
        ----------
        row
            The condition asked for.
        """

    @abstractmethod
    def told(self, row: Row) -> Row:
        """Condition that the walk is told.

        Parameters
        ----------
        row
            The condition asked for.
        """

    @abstractmethod
    def guide(self, guidance: float | Mapping[str, float]) -> Guidance:
        """Guidance object from plain values.

        Parameters
        ----------
        guidance
            One scale, or one for each key.
        """


@final
@dataclass(frozen=True)
class Joint(Approach):
    """The walk is told the whole condition."""

    name = "joint"

    def template(self, row: Row) -> Row:
        """The condition itself."""
        return row

    def told(self, row: Row) -> Row:
        """The condition itself."""
        return row

    def guide(self, guidance: float | Mapping[str, float]) -> Guidance:
        """Joint guidance, or one scale for each key."""
        return _plain_guidance(guidance)


@final
@dataclass(frozen=True)
class Contrast(Approach):
    """From the control of the context, along the effect of the perturbation by itself, at every step."""

    key: str
    control: int
    name = "contrast"

    def template(self, row: Row) -> Row:
        """The control of the context."""
        return {**row, self.key: self.control}

    def told(self, row: Row) -> Row:
        """The condition itself."""
        return row

    def guide(self, guidance: float | Mapping[str, float]) -> Guidance:
        """Contrast guidance with one scale."""
        if isinstance(guidance, Mapping):
            raise ValueError("method='contrast' takes one guidance scale, of the effect: pass a number.")
        return ContrastGuidance(self.key, self.control, guidance)


@final
@dataclass(frozen=True)
class Forecasting(Approach):
    """Cells of the control of the context, moved to the forecast profile of the condition."""

    key: str
    control: int
    name = "forecast"
    moves = True

    @property
    def kept(self) -> tuple[str, ...]:
        """The perturbation: the cells are moved afterwards."""
        return (self.key,)

    def template(self, row: Row) -> Row:
        """The control of the context."""
        return {**row, self.key: self.control}

    def told(self, row: Row) -> Row:
        """The control of the context."""
        return self.template(row)

    def guide(self, guidance: float | Mapping[str, float]) -> Guidance:
        """Joint guidance, or one scale for each key."""
        return _plain_guidance(guidance)


@dataclass(frozen=True)
class Asked:
    """The conditions that a user asked for, and how each is imposed.

    Attributes
    ----------
    rows
        The conditions, in codes and numbers.
    approaches
        The approach of each.
    """

    rows: Sequence[Row]
    approaches: Sequence[Approach]

    @property
    def names(self) -> str:
        """The approaches in use."""
        return ", ".join(dict.fromkeys(approach.name for approach in self.approaches))

    def cells_of(self, approach: Approach, row_of_cell: NDArray[np.intp]) -> NDArray[np.intp]:
        """Cells whose condition is imposed by an approach."""
        rows = np.flatnonzero([other == approach for other in self.approaches])
        return np.flatnonzero(np.isin(row_of_cell, rows))

    def still(self, row_of_cell: NDArray[np.intp]) -> NDArray[np.intp]:
        """Cells that are not moved."""
        rows = np.flatnonzero([not approach.moves for approach in self.approaches])
        return np.flatnonzero(np.isin(row_of_cell, rows))

    def replaced_keys(self) -> list[Row]:
        """For cells that are given: the keys that the walk is told to replace."""
        return [
            {name: value for name, value in row.items() if name not in approach.kept}
            for row, approach in zip(self.rows, self.approaches, strict=True)
        ]


_OF_CONTROL: dict[str, type[Contrast] | type[Forecasting]] = {"contrast": Contrast, "forecast": Forecasting}
#: What a user may ask for.
METHODS = ("auto", "joint", *_OF_CONTROL)


def make_approach(method: str, source: ConditionSource | None) -> Approach:
    """Approach by name.

    Parameters
    ----------
    method
        Name of an approach.
    source
        The perturbation, None if the model knows none.

    Raises
    ------
    ValueError
        If the name is unknown, or the approach needs a control and there is none.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, got {method!r}.")
    if method not in _OF_CONTROL:
        return Joint()
    if not has_control(source):
        raise ValueError(
            f"method={method!r} needs to know which cells were not perturbed: call setup_anndata with "
            "perturbation_key= and control=."
        )
    assert source is not None
    return _OF_CONTROL[method](source.name, control_code(source))


def has_control(source: ConditionSource | None) -> bool:
    """Whether the model knows a perturbation and its control."""
    return source is not None and _names(source).control is not None


def control_code(source: ConditionSource) -> int:
    """Code of the control."""
    return source.names.code(_names(source).control, source.name)


def control_level(source: ConditionSource) -> int:
    """Level of the control."""
    names = _names(source)
    return list(names.levels).index(names.control)


def _names(source: ConditionSource) -> PerturbationNames:
    assert isinstance(source.names, PerturbationNames)
    return source.names


def _plain_guidance(guidance: float | Mapping[str, float]) -> Guidance:
    return CompositionalGuidance(guidance) if isinstance(guidance, Mapping) else ClassifierFreeGuidance(guidance)
