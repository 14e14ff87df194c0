"""Scores of a model beside baselines and a floor: a number on its own says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sccountsdiff import metrics

#: Name of the model's own column in a table of scores.
MODEL = "sccountsdiff"
#: Name of the column with what nothing can beat.
FLOOR = "floor"
_LEADING = ("question", "metric", "better")


def score(question: str, names: Sequence[str], entrants: Mapping[str, tuple[Any, ...]]) -> pd.DataFrame:
    """Score all entrants with registered metrics.

    Parameters
    ----------
    question
        What is asked; groups the rows of a table.
    names
        Names of metrics.
    entrants
        Name of an entrant -> arguments to call each metric with. ``"sccountsdiff"`` is the model, ``"floor"`` what
        nothing can beat, all others are baselines.

    Returns
    -------
    One row per metric: ``question``, ``metric``, ``better``, one column per entrant, ``description``.
    """
    rows = []
    for name in names:
        metric = metrics.METRICS[name]
        values = {entrant: metric.function(*arguments) for entrant, arguments in entrants.items()}
        leading = {"question": question, "metric": name, "better": str(metric.direction)}
        rows.append(leading | values | {"description": metric.description})
    return pd.DataFrame(rows)


def entrants_of(scores: pd.DataFrame) -> list[str]:
    """Names of the entrants of a table of scores.

    Parameters
    ----------
    scores
        Table of :func:`score`.

    Returns
    -------
    Names of columns.
    """
    return [name for name in scores.columns if name not in (*_LEADING, "description")]


def leader(row: pd.Series) -> str:
    """Which of the model and the baselines is closest to what the metric of a row wants.

    Parameters
    ----------
    row
        Row of a table of :func:`score`.

    Returns
    -------
    Name of the entrant; the floor does not take part.
    """
    direction = metrics.METRICS[row["metric"]].direction
    distance = {"lower": lambda value: value, "higher": lambda value: -value}.get(
        direction, lambda value: abs(value - direction)
    )
    rivals = [name for name in entrants_of(row.to_frame().T) if name != FLOOR and not pd.isna(row[name])]
    return min(rivals, key=lambda name: distance(row[name]), default=MODEL)
