r"""Posteriors over the missing molecules.

Given what is seen, a denoiser states what it believes about the missing molecules :math:`m = x_0 - x_t` of each
entry. Losses, samplers and guidance see nothing else than the methods of :class:`Posterior`.

Both posteriors here are mixtures of Poisson laws: the *rate* :math:`r` of an entry is the expected count of a fresh,
full measurement of the same cell, and :math:`m \mid r \sim \mathrm{Poisson}((1 - \alpha) r)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self, final

import torch
from torch import Tensor

from sccountsdiff.process._negative_binomial import draw_negative_binomial, quantile_negative_binomial
from sccountsdiff.process._random import gamma, poisson
from sccountsdiff.process._special import incomplete_beta

#: Rates below this are this: keeps log rates finite where a softmax underflows.
MIN_RATE = 1e-12
#: Bisection steps of a quantile search; 2**40 exceeds any count.
_QUANTILE_STEPS = 40


class Posterior(ABC):
    """What a denoiser believes about the missing molecules of each entry.

    Attributes
    ----------
    rate
        Posterior mean of the rate: expected UMI counts of a fresh full measurement, ``(n_cells, n_genes)``.
    alpha
        Survival of the entries, broadcastable to ``rate``.
    """

    rate: Tensor
    alpha: Tensor

    @property
    def mean(self) -> Tensor:
        """Expected missing molecules, ``(1 - alpha) * rate``."""
        return (1 - self.alpha) * self.rate

    @property
    @abstractmethod
    def rate_variance(self) -> Tensor:
        """Posterior variance of the rate."""

    @property
    def variance(self) -> Tensor:
        """Variance of the missing molecules."""
        return self.mean + (1 - self.alpha) ** 2 * self.rate_variance

    def nll(self, missing: Tensor) -> Tensor:
        r"""Poisson (Bregman) loss of each entry: :math:`(1 - \alpha) r - m \log r`.

        Minimised in expectation by the true posterior mean, whatever the form of the posterior.

        Parameters
        ----------
        missing
            Missing molecules, integer-valued floats ``(n_cells, n_genes)``.

        Returns
        -------
        Loss of each entry in nats, up to terms without the rate, ``(n_cells, n_genes)``.

        References
        ----------
        CountsDiff, Alg. 1 (training loss).
        """
        return torch.addcmul(self.mean, missing, torch.log(self.rate + MIN_RATE), value=-1)

    @abstractmethod
    def draw_rate(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw a rate for each entry.

        Parameters
        ----------
        generator
            Source of randomness, on the device of the rates; the global one if None.

        Returns
        -------
        Rates ``(n_cells, n_genes)``.
        """

    def draw(self, generator: torch.Generator | None = None, fraction: Tensor | float = 1.0) -> Tensor:
        """Draw missing molecules.

        Parameters
        ----------
        generator
            Source of randomness, on the device of the rates; the global one if None.
        fraction
            Probability with which each missing molecule shows up, broadcastable to the rates.

        Returns
        -------
        Integer-valued floats ``(n_cells, n_genes)``.
        """
        return poisson((1 - self.alpha) * fraction * self.draw_rate(generator), generator)

    @abstractmethod
    def log_prob(self, missing: Tensor) -> Tensor:
        """Log probability of missing molecules.

        Parameters
        ----------
        missing
            Integer-valued floats, broadcastable to the rates.

        Returns
        -------
        Nats, per entry ``(n_cells, n_genes)``.
        """

    @abstractmethod
    def cdf(self, missing: Tensor) -> Tensor:
        """Probability of at most so many missing molecules.

        Parameters
        ----------
        missing
            Numbers of molecules, broadcastable to the rates; 0 is returned for negative ones.

        Returns
        -------
        Probabilities, per entry ``(n_cells, n_genes)``.
        """

    def quantile(self, level: float) -> Tensor:
        """Smallest number of missing molecules whose :meth:`cdf` reaches a level.

        Parameters
        ----------
        level
            Between 0 and 1, both excluded.

        Returns
        -------
        Integer-valued floats, per entry ``(n_cells, n_genes)``.

        Raises
        ------
        ValueError
            If the level lies outside (0, 1).
        """
        _check_level(level)
        low = torch.full_like(self.rate, -1.0)
        high = (self.mean + 10 * self.variance.sqrt()).ceil() + 1
        while bool((self.cdf(high) < level).any()):
            high = torch.where(self.cdf(high) < level, 2 * high, high)
        for _ in range(_QUANTILE_STEPS):
            if bool((high - low <= 1).all()):
                break
            middle = ((low + high) / 2).floor()
            enough = self.cdf(middle) >= level
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        return high

    def tilt(self, toward: Self, away: Self, scale: float) -> Self:
        r"""Multiply the rate by ``(toward.rate / away.rate) ** scale``: guidance in log rates.

        With ``self = away = null`` this is classifier-free guidance.

        Parameters
        ----------
        toward, away
            Posteriors whose log rates span the direction, usually with and without a condition.
        scale
            How far to go; 0 changes nothing.

        Returns
        -------
        A posterior of the same kind, with the spread of this one.

        References
        ----------
        CountsDiff, section 3.3; Nisonoff et al. 2025.
        """
        log_factor = scale * (toward.rate.clamp_min(MIN_RATE).log() - away.rate.clamp_min(MIN_RATE).log())
        return self.with_rate(self.rate * log_factor.exp())

    @abstractmethod
    def with_rate(self, rate: Tensor) -> Self:
        """The same posterior with another mean rate; the relative spread is kept.

        Parameters
        ----------
        rate
            Mean of the rates, ``(n_cells, n_genes)``.
        """

    @abstractmethod
    def where(self, mask: Tensor, other: Self) -> Self:
        """The same posterior where ``mask``, another one of its kind elsewhere.

        Parameters
        ----------
        mask
            Boolean ``(n_cells, n_genes)``.
        other
            Posterior of the other entries.
        """


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
    """

    def __init__(self, rate: Tensor, shape: Tensor, alpha: Tensor) -> None:
        self.rate = rate
        self.shape = shape
        self.alpha = alpha

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
        mean = self.mean.clamp_min(MIN_RATE)
        cdf = incomplete_beta(self.shape, missing.floor().clamp_min(0) + 1, self.shape / (self.shape + mean))
        return torch.where(missing < 0, 0.0, cdf)

    def draw(self, generator: torch.Generator | None = None, fraction: Tensor | float = 1.0) -> Tensor:
        """Draw from the negative-binomial law."""
        return draw_negative_binomial(self.mean * fraction, self.shape, generator)

    def quantile(self, level: float) -> Tensor:
        """Negative-binomial quantile."""
        _check_level(level)
        return quantile_negative_binomial(torch.tensor(level, device=self.rate.device), self.mean, self.shape)

    def with_rate(self, rate: Tensor) -> GammaPoissonPosterior:
        """Gamma posterior with another mean and the same shape."""
        return GammaPoissonPosterior(rate, self.shape, self.alpha)

    def where(self, mask: Tensor, other: GammaPoissonPosterior) -> GammaPoissonPosterior:
        """Choose entry by entry."""
        return GammaPoissonPosterior(
            torch.where(mask, self.rate, other.rate),
            torch.where(mask, self.shape, other.shape),
            torch.where(mask, self.alpha, other.alpha),
        )


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"A quantile level must lie strictly between 0 and 1, got {level}.")
