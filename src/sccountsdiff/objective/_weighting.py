"""Weightings: how much the loss counts at each survival."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from sccountsdiff.objective._pattern import MIN_DEAD
from sccountsdiff.process import Registry

WEIGHTINGS: Registry[Weighting] = Registry("loss weighting")


class Weighting(ABC):
    """Weight of the loss as a function of survival."""

    @abstractmethod
    def weight(self, alpha: Tensor) -> Tensor:
        """Weight of each entry.

        Parameters
        ----------
        alpha
            Survival, any shape.

        Returns
        -------
        Weights, same shape as ``alpha``.
        """


@WEIGHTINGS.register("bound")
@final
class BoundWeighting(Weighting):
    """``1 / (1 - alpha)``: with uniform survival the exact bound; the paper's "NLL" weight."""

    def weight(self, alpha: Tensor) -> Tensor:
        """Weights."""
        return (1 - alpha).clamp_min_(MIN_DEAD).reciprocal_()


@WEIGHTINGS.register("paper")
@final
class PaperWeighting(Weighting):
    """1: the paper's ``-p'(t)`` of every schedule, seen from uniform survival. Stresses small survivals; no bound."""

    def weight(self, alpha: Tensor) -> Tensor:
        """Weights."""
        return torch.ones_like(alpha)
