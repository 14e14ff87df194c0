r"""Binomial thinning: how molecules die, and how they return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process._births import Births
from sccountsdiff.process._posterior import Posterior
from sccountsdiff.process._random import binomial


def max_death(alpha_t: Tensor, alpha_s: Tensor) -> Tensor:
    r"""Largest admissible death probability, :math:`\min(1, (1 - \alpha_s) / \alpha_t)` (CountsDiff, Prop. 3.2)."""
    # At alpha_t = 0 nobody is left to die and any death probability will do.
    ratio = torch.where(alpha_t > 0, (1 - alpha_s) / alpha_t.clamp_min(torch.finfo(alpha_t.dtype).tiny), 1.0)
    return ratio.clamp(0, 1)


def bridge(alpha_t: Tensor, alpha_s: Tensor, death: Tensor) -> Tensor:
    r"""Birth probability of a reverse step, :math:`(\alpha_s - (1 - \sigma) \alpha_t) / (1 - \alpha_t)`.

    It keeps the marginals: a unit is alive at s with probability
    :math:`\alpha_t (1 - \sigma) + (1 - \alpha_t)\,\mathrm{birth} = \alpha_s`. The units are molecules under thinning
    and entries under masking; the formula is the same.

    Parameters
    ----------
    alpha_t, alpha_s
        Survival now and after the step, ``alpha_s >= alpha_t``; any broadcastable shapes.
    death
        Death probability ``sigma`` of the living, at most :func:`max_death`.

    References
    ----------
    CountsDiff, Prop. 3.2 and Alg. 2.
    """
    # Where alpha_t = 1 nothing is missing, so the birth probability does not matter.
    dead = (1 - alpha_t).clamp_min(torch.finfo(alpha_t.dtype).eps)
    return ((alpha_s - (1 - death) * alpha_t) / dead).clamp(0, 1)


class Process(ABC):
    """How counts lose information and regain it."""

    @abstractmethod
    def corrupt(self, x_0: Tensor, alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``x_t`` given clean counts ``x_0`` ``(n_cells, n_genes)`` and survival ``alpha`` (broadcastable)."""

    @abstractmethod
    def renoise(
        self, x_s: Tensor, alpha_s: Tensor, alpha_t: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw ``x_t`` given the state at a larger survival, ``alpha_s >= alpha_t``."""

    @abstractmethod
    def revive(
        self,
        x_t: Tensor,
        posterior: Posterior,
        alpha_s: Tensor,
        death: Tensor,
        births: Births,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw ``x_s`` at the larger survival ``alpha_s``, given ``x_t`` and the posterior over what is missing."""


@final
class Thinning(Process):
    r"""Each molecule survives with probability alpha, independently: :math:`x_t \sim \mathrm{Bin}(x_0, \alpha)`.

    Survival may differ between entries. The process knows nothing of cells or genes: counts of any shape will do.

    References
    ----------
    CountsDiff, eq. of the forward marginal (section 3.1) and Prop. 3.2; Blackout diffusion (Santos et al. 2023) is the
    special case ``alpha = exp(-t)``.
    """

    def corrupt(self, x_0: Tensor, alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Thin ``x_0`` binomially."""
        return binomial(x_0, alpha, generator)

    def renoise(
        self, x_s: Tensor, alpha_s: Tensor, alpha_t: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Thin further: survivors of ``alpha_s`` live on with probability ``alpha_t / alpha_s``."""
        tiny = torch.finfo(alpha_s.dtype).tiny
        return binomial(x_s, alpha_t / alpha_s.clamp_min(tiny), generator)

    def revive(
        self,
        x_t: Tensor,
        posterior: Posterior,
        alpha_s: Tensor,
        death: Tensor,
        births: Births,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """One reverse step: the living die with probability ``death``, the missing return (CountsDiff, Alg. 2)."""
        birth = bridge(posterior.alpha, alpha_s, death)
        survivors = x_t - binomial(x_t, death, generator) if bool((death > 0).any()) else x_t
        return survivors + births.draw(posterior, birth, generator)
