r"""The head of a token model: a law of any shape over small counts."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from sccountsdiff.nets._heads import HEADS, DispersedHead, fast_positive
from sccountsdiff.nets._library import GivenTotals, Library
from sccountsdiff.process import TokenPosterior


@HEADS.register("tokens")
@final
class TokenHead(DispersedHead):
    r"""Token head: a negative binomial, corrected count by count.

    .. math:: \log p_{gk} = \log \mathrm{NB}(k;\, \mu_g, \theta_g) + b_{gk} + \textstyle\sum_j z_{gj} w_{jk}
              + \mathrm{const}, \qquad k = 0, \dots, K - 1, \text{“K or more”}

    The network gives the expected counts :math:`\mu` (shares of expression times the size of the cell, as in the other
    heads, so that the library size is obeyed) and features z of each gene; the table b and the features' shape w are
    learned. Counts beyond K carry on as a negative binomial of mean :math:`\mu_g` times a learned factor.

    The paper's head is the last term alone, with as many features as the network is wide. Started from a negative
    binomial one feature does, and counts that were never seen get a sensible probability.

    References
    ----------
    DCM (Bhattacharya et al. 2026), section 2.
    """

    #: Counts with a token of their own: 0 to 15. Memory of a batch grows with it.
    N_EXPLICIT = 16
    #: Features of the law of each gene that the network sets freely, beside the mean.
    N_FEATURES = 1
    n_outputs = 1 + N_FEATURES
    numbers_per_entry = 8 * (N_EXPLICIT + 1)

    count: Tensor

    def __init__(
        self, n_genes: int, library: Library, dispersion: Tensor | None = None, log_share: Tensor | None = None
    ) -> None:
        super().__init__(n_genes, library, dispersion, log_share)
        self.register_buffer("count", torch.arange(self.N_EXPLICIT + 1.0))
        self.scaled_log_tail_size = nn.Parameter(torch.zeros(n_genes))
        self.log_tail_factor = nn.Parameter(torch.zeros(n_genes))
        self.gene_table = nn.Parameter(torch.zeros(n_genes, self.N_EXPLICIT + 1))
        # The last output moves the mean of the tail.
        self.shape = nn.Linear(self.N_FEATURES, self.N_EXPLICIT + 2, bias=False)
        nn.init.normal_(self.shape.weight, std=0.1)

    def scaled_log_dispersion(self) -> nn.Parameter | None:
        """None: the law of small counts is learned count by count."""
        return None

    def late_scaled_logs(self) -> list[nn.Parameter]:
        """None, either."""
        return []

    def scaled_logs(self) -> list[nn.Parameter]:
        """None, for the same reason."""
        return []

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> TokenPosterior:
        """Law of the count of each gene."""
        _, *features = logits.float().chunk(self.n_outputs, -1)
        mu = self.sized.library.match(self.expected(logits, x_t, alpha, given), x_t, alpha, given)
        shift = self.shape(torch.stack(features, -1)).float()
        tokens = self._negative_binomial(mu) + self.gene_table + shift[..., :-1]
        tail_mean = mu * (self.log_tail_factor + shift[..., -1]).clamp(-8, 8).exp()
        return TokenPosterior(tokens, tail_mean, fast_positive(self.scaled_log_tail_size), alpha)

    def _negative_binomial(self, mu: Tensor) -> Tensor:
        """Log probabilities of the counts 0 to K - 1 and of K or more, ``(n_cells, n_genes, K + 1)``."""
        theta, k = self.theta, self.count
        size = theta.unsqueeze(-1)
        weight = torch.lgamma(k + size) - torch.lgamma(size) - torch.lgamma(k + 1)
        log_total = (mu + theta).log()
        log_failure = theta * (theta.log() - log_total)
        log_mass = weight + log_failure.unsqueeze(-1) + k * (mu.log() - log_total).unsqueeze(-1)
        below = log_mass[..., :-1].exp().sum(-1)
        # What is left for the tail drowns in rounding where it is tiny; there its first term stands for it.
        beyond = torch.maximum(1 - below, log_mass[..., -1].exp()).clamp_min(1e-30).log()
        return torch.cat([log_mass[..., :-1], beyond.unsqueeze(-1)], -1)
