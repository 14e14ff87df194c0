"""Attrition: how many of the living die in a reverse step, so that early mistakes can be undone.

A rule maps the survivals before and after a step to the death probability ``sigma``, never above the largest
admissible one. The units are molecules under thinning and entries under masking.

References
----------
CountsDiff (arXiv 2604.03779), Prop. 3.2; the capped and rescaled rules are those of ReMDM (Wang et al. 2025).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process import Registry, max_death

ATTRITIONS: Registry[Attrition] = Registry("attrition rule")


class Attrition(ABC):
    """Death probability of a reverse step."""

    @abstractmethod
    def death(self, alpha_t: Tensor, alpha_s: Tensor) -> Tensor:
        """Death probability of the living.

        Parameters
        ----------
        alpha_t, alpha_s
            Survival before and after the step, ``alpha_s >= alpha_t``; any broadcastable shapes.

        Returns
        -------
        Probabilities between 0 and :func:`~sccountsdiff.process.max_death`, broadcastable to the survivals.
        """


@ATTRITIONS.register("none")
@final
class NoAttrition(Attrition):
    """Nobody dies: a pure-birth bridge."""

    def death(self, alpha_t: Tensor, alpha_s: Tensor) -> Tensor:
        """Zero, as a number on the host: no sampler waits for a GPU to learn that there is nothing to draw."""
        return torch.zeros((), dtype=alpha_t.dtype)


@ATTRITIONS.register("constant")
@final
class ConstantAttrition(Attrition):
    """The same death probability at every step, as far as it is admissible.

    Without the clamp the last steps would need birth probabilities above 1.

    Parameters
    ----------
    sigma
        Death probability, between 0 and 1.
    """

    def __init__(self, sigma: float) -> None:
        self.sigma = _checked(sigma, "sigma")

    def death(self, alpha_t: Tensor, alpha_s: Tensor) -> Tensor:
        """``min(sigma, maximum)``."""
        return max_death(alpha_t, alpha_s).clamp_max(self.sigma)


@ATTRITIONS.register("capped")
@final
class CappedAttrition(Attrition):
    """The admissible maximum, capped: ``min(eta, maximum)`` (ReMDM's "cap").

    Once a constant is clamped to what is admissible the two rules agree; both names exist because papers use both.

    Parameters
    ----------
    eta
        The cap, between 0 and 1.
    """

    def __init__(self, eta: float) -> None:
        self.eta = _checked(eta, "eta")

    def death(self, alpha_t: Tensor, alpha_s: Tensor) -> Tensor:
        """``min(eta, maximum)``."""
        return max_death(alpha_t, alpha_s).clamp_max(self.eta)


@ATTRITIONS.register("rescaled")
@final
class RescaledAttrition(Attrition):
    """A fraction of the admissible maximum: the paper's rule.

    Parameters
    ----------
    eta
        The fraction, between 0 and 1; the paper uses .005 to .02.
    """

    def __init__(self, eta: float) -> None:
        self.eta = _checked(eta, "eta")

    def death(self, alpha_t: Tensor, alpha_s: Tensor) -> Tensor:
        """``eta * maximum``."""
        return self.eta * max_death(alpha_t, alpha_s)


def _checked(value: float, what: str) -> float:
    if not 0 <= value <= 1:
        raise ValueError(f"Attrition {what} must lie between 0 (none) and 1 (the admissible maximum), got {value}.")
    return float(value)
