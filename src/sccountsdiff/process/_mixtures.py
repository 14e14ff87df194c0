"""A posterior whose rate is in one of a few states: the bulk, outliers, nearly silent."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from sccountsdiff.process._posterior import MIN_RATE, Posterior
from sccountsdiff.process._rates import GammaPoissonPosterior


@final
class GammaMixturePosterior(Posterior):
    r"""The rate is in one of K states, and has a Gamma law in each.

    :math:`r \sim \sum_k w_k\, \mathrm{Gamma}(\mathrm{shape}, \mathrm{shape} / r_k)`, hence missing molecules are a mixture
    of negative binomials of one size.

    Parameters
    ----------
    rate
        Mean of the rate over all states, ``(n_cells, n_genes)``.
    states
        Mean of the rate in each state, up to a factor of the entry: ``rate`` sets the scale; ``(K, n_cells, n_genes)``.
    weights
        Probability of each state, ``(K, n_cells, n_genes)``; they add up to 1.
    shape
        Shape of the Gamma laws, broadcastable to ``rate``.
    alpha
        Survival, broadcastable to ``rate``.
    """

    def __init__(self, rate: Tensor, states: Tensor, weights: Tensor, shape: Tensor, alpha: Tensor) -> None:
        self.rate = rate
        self.states = states
        self.weights = weights
        self.shape = shape
        self.alpha = alpha

    @property
    def rates(self) -> Tensor:
        """Mean of the rate in each state, ``(K, n_cells, n_genes)``."""
        return self.states * (self.rate / (self.weights * self.states).sum(0).clamp_min(MIN_RATE))

    @property
    def rate_variance(self) -> Tensor:
        """Variance within states and between them."""
        square = (self.weights * self.rates**2).sum(0)
        return (square * (1 + 1 / self.shape) - self.rate**2).clamp_min(0)

    def draw_rate(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw a state, and a rate from its Gamma law."""
        level = torch.rand(self.rate.shape, generator=generator, device=self.rate.device)
        state = (level >= self.weights.cumsum(0)[:-1]).sum(0, keepdim=True)
        return GammaPoissonPosterior(self.rates.gather(0, state)[0], self.shape, self.alpha).draw_rate(generator)

    def log_prob(self, missing: Tensor) -> Tensor:
        """Log of the mixed negative-binomial probabilities."""
        laws = torch.stack([law.log_prob(missing) for law in self._laws()])
        return torch.logsumexp(laws + self.weights.clamp_min(MIN_RATE).log(), 0)

    def cdf(self, missing: Tensor) -> Tensor:
        """Mixed negative-binomial distribution functions."""
        return (self.weights * torch.stack([law.cdf(missing) for law in self._laws()])).sum(0).clamp_max(1)

    def with_rate(self, rate: Tensor) -> GammaMixturePosterior:
        """The same states, all of them scaled by one factor."""
        return GammaMixturePosterior(rate, self.states, self.weights, self.shape, self.alpha)

    def where(self, mask: Tensor, other: GammaMixturePosterior) -> GammaMixturePosterior:
        """Choose entry by entry."""
        names = ("rate", "states", "weights", "shape", "alpha")
        return GammaMixturePosterior(*(torch.where(mask, getattr(self, name), getattr(other, name)) for name in names))

    def _laws(self) -> list[GammaPoissonPosterior]:
        """The law of each state."""
        return [GammaPoissonPosterior(rate, self.shape, self.alpha) for rate in self.rates]
