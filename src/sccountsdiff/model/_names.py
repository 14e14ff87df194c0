"""From names that a user types to codes, with errors that help, and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sccountsdiff.model._setup import ConditionSource

#: How many known names an error message lists.
_LISTED = 20


def nearest_first(name: Any, known: Iterable[Any]) -> str:
    """Known names, those that look like ``name`` first."""
    names = [str(k) for k in known]
    close = get_close_matches(str(name), names, n=5, cutoff=0.5)
    ordered = close + [k for k in names if k not in close]
    more = f", ... ({len(names)} in all)" if len(ordered) > _LISTED else ""
    return ", ".join(map(repr, ordered[:_LISTED])) + more


@dataclass(frozen=True)
class Names(ABC):
    """What the codes of a key are called.

    Attributes
    ----------
    levels
        Names of the single levels.
    """

    levels: NDArray[Any]

    @abstractmethod
    def code(self, value: Any, key: str) -> int:
        """Code of a name.

        Raises
        ------
        ValueError
            If the name is unknown; the message lists the known ones, nearest names first.
        """

    @abstractmethod
    def column(self, codes: NDArray[np.integer]) -> pd.Categorical:
        """Names of codes; missing where the code is -1."""


@final
@dataclass(frozen=True)
class CategoryNames(Names):
    """One name per code: the code is its position among the levels."""

    def code(self, value: Any, key: str) -> int:
        """Position of the name; a number may be typed as text."""
        known = pd.Index(self.levels)
        code = int(known.get_indexer([value])[0])
        if code < 0 and np.issubdtype(np.asarray(self.levels).dtype, np.number):
            try:
                code = int(known.get_indexer([float(value)])[0])
            except (TypeError, ValueError):
                code = -1
        if code < 0:
            raise ValueError(
                f"{value!r} is no category of {key!r}. Known categories: {nearest_first(value, self.levels)}."
            )
        return code

    def column(self, codes: NDArray[np.integer]) -> pd.Categorical:
        """Names of codes."""
        return pd.Categorical.from_codes(codes, categories=self.levels)


def resolve_category(source: ConditionSource, value: Any) -> int:
    """Code of a category, or of several joined by a separator where the key allows that.

    Raises
    ------
    ValueError
        If the category is unknown; the message lists the known ones, nearest names first.
    """
    assert source.names is not None
    return source.names.code(value, source.name)
