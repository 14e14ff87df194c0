r"""Survival schedules: how the survival probability falls with time.

A schedule is a function :math:`\alpha = p(t)` with :math:`p(0) = 1` (clean) and :math:`p(1) = 0` (all dead),
differentiable and never rising (CountsDiff, Prop. 3.1). Where only survivals matter, as in the exact bound and in
sampling over an explicit grid, no schedule is needed.

References
----------
CountsDiff (arXiv 2604.03779), section 3.1 and appendix B.7.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process._registry import Registry

SCHEDULES: Registry[Schedule] = Registry("survival schedule")

#: How far the ends of a schedule may lie from 1 and 0. Geometric schedules never reach 0; samplers start at 0 exactly.
ENDPOINT_TOLERANCE = 1e-2


class Schedule(ABC):
    """Survival as a function of time."""

    @abstractmethod
    def survival(self, t: Tensor) -> Tensor:
        """Survival probability.

        Parameters
        ----------
        t
            Times in [0, 1], any shape.

        Returns
        -------
        Probabilities, same shape as ``t``.
        """

    @abstractmethod
    def derivative(self, t: Tensor) -> Tensor:
        """Derivative of :meth:`survival` with respect to time.

        Parameters
        ----------
        t
            Times in [0, 1], any shape.

        Returns
        -------
        Slopes, never positive, same shape as ``t``.
        """


@SCHEDULES.register("cosine")
@final
class CosineSchedule(Schedule):
    r""":math:`p(t) = \cos^2(\pi t / 2)`."""

    def survival(self, t: Tensor) -> Tensor:
        """Survival probability at times ``t``."""
        return torch.cos(math.pi * t / 2) ** 2

    def derivative(self, t: Tensor) -> Tensor:
        """Derivative of the survival."""
        return -(math.pi / 2) * torch.sin(math.pi * t)


@SCHEDULES.register("blackout")
@final
class BlackoutSchedule(Schedule):
    r"""Blackout's schedule on [0, 1] ("FI"): :math:`p(t) = \mathrm{sigmoid}(L (1 - 2t))`.

    Parameters
    ----------
    end_time
        Blackout's final time; ``L = -log(exp(-end_time) / (1 - exp(-end_time)))``.
    """

    def __init__(self, end_time: float = 15.0) -> None:
        if not end_time > math.log(2):
            raise ValueError(f"end_time must exceed log(2), got {end_time}.")
        self.logit = end_time + math.log1p(-math.exp(-end_time))

    def survival(self, t: Tensor) -> Tensor:
        """Survival probability at times ``t``."""
        return torch.sigmoid(self.logit * (1 - 2 * t))

    def derivative(self, t: Tensor) -> Tensor:
        """Derivative of the survival."""
        p = self.survival(t)
        return -2 * self.logit * p * (1 - p)


@SCHEDULES.register("linear")
@final
class LinearSchedule(Schedule):
    r""":math:`p(t) = 1 - t`: time and survival are the same thing."""

    def survival(self, t: Tensor) -> Tensor:
        """Survival probability at times ``t``."""
        return 1 - t

    def derivative(self, t: Tensor) -> Tensor:
        """Derivative of the survival."""
        return -torch.ones_like(t)


@SCHEDULES.register("geometric")
@final
class GeometricSchedule(Schedule):
    r"""Log-linear survival: :math:`p(t) = \alpha_{\min}^{\,t}`.

    Equal time steps multiply the expected number of survivors by the same factor.

    Parameters
    ----------
    alpha_min
        Survival at t = 1, about one molecule of a library: 1e-3 by default.
    """

    def __init__(self, alpha_min: float = 1e-3) -> None:
        if not 0 < alpha_min <= ENDPOINT_TOLERANCE:
            raise ValueError(f"alpha_min must lie in (0, {ENDPOINT_TOLERANCE}], got {alpha_min}.")
        self.log_alpha_min = math.log(alpha_min)

    def survival(self, t: Tensor) -> Tensor:
        """Survival probability at times ``t``."""
        return torch.exp(self.log_alpha_min * t)

    def derivative(self, t: Tensor) -> Tensor:
        """Derivative of the survival."""
        return self.log_alpha_min * self.survival(t)


@final
class UserSchedule(Schedule):
    """A user's function of time, accepted after a check; its derivative comes from autograd.

    Parameters
    ----------
    survival
        Differentiable function of a tensor of times, e.g. ``lambda t: (1 - t) ** 2``.

    Raises
    ------
    ValueError
        If the function is not a survival schedule, see :func:`check_schedule`.
    """

    def __init__(self, survival: Callable[[Tensor], Tensor]) -> None:
        self._survival = survival
        check_schedule(self)

    def survival(self, t: Tensor) -> Tensor:
        """Survival probability at times ``t``."""
        return self._survival(t)

    def derivative(self, t: Tensor) -> Tensor:
        """Derivative of the survival."""
        with torch.enable_grad():
            time = t.detach().clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(self._survival(time).sum(), time)
        return slope


def check_schedule(schedule: Schedule, n_points: int = 1001) -> None:
    """Check that a schedule starts at 1, ends at 0, stays within and never rises.

    Parameters
    ----------
    schedule
        The schedule.
    n_points
        Number of equidistant times looked at.

    Raises
    ------
    ValueError
        Naming the first time that offends.
    """
    t = torch.linspace(0, 1, n_points, dtype=torch.float64)
    p = schedule.survival(t)
    if p.shape != t.shape or not torch.isfinite(p).all():
        raise ValueError("A survival schedule must return one finite survival for each time.")
    for index, wanted in ((0, 1.0), (-1, 0.0)):
        if abs(p[index].item() - wanted) > ENDPOINT_TOLERANCE:
            raise ValueError(
                f"Survival at t = {t[index].item():g} is {p[index].item():.4g}; it must be {wanted:g} "
                f"(to within {ENDPOINT_TOLERANCE}): time runs from clean (t = 0) to dead (t = 1)."
            )
    rises = torch.nonzero(p[1:] > p[:-1] + 1e-12)
    outside = torch.nonzero((p < 0) | (p > 1))
    if len(rises):
        raise ValueError(f"Survival rises after t = {t[rises[0]].item():.3f}; it must fall from 1 to 0.")
    if len(outside):
        raise ValueError(f"Survival at t = {t[outside[0]].item():.3f} lies outside [0, 1].")
