"""A conjugate head for genes with outliers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from sccountsdiff.nets._heads import FAST, HEADS, Head, SizedSoftmax, fast_positive
from sccountsdiff.nets._library import GivenTotals, Library
from sccountsdiff.process import GammaMixturePosterior

#: Where the learned states start: ten times and a seventh of the bulk's rate, 2 % of its odds.
_FACTORS, _ODDS = (10.0, 1 / 7), 0.02


@HEADS.register("mixture")
@final
class MixtureHead(Head):
    r"""Conjugate head with states of each gene: in state k the rate is :math:`c_k` times that of the bulk.

    .. math:: r_g \sim \sum_k \pi_{gk}\, \mathrm{Gamma}(\theta_g,\; \theta_g / (c_{gk} \mu_g)), \quad c_{g0} = 1, \qquad
              w_{gk} \propto \pi_{gk}\, c_{gk}^{x_g}\, (\theta_g + \alpha_g c_{gk} \mu_g)^{-(\theta_g + x_g)} ,

    with the posterior weights :math:`w` of the states given what was seen, and a Gamma(theta + x, theta / (c mu) +
    alpha) law in each. One Gamma law is either narrow or has a tail; real counts can be both, nearly Poisson in most
    cells and ten times as high in one of a hundred. Factors and odds are learned, one each a gene and state. States
    share ``theta``, so that a weight needs one logarithm and no special function. Not in the paper.
    """

    def __init__(self, n_genes: int, library: Library) -> None:
        super().__init__(n_genes, library)
        self.sized = SizedSoftmax(library)
        self.scaled_log_theta = nn.Parameter(torch.zeros(n_genes))
        self.scaled_log_factor = nn.Parameter(_start(_FACTORS, n_genes))
        self.scaled_log_odds = nn.Parameter(_start([_ODDS] * len(_FACTORS), n_genes))

    @property
    def theta(self) -> Tensor:
        """Dispersion of each gene within a state, ``(n_genes,)``."""
        return fast_positive(self.scaled_log_theta)

    @property
    def log_factor(self) -> Tensor:
        """Log rate of each state over that of the bulk, the first, ``(K, 1, n_genes)``."""
        return _with_bulk(self.scaled_log_factor)

    @property
    def log_odds(self) -> Tensor:
        """Log probability of each state over that of the bulk, the first, ``(K, 1, n_genes)``."""
        return _with_bulk(self.scaled_log_odds)

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> GammaMixturePosterior:
        """Mixture of Gamma posteriors of the rates."""
        mu = self.sized(logits, x_t, alpha, given)
        shape, log_factor = self.theta + x_t, self.log_factor
        scale = torch.addcmul(self.theta, log_factor.exp(), alpha * mu)
        evidence = torch.addcmul(self.log_odds, x_t, log_factor)
        weights = torch.addcmul(evidence, shape, scale.log(), value=-1).softmax(0)
        states = log_factor.exp() / scale
        rate = mu * shape * (weights * states).sum(0)
        return GammaMixturePosterior(self.sized.library.match(rate, x_t, alpha, given), states, weights, shape, alpha)


def _start(values: Sequence[float], n_genes: int) -> Tensor:
    """Scaled logarithms, the same for each gene, ``(len(values), n_genes)``."""
    return torch.tensor([[math.log(value) / FAST] for value in values]).repeat(1, n_genes)


def _with_bulk(scaled: Tensor) -> Tensor:
    """Logarithms of all states; that of the bulk is 0."""
    return nn.functional.pad((FAST * scaled).clamp(-8, 8), (0, 0, 1, 0)).unsqueeze(1)
