"""Denoisers that know the truth: exact posteriors for laws of counts that are known in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import scipy.stats as st
import torch
from torch import Tensor

from sccountsdiff.process import GammaPoissonPosterior, PoissonPosterior, Posterior, TokenPosterior


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


@dataclass(frozen=True)
class TableOracle:
    """Cells follow a table of joint probabilities: the law of each entry given those seen, by enumeration."""

    cells: Tensor
    probability: Tensor
    keys = ()
    condition_dropout = 0.0

    def __call__(self, x_t: Tensor, alpha: Tensor, condition) -> Posterior:
        agrees = ((self.cells == x_t.unsqueeze(1)) | (alpha.expand_as(x_t) == 0).unsqueeze(1)).all(-1)
        weight = agrees * self.probability
        is_token = torch.nn.functional.one_hot(self.cells.long()).to(x_t.dtype)
        tokens = torch.einsum("nc,cgk->ngk", weight / weight.sum(1, keepdim=True), is_token)
        overflow = torch.zeros_like(tokens[..., :1])
        logits = torch.cat([tokens, overflow], -1).clamp_min(1e-30).log()
        return TokenPosterior(logits, torch.ones_like(x_t), torch.tensor(1.0), alpha)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw cells from the table."""
        return self.cells[torch.multinomial(self.probability, n, replacement=True, generator=generator)]

    def index(self, draws: Tensor) -> Tensor:
        """Row of the table that each cell is."""
        return (self.cells == draws.unsqueeze(1)).all(-1).long().argmax(1)


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
