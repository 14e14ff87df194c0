r"""Posteriors over the missing molecules.

Given what is seen, a denoiser states what it believes about the missing molecules :math:`m = x_0 - x_t` of each
entry. Losses, samplers and guidance see nothing else than the methods of :class:`Posterior`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor

from sccountsdiff.process._random import poisson

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
        check_level(level)
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

    def raised(self, ratio: Tensor) -> Self:
        r"""The posterior of the same entries where so many times as much is expected.

        By default rates are multiplied, and the relative spread is kept. Laws that know how the dispersion :math:`\theta`
        depends on what is expected have that of what is expected then, :math:`\theta'`: how far a rate is from what is
        expected, and how sure that is, changes by the power :math:`\sqrt{\theta / \theta'}`, the ratio of the widths.

        Parameters
        ----------
        ratio
            Positive factors of what is expected, ``(n_cells, n_genes)``.

        Returns
        -------
        A posterior of the same kind and survival.
        """
        return self.with_rate(self.rate * ratio)

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


def check_level(level: float) -> None:
    """Refuse a quantile level outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"A quantile level must lie strictly between 0 and 1, got {level}.")
