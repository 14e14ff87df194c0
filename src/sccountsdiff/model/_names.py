"""From names that a user types to codes, with errors that help."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np

from sccountsdiff.model._setup import ConditionSource, codes_of

#: How many known names an error message lists.
_LISTED = 20


def nearest_first(name: Any, known: Iterable[Any]) -> str:
    """Known names, those that look like ``name`` first."""
    names = [str(k) for k in known]
    close = get_close_matches(str(name), names, n=5, cutoff=0.5)
    ordered = close + [k for k in names if k not in close]
    more = f", ... ({len(names)} in all)" if len(ordered) > _LISTED else ""
    return ", ".join(map(repr, ordered[:_LISTED])) + more


def resolve_category(source: ConditionSource, value: Any) -> int:
    """Code of a category.

    Raises
    ------
    ValueError
        If the category is unknown; the message lists the known ones, nearest names first.
    """
    code = int(codes_of(source, value)[0])
    if code < 0 and np.issubdtype(np.asarray(source.categories).dtype, np.number):
        try:  # categories may be numbers where the user types a string
            code = int(codes_of(source, float(value))[0])
        except (TypeError, ValueError):
            code = -1
    if code < 0:
        raise ValueError(
            f"{value!r} is no category of {source.name!r}. Known categories: {nearest_first(value, source.categories)}."
        )
    return code
