"""A conjugate head for genes with outliers."""

from __future__ import annotations

import math
from typing import Any, final

import torch
from torch import Tensor, nn

from sccountsdiff.nets._gene_laws import GeneLaws
from sccountsdiff.nets._heads import FAST, HEADS, DispersedHead
from sccountsdiff.nets._library import GivenTotals, Library
from sccountsdiff.nets._mixture_rate import mixture_rate, outlier_ratio
from sccountsdiff.process import MIN_RATE, GammaMixturePosterior, States

#: Where the outlier state starts: ten times the rate of the bulk in a cell that expresses the gene as on average, odds of 2 %.
_FACTOR, _ODDS = 10.0, 0.02


@HEADS.register("mixture")
@final
class MixtureHead(DispersedHead):
    r"""Conjugate head with an outlier state of each gene.

    .. math:: r_g \sim (1 - \pi_g)\, \mathrm{Gamma}(\theta_g,\; \theta_g / \mu_g) +
              \pi_g\, \mathrm{Gamma}(\theta_g,\; \theta_g / \nu_g), \qquad \nu_g = \kappa_g \sqrt{\mu_g} , \qquad
              \frac{w_g}{1 - w_g} = \frac{\pi_g}{1 - \pi_g}\, \Big(\frac{\nu_g}{\mu_g}\Big)^{x_g}
              \Big(\frac{\theta_g + \alpha_g \mu_g}{\theta_g + \alpha_g \nu_g}\Big)^{\theta_g + x_g} ,

    with the posterior probability :math:`w` of the outlier state given what was seen, and a Gamma law in each state. One
    Gamma law is either narrow or has a tail; real counts can be both, nearly Poisson in most cells and ten times as
    high in one of a hundred. An outlier is neither a multiple of what the bulk expects (where that is much, it would be
    more than any cell has) nor the same in all cells, but half-way in logarithms: so many standard deviations of a
    Poisson law. Level and odds are learned, one each a gene. The states share ``theta``, that of the bulk, so that the odds need no
    special function. Not in the paper.
    """

    def __init__(
        self, n_genes: int, library: Library, dispersion: Tensor | None = None, log_share: Tensor | None = None
    ) -> None:
        super().__init__(n_genes, library, dispersion, log_share)
        self.scaled_log_level = nn.Parameter((math.log(_FACTOR) + self.log_mean / 2) / FAST)
        self.scaled_log_odds = nn.Parameter(torch.full((n_genes,), math.log(_ODDS) / FAST))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if f"{prefix}scaled_log_factor" in state_dict:
            raise ValueError(
                "This model was saved by an earlier version, in which outliers were multiples of the bulk. Train it again, "
                "or load it with the version that saved it."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def scaled_logs(self) -> list[nn.Parameter]:
        """Dispersions, levels and odds."""
        return [self.scaled_log_theta, self.scaled_log_level, self.scaled_log_odds]

    def laws(self) -> GeneLaws:
        """Dispersions, levels and odds, and how dispersions grow."""
        numbers = self.theta.log(), self.log_level, self.log_odds, self.log_growth
        return GeneLaws(*numbers, torch.zeros_like(self.theta), self.log_mean)

    def put(self, genes: Tensor, laws: GeneLaws) -> None:
        """Take over dispersions, levels and odds, and how dispersions grow."""
        self.vary_dispersions()
        numbers = [*self.scaled_logs(), *self.late_scaled_logs()]
        for logs, found in zip(numbers, laws[: len(numbers)], strict=True):
            logs.data[genes] = found / FAST

    @property
    def log_level(self) -> Tensor:
        r"""Logarithm of :math:`\kappa`, the level of the outlier state, ``(n_genes,)``."""
        return (FAST * self.scaled_log_level).clamp(-12, 12)

    @property
    def log_odds(self) -> Tensor:
        """Log odds of the outlier state, ``(n_genes,)``."""
        return (FAST * self.scaled_log_odds).clamp(-8, 8)

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> GammaMixturePosterior:
        """Mixture of two Gamma posteriors of the rates."""
        mu = self.expected(logits, x_t, alpha, given)
        rate = mixture_rate(mu, x_t, alpha, self.dispersion(mu), self.log_level, self.log_odds)
        rate = self.sized.library.match(rate, x_t, alpha, given)
        return GammaMixturePosterior(rate, lambda ratio: self.states(mu, x_t, alpha, ratio), alpha)

    def states(self, mu: Tensor, x_t: Tensor, alpha: Tensor, ratio: Tensor | None = None) -> States:
        """The states that :func:`mixture_rate` averages over.

        Parameters
        ----------
        mu
            Expected counts of the bulk, ``(n_cells, n_genes)``.
        x_t
            Surviving UMI counts, ``(n_cells, n_genes)``.
        alpha
            Survival, broadcastable to ``x_t``.
        ratio
            Factors of what is expected once this was seen, ``(n_cells, n_genes)``, by which outliers and spread change
            (:meth:`~sccountsdiff.process.Posterior.raised`).

        Returns
        -------
        Bulk and outliers; their means lack the factor ``theta + x_t``, which both have.
        """
        theta, above = self.dispersion(mu), outlier_ratio(mu, self.log_level)
        nu, shape = mu * above, theta + x_t
        bulk, outlier = theta + alpha * mu, theta + alpha * nu
        weight = (self.log_odds + x_t * above.log() + shape * (bulk / outlier).log()).sigmoid()
        means, weights = torch.stack([mu / bulk, nu / outlier]), torch.stack([1 - weight, weight])
        if ratio is None:
            return States(means, weights, shape)
        power = (theta / self.dispersion(mu * ratio)).sqrt()
        expected = torch.stack([mu, nu])  # outliers of expectations that rise a hundredfold rise tenfold
        risen = expected * torch.stack([ratio, ratio.sqrt()]) * (shape * means / expected.clamp_min(MIN_RATE)) ** power
        return States(risen / shape, weights, shape / power**2)
