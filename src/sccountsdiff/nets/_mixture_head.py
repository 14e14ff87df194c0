"""A conjugate head for genes with outliers."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from sccountsdiff.nets._heads import FAST, HEADS, DispersedHead
from sccountsdiff.nets._library import GivenTotals, Library
from sccountsdiff.nets._mixture_rate import mixture_rate
from sccountsdiff.process import GammaMixturePosterior, States

#: Where the outlier state starts: ten times the rate of the bulk, 2 % of its odds.
_FACTOR, _ODDS = 10.0, 0.02


@HEADS.register("mixture")
@final
class MixtureHead(DispersedHead):
    r"""Conjugate head with an outlier state of each gene, in which its rate is :math:`c_g` times that of the bulk.

    .. math:: r_g \sim (1 - \pi_g)\, \mathrm{Gamma}(\theta_g,\; \theta_g / \mu_g) +
              \pi_g\, \mathrm{Gamma}(\theta_g,\; \theta_g / (c_g \mu_g)), \qquad
              \frac{w_g}{1 - w_g} = \frac{\pi_g}{1 - \pi_g}\, c_g^{x_g}
              \Big(\frac{\theta_g + \alpha_g \mu_g}{\theta_g + \alpha_g c_g \mu_g}\Big)^{\theta_g + x_g} ,

    with the posterior probability :math:`w` of the outlier state given what was seen, and a Gamma law in each state. One
    Gamma law is either narrow or has a tail; real counts can be both, nearly Poisson in most cells and ten times as
    high in one of a hundred. Factor and odds are learned, one each a gene. The states share ``theta``, so that the
    odds need two logarithms and no special function. Not in the paper.
    """

    def __init__(self, n_genes: int, library: Library, dispersion: Tensor | None = None) -> None:
        super().__init__(n_genes, library, dispersion)
        self.scaled_log_factor = nn.Parameter(torch.full((n_genes,), math.log(_FACTOR) / FAST))
        self.scaled_log_odds = nn.Parameter(torch.full((n_genes,), math.log(_ODDS) / FAST))

    def scaled_logs(self) -> list[nn.Parameter]:
        """Dispersions, factors and odds."""
        return [self.scaled_log_theta, self.scaled_log_factor, self.scaled_log_odds]

    @property
    def log_factor(self) -> Tensor:
        """Log rate of the outlier state over that of the bulk, ``(n_genes,)``."""
        return (FAST * self.scaled_log_factor).clamp(-8, 8)

    @property
    def log_odds(self) -> Tensor:
        """Log odds of the outlier state, ``(n_genes,)``."""
        return (FAST * self.scaled_log_odds).clamp(-8, 8)

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> GammaMixturePosterior:
        """Mixture of two Gamma posteriors of the rates."""
        mu, theta = self.expected(logits, x_t, alpha, given), self.theta
        rate = mixture_rate(mu, x_t, alpha, theta, self.log_factor, self.log_odds)
        rate = self.sized.library.match(rate, x_t, alpha, given)
        return GammaMixturePosterior(rate, lambda: self.states(mu, x_t, alpha), alpha)

    def states(self, mu: Tensor, x_t: Tensor, alpha: Tensor) -> States:
        """The states that :func:`mixture_rate` averages over.

        Parameters
        ----------
        mu
            Expected counts of the bulk, ``(n_cells, n_genes)``.
        x_t
            Surviving UMI counts, ``(n_cells, n_genes)``.
        alpha
            Survival, broadcastable to ``x_t``.

        Returns
        -------
        Bulk and outliers; their means lack the factor ``mu * (theta + x_t)``, which both have.
        """
        theta, factor = self.theta, self.log_factor.exp()
        bulk, outlier, shape = theta + alpha * mu, theta + factor * alpha * mu, theta + x_t
        weight = (self.log_odds + x_t * self.log_factor + shape * (bulk / outlier).log()).sigmoid()
        return States(torch.stack([1 / bulk, factor / outlier]), torch.stack([1 - weight, weight]), shape)
