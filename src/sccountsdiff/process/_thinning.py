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
    r"""Largest admissible death probability of a reverse step, :math:`\min(1, (1 - \alpha_s) / \alpha_t)`.

    Parameters
    ----------
    alpha_t, alpha_s
        Survival now and after the step; any broadcastable shapes.

    Returns
    -------
    Probabilities of the broadcast shape; 1 where ``alpha_t`` is 0, for nobody is left to die.

    References
    ----------
    CountsDiff, Prop. 3.2.
    """
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

    Returns
    -------
    Probabilities of the broadcast shape.

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
        """Draw surviving counts ``x_t``.

        Parameters
        ----------
        x_0
            Clean UMI counts, integer-valued floats ``(n_cells, n_genes)``.
        alpha
            Survival, broadcastable to ``x_0``.
        generator
            Source of randomness, on the device of the counts; the global one if None.
        """

    @abstractmethod
    def renoise(
        self, x_s: Tensor, alpha_s: Tensor, alpha_t: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw ``x_t`` given the state at a larger survival.

        Parameters
        ----------
        x_s
            Counts that survived at ``alpha_s``, ``(n_cells, n_genes)``.
        alpha_s, alpha_t
            Survival of the state and of the one wanted, ``alpha_s >= alpha_t``; broadcastable to ``x_s``.
        generator
            Source of randomness, on the device of the counts; the global one if None.
        """

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
        """Draw ``x_s`` at a larger survival: one reverse step.

        Parameters
        ----------
        x_t
            Surviving counts, ``(n_cells, n_genes)``.
        posterior
            What a denoiser believes is missing; it knows the survival of ``x_t``.
        alpha_s
            Survival after the step, broadcastable to ``x_t``.
        death
            Death probability of the living, broadcastable to ``x_t``; at most :func:`max_death`.
        births
            How births are drawn from the posterior.
        generator
            Source of randomness, on the device of the counts; the global one if None.
        """


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
