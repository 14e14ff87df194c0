"""Denoisers that know the truth: exact posteriors for laws of counts that are known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import scipy.stats as st
import torch
from torch import Tensor

from sccountsdiff.process import GammaPoissonPosterior, PoissonPosterior, Posterior


@dataclass(frozen=True)
class PointMassOracle:
    """Every count is ``count``."""

    count: int
    keys = ()
    condition_dropout = 0.0

    def __call__(self, x_t: Tensor, alpha: Tensor, condition) -> Posterior:
        return PoissonPosterior((self.count - x_t) / (1 - alpha).clamp_min(1e-7), alpha)

    @property
    def law(self):
        return st.rv_discrete(values=([self.count], [1.0]))


@dataclass(frozen=True)
class PoissonOracle:
    """Counts are Poisson with mean ``mean``: what is missing does not depend on what is seen."""

    mean: float
    keys = ()
    condition_dropout = 0.0

    def __call__(self, x_t: Tensor, alpha: Tensor, condition) -> Posterior:
        return PoissonPosterior(torch.full_like(x_t, self.mean), alpha)

    @property
    def law(self):
        return st.poisson(self.mean)


@dataclass(frozen=True)
class NegativeBinomialOracle:
    """Counts are negative binomial: Gamma(theta, theta / mu) rates, updated by what is seen."""

    mu: float
    theta: float
    keys = ()
    condition_dropout = 0.0

    def __call__(self, x_t: Tensor, alpha: Tensor, condition) -> Posterior:
        shape = self.theta + x_t
        return GammaPoissonPosterior(shape / (self.theta / self.mu + alpha), shape, alpha)

    @property
    def law(self):
        return st.nbinom(self.theta, self.theta / (self.theta + self.mu))


@dataclass(frozen=True)
class SharedRateOracle:
    """Genes of a cell are Poisson with one Gamma(theta, theta / mu) rate in common: every gene tells of every other."""

    mu: float
    theta: float
    keys = ()
    condition_dropout = 0.0

    def __call__(self, x_t: Tensor, alpha: Tensor, condition) -> Posterior:
        shape = self.theta + x_t.sum(-1, keepdim=True)
        rate = shape / (self.theta / self.mu + alpha.expand_as(x_t).sum(-1, keepdim=True))
        return GammaPoissonPosterior(rate.expand_as(x_t), shape, alpha)


def chi_square_p(draws: Tensor, law) -> float:
    """P value of the draws under ``law``, over cells of at least 10 expected draws."""
    n = draws.numel()
    edges, expected, low = [], [], -1
    while law.sf(low) * n >= 10:
        high = low + 1
        while (law.cdf(high) - law.cdf(low)) * n < 10:
            high += 1
        if law.sf(high) * n < 10:
            high = 10**9
        edges.append((low, high))
        expected.append(n * (law.cdf(high) - law.cdf(low)))
        low = high
    observed = [((draws > low) & (draws <= high)).sum().item() for low, high in edges]
    return st.chisquare(observed, expected, sum_check=False).pvalue
