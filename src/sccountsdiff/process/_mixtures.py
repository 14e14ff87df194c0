"""A posterior whose rate is in one of a few states: the bulk, outliers, nearly silent."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.process._negative_binomial import quantile_negative_binomial
from sccountsdiff.process._posterior import MIN_RATE, Posterior, check_level
from sccountsdiff.process._rates import GammaPoissonPosterior


class States(NamedTuple):
    """States that a rate may be in.

    Parameters
    ----------
    means
        Mean of the rate in each state, up to a factor of the entry, ``(K, n_cells, n_genes)``.
    weights
        Probability of each state, ``(K, n_cells, n_genes)``; they add up to 1.
    shape
        Shape of the Gamma law in each of them, broadcastable to ``(n_cells, n_genes)``.
    """

    means: Tensor
    weights: Tensor
    shape: Tensor

    def multiplied(self, ratio: Tensor | None) -> States:
        """The same spread around a multiple of the means.

        Parameters
        ----------
        ratio
            Factors ``(n_cells, n_genes)``; None is 1.

        Returns
        -------
        Means times the factors, weights and shape.
        """
        return self if ratio is None else self._replace(means=self.means * ratio)

    def where(self, mask: Tensor, other: States) -> States:
        """Choose entry by entry.

        Parameters
        ----------
        mask
            Boolean ``(n_cells, n_genes)``; True keeps these states.
        other
            States of the other entries.

        Returns
        -------
        Means, weights and shape of either.
        """
        return States(*(torch.where(mask, mine, others) for mine, others in zip(self, other, strict=True)))


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
        Gives the states when they are asked for: losses and walks look at the mean alone. Their means are scaled to
        ``rate``. It is called with None, or with factors by which another number of molecules is expected.
    alpha
        Survival, broadcastable to ``rate``.
    """

    def __init__(self, rate: Tensor, states: Callable[[Tensor | None], States], alpha: Tensor) -> None:
        self.rate = rate
        self.alpha = alpha
        self._give_states = states

    @cached_property
    def _given(self) -> States:
        """The states at the scale at which they are given."""
        return self._give_states(None)

    @cached_property
    def states(self) -> States:
        """The states, their means scaled to the rate."""
        means, weights, shape = self._given
        return States(means * (self.rate / (weights * means).sum(0).clamp_min(MIN_RATE)), weights, shape)

    @property
    def rate_variance(self) -> Tensor:
        """Variance within states and between them."""
        square = (self.states.weights * self.states.means**2).sum(0)
        return (square * (1 + 1 / self.states.shape) - self.rate**2).clamp_min(0)

    def draw_rate(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw a state, and a rate from its Gamma law."""
        level = torch.rand(self.rate.shape, generator=generator, device=self.rate.device)
        state = (level >= self.states.weights.cumsum(0)[:-1]).sum(0, keepdim=True)
        rate = self.states.means.gather(0, state)[0]
        return GammaPoissonPosterior(rate, self.states.shape, self.alpha).draw_rate(generator)

    def log_prob(self, missing: Tensor) -> Tensor:
        """Log of the mixed negative-binomial probabilities."""
        laws = torch.stack([law.log_prob(missing) for law in self._laws()])
        return torch.logsumexp(laws + self.states.weights.clamp_min(MIN_RATE).log(), 0)

    def cdf(self, missing: Tensor) -> Tensor:
        """Mixed negative-binomial distribution functions."""
        return (self.states.weights * torch.stack([law.cdf(missing) for law in self._laws()])).sum(0).clamp_max(1)

    def quantile(self, level: float) -> Tensor:
        """Quantile of the mixed negative binomials."""
        check_level(level)
        means = (1 - self.alpha) * self.states.means
        return quantile_negative_binomial(level, self.states.weights, means, self.states.shape)

    def with_rate(self, rate: Tensor) -> GammaMixturePosterior:
        """The same states, all of them scaled by one factor."""
        return GammaMixturePosterior(rate, self._give_states, self.alpha)

    def raised(self, ratio: Tensor) -> GammaMixturePosterior:
        """The same states, with means and spread of what is expected then."""
        now, then = self._given, self._give_states(ratio)
        rate = self.rate * (then.weights * then.means).sum(0) / (now.weights * now.means).sum(0).clamp_min(MIN_RATE)
        return GammaMixturePosterior(rate, then.multiplied, self.alpha)

    def where(self, mask: Tensor, other: GammaMixturePosterior) -> GammaMixturePosterior:
        """Choose entry by entry."""
        return GammaMixturePosterior(
            torch.where(mask, self.rate, other.rate),
            lambda ratio: self._at(ratio).where(mask, other._at(ratio)),
            torch.where(mask, self.alpha, other.alpha),
        )

    def _at(self, ratio: Tensor | None) -> States:
        """The states, their means scaled to the rate, where a multiple is expected."""
        return self.states if ratio is None else self.raised(ratio).states

    def _laws(self) -> list[GammaPoissonPosterior]:
        """The law of each state."""
        return [GammaPoissonPosterior(mean, self.states.shape, self.alpha) for mean in self.states.means]
