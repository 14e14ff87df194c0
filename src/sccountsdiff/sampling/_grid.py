"""Survival grids: where a sampler stops on its way from dead to clean."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sccountsdiff.process import Schedule

_BISECTIONS = 60


def survival_grid(schedule: Schedule, n_steps: int, start: float = 0.0) -> Tensor:
    """Survivals at equidistant times of a schedule, from ``start`` to 1.

    Parameters
    ----------
    schedule
        A geometric schedule (each step multiplies the molecules by the same factor) needs the fewest steps; give it
        ``alpha_min`` of about one molecule of a library.
    n_steps
        Number of steps.
    start
        Survival of the state that the sampler starts from: 0 for empty cells.

    Returns
    -------
    ``(n_steps + 1,)`` rising survivals; the first is ``start``, the last 1.

    Raises
    ------
    ValueError
        If ``n_steps < 1`` or ``start`` lies outside [0, 1).
    """
    if n_steps < 1:
        raise ValueError(f"A sampler needs at least one step, got n_steps={n_steps}.")
    if not 0 <= start < 1:
        raise ValueError(f"The survival of the start must lie in [0, 1), got {start}.")
    times = torch.linspace(_time_of(schedule, start), 0, n_steps + 1, dtype=torch.float64)
    grid = schedule.survival(times)
    grid[0], grid[-1] = start, 1.0
    return grid.to(torch.get_default_dtype())


def _time_of(schedule: Schedule, alpha: float) -> float:
    """Time at which survival has fallen to ``alpha`` (1 if it never does)."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        above = schedule.survival(torch.tensor(middle, dtype=torch.float64)).item() > alpha
        low, high = (middle, high) if above else (low, middle)
    return high


def explicit_grid(survivals: Sequence[float] | Tensor) -> Tensor:
    """A user's own grid, checked.

    Parameters
    ----------
    survivals
        Survivals that rise strictly from that of the start (at least 0) to 1.

    Returns
    -------
    ``(n_steps + 1,)`` survivals.

    Raises
    ------
    ValueError
        If they do not.
    """
    grid = torch.as_tensor(survivals, dtype=torch.get_default_dtype())
    if grid.dim() != 1 or len(grid) < 2 or bool((grid.diff() <= 0).any()) or grid[0] < 0 or grid[-1] != 1:
        raise ValueError(f"A survival grid must rise strictly from at least 0 to exactly 1, got {grid.tolist()}.")
    return grid
