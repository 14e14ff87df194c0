"""The table of metrics: what each is called, which way is better, and what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, ParamSpec

import pandas as pd

P = ParamSpec("P")
Direction = Literal["lower", "higher"] | float


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Parameters
    ----------
    function
        The plain function.
    direction
        ``"lower"`` or ``"higher"`` is better, or the number that a perfect method scores.
    description
        One line for tables.
    """

    function: Callable[..., float]
    direction: Direction
    description: str

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.__name__


METRICS: dict[str, Metric] = {}


def metric(direction: Direction, description: str) -> Callable[[Callable[P, float]], Callable[P, float]]:
    """Register the decorated function, unchanged, under its own name.

    Parameters
    ----------
    direction
        ``"lower"`` or ``"higher"`` is better, or the number that a perfect method scores.
    description
        One line for tables.

    Returns
    -------
    Decorator.
    """

    def register(function: Callable[P, float]) -> Callable[P, float]:
        entry = Metric(function, direction, description)
        METRICS[entry.name] = entry
        return function

    return register


def list_metrics() -> pd.DataFrame:
    """Return the registered metrics: one row per name with columns ``better`` and ``description``.

    Returns
    -------
    Table with the names as index and the columns ``better`` and ``description``.
    """
    rows = {
        entry.name: {"better": str(entry.direction), "description": entry.description} for entry in METRICS.values()
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("metric")
