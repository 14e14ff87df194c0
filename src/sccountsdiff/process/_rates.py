r"""Posteriors that are mixtures of Poisson laws.

The *rate* :math:`r` of an entry is the expected count of a fresh, full measurement of the same cell, and
:math:`m \mid r \sim \mathrm{Poisson}((1 - \alpha) r)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process._negative_binomial import (
    cdf_negative_binomial,
    draw_negative_binomial,
    quantile_negative_binomial,
)
from sccountsdiff.process._posterior import MIN_RATE, Posterior, check_level
from sccountsdiff.process._random import gamma


@final
class PoissonPosterior(Posterior):
    """The rate is known exactly: missing molecules are Poisson with mean ``(1 - alpha) * rate``.

    Parameters
    ----------
    rate
        The rate, ``(n_cells, n_genes)``.
    alpha
        Survival, broadcastable to ``rate``.
    """

    def __init__(self, rate: Tensor, alpha: Tensor) -> None:
        self.rate = rate
        self.alpha = alpha

    @property
    def rate_variance(self) -> Tensor:
        """Zero: the rate is taken as known."""
        return torch.zeros_like(self.rate)

    def draw_rate(self, generator: torch.Generator | None = None) -> Tensor:
        """The rate itself."""
        return self.rate

    def log_prob(self, missing: Tensor) -> Tensor:
        """Poisson log probability."""
        mean = self.mean.clamp_min(MIN_RATE)
        return torch.xlogy(missing, mean) - mean - torch.lgamma(missing + 1)

    def cdf(self, missing: Tensor) -> Tensor:
        """Poisson distribution function."""
        count = missing.floor().clamp_min(0)
        return torch.where(missing < 0, 0.0, torch.special.gammaincc(count + 1, self.mean))

    def with_rate(self, rate: Tensor) -> PoissonPosterior:
        """Poisson posterior with another rate."""
        return PoissonPosterior(rate, self.alpha)

    def where(self, mask: Tensor, other: PoissonPosterior) -> PoissonPosterior:
        """Choose entry by entry."""
        return PoissonPosterior(torch.where(mask, self.rate, other.rate), torch.where(mask, self.alpha, other.alpha))


@final
class GammaPoissonPosterior(Posterior):
    r"""Gamma rate, negative-binomial missing molecules: the conjugate posterior.

    :math:`r \sim \mathrm{Gamma}(\mathrm{shape}, \mathrm{shape} / \mathrm{rate})`, hence
    :math:`m \sim \mathrm{NB}` with size ``shape`` and mean ``(1 - alpha) * rate``.

    Parameters
    ----------
    rate
        Mean of the Gamma law, ``(n_cells, n_genes)``.
    shape
        Its shape, broadcastable to ``rate``; for a Gamma(theta, theta / mu) prior and ``x_t`` seen it is
        ``theta + x_t``.
    alpha
        Survival, broadcastable to ``rate``.
    raised
        Factors of the rate and of its shape where a multiple is expected, as a function of that; None if the rate is
        multiplied and the shape the same.
    """

    def __init__(
        self,
        rate: Tensor,
        shape: Tensor,
        alpha: Tensor,
        raised: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.rate = rate
        self.shape = shape
        self.alpha = alpha
        self._raised = raised

    @property
    def rate_variance(self) -> Tensor:
        """Variance of the Gamma law, ``rate ** 2 / shape``."""
        return self.rate**2 / self.shape

    def draw_rate(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw rates from the Gamma law."""
        shape = self.shape.expand_as(self.rate)
        return gamma(shape, generator) * (self.rate / shape)

    def log_prob(self, missing: Tensor) -> Tensor:
        """Negative-binomial log probability."""
        mean, shape = self.mean.clamp_min(MIN_RATE), self.shape
        return (
            torch.lgamma(missing + shape)
            - torch.lgamma(shape)
            - torch.lgamma(missing + 1)
            - shape * torch.log1p(mean / shape)
            + torch.xlogy(missing, mean / (mean + shape))
        )

    def cdf(self, missing: Tensor) -> Tensor:
        """Negative-binomial distribution function."""
        return cdf_negative_binomial(missing, self.mean.clamp_min(MIN_RATE), self.shape)

    def draw(self, generator: torch.Generator | None = None, fraction: Tensor | float = 1.0) -> Tensor:
        """Draw from the negative-binomial law."""
        return draw_negative_binomial(self.mean * fraction, self.shape, generator)

    def quantile(self, level: float) -> Tensor:
        """Negative-binomial quantile."""
        check_level(level)
        mean = self.mean.unsqueeze(0)
        return quantile_negative_binomial(level, torch.ones_like(mean), mean, self.shape)

    def with_rate(self, rate: Tensor) -> GammaPoissonPosterior:
        """Gamma posterior with another mean and the same shape."""
        return GammaPoissonPosterior(rate, self.shape, self.alpha, self._raised)

    def raised(self, ratio: Tensor) -> GammaPoissonPosterior:
        """Gamma posterior with another mean, and the shape of what is expected then."""
        of_rate, of_shape = (ratio, torch.ones_like(ratio)) if self._raised is None else self._raised(ratio)
        return GammaPoissonPosterior(self.rate * of_rate, self.shape * of_shape, self.alpha)

    def where(self, mask: Tensor, other: GammaPoissonPosterior) -> GammaPoissonPosterior:
        """Choose entry by entry."""
        return GammaPoissonPosterior(
            torch.where(mask, self.rate, other.rate),
            torch.where(mask, self.shape, other.shape),
            torch.where(mask, self.alpha, other.alpha),
        )
