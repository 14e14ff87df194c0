"""How good a score is, between that of a baseline and that of what nothing can beat."""

from __future__ import annotations

from typing import TypeVar

import pandas as pd

T = TypeVar("T", pd.Series, pd.DataFrame)


def quality(scores: T, baseline: T, floor: T) -> T:
    """Place of scores between those of a baseline and of other real cells, whichever way is better.

    For :func:`sccountsdiff.pl.score_card`.

    Parameters
    ----------
    scores
        Scores, for instance conditions by metrics.
    baseline
        What a baseline scores, such as control cells or the nearest other condition; same rows and columns.
    floor
        What other real cells score, same rows and columns.

    Returns
    -------
    1 as good as other real cells or better, 0 as bad as the baseline or worse; NaN where the two score alike.
    """
    gap = floor - baseline
    return ((scores - baseline) / gap.where(gap != 0)).clip(0, 1)
