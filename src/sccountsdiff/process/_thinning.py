r"""Binomial thinning: how molecules die, and how they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process._births import Births, PoissonBirths
from sccountsdiff.process._posterior import MIN_RATE, Posterior
from sccountsdiff.process._process import Believes, Process, Shown, bridge, nobody_dies
from sccountsdiff.process._random import binomial
from sccountsdiff.process._schedule import ENDPOINT_TOLERANCE, GeometricSchedule

#: Survival at which translated profiles come closest to measured ones (benchmarks/translation.py).
_GLIMPSE = 0.05


@final
class Thinning(Process):
    r"""Each molecule survives with probability alpha, independently: :math:`x_t \sim \mathrm{Bin}(x_0, \alpha)`.

    Survival may differ between entries. The process knows nothing of cells or genes: counts of any shape will do.

    References
    ----------
    CountsDiff, eq. of the forward marginal (section 3.1) and Prop. 3.2; Blackout diffusion (Santos et al. 2023) is the
    special case ``alpha = exp(-t)``.
    """

    births = PoissonBirths()

    def corrupt(self, x_0: Tensor, alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Thin ``x_0`` binomially."""
        return binomial(x_0, alpha, generator)

    def renoise(
        self, x_s: Tensor, alpha_s: Tensor, alpha_t: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Thin further: survivors of ``alpha_s`` live on with probability ``alpha_t / alpha_s``."""
        tiny = torch.finfo(alpha_s.dtype).tiny
        return binomial(x_s, alpha_t / alpha_s.clamp_min(tiny), generator)

    def begin(self, x_0: Tensor, survival: float, size: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Thin in proportion to the size."""
        return self.corrupt(x_0, (survival * size).clamp(0, 1), generator)

    def glimpse(self, x: Tensor, survival: Tensor) -> Shown:
        """Expected survivors of one molecule in twenty."""
        return Shown(_GLIMPSE * x, _GLIMPSE * survival)

    def revive(
        self,
        x_t: Tensor,
        posterior: Posterior,
        alpha_t: Tensor,
        alpha_s: Tensor,
        death: Tensor,
        births: Births,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """One reverse step: the living die with probability ``death``, the missing return (CountsDiff, Alg. 2)."""
        birth = bridge(alpha_t, alpha_s, death)
        survivors = x_t if nobody_dies(death) else x_t - binomial(x_t, death, generator)
        return survivors + births.draw(posterior, birth, generator)

    def check_seen(self, survival: Tensor) -> None:
        """Any survival will do: what is missing of an entry can be added to what was seen of it."""

    def remeasure(
        self, denoiser: Believes, seen: Shown, condition: Mapping[str, Tensor], wanted: Tensor | None = None
    ) -> Posterior:
        """What the denoiser says: near survival 1 its rates are those of an empirical-Bayes denoiser."""
        return denoiser(*seen, condition)

    def schedule(self, library_size: float) -> GeometricSchedule:
        """Geometric from about one molecule of a library: each step multiplies the molecules by the same factor."""
        return GeometricSchedule(min(1 / max(library_size, 1.0), ENDPOINT_TOLERANCE))

    def loss(self, posterior: Posterior, x_0: Tensor, x_t: Tensor) -> Tensor:
        """Poisson loss of the missing molecules (CountsDiff, Alg. 1)."""
        return posterior.nll(x_0 - x_t)

    def reference(self, x_0: Tensor, seen: Tensor) -> Shown:
        """The whole cell."""
        return Shown(x_0, seen)

    def control(self, reference: Posterior, x_0: Tensor, x_t: Tensor, alpha: Tensor) -> Tensor:
        r""":math:`\log x_0!`, and :math:`(m / (1 - \alpha) - x_0) \log \tilde r`, which has mean zero."""
        log_rate = reference.rate.clamp_min(MIN_RATE).log()
        return ((x_0 - x_t) / (1 - alpha) - x_0) * log_rate + torch.lgamma(x_0 + 1)
