r"""Heads: from one logit per gene to a posterior over the missing molecules.

The default head combines two ideas. The rates of a cell are shares of expression times the size of the cell
(:class:`SizedSoftmax`), and what was seen of a gene enters its posterior in closed form (:class:`ConjugateHead`): a
bottleneck cannot carry every gene's own count, conjugacy does it with one parameter per gene.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sccountsdiff.nets._inputs import seen_share
from sccountsdiff.process import GammaPoissonPosterior, PoissonPosterior, Posterior, Registry

HEADS: Registry[Head] = Registry("head")

#: log theta moves this many times faster than the other parameters (one shared learning rate would leave it behind).
_LOG_THETA_SPEED = 20.0
#: Molecules of doubt about the total that a given library size leaves.
_TOTAL_PRIOR = 10.0


def fast_positive(scaled_log: Tensor) -> Tensor:
    """A positive parameter of each gene from its scaled logarithm, which an optimiser moves twenty times as fast."""
    return (_LOG_THETA_SPEED * scaled_log).clamp(-12, 12).exp()


def log_gene_share(n_genes: int, gene_mean: Tensor | None) -> Tensor:
    """Log share of each gene in the training cells ``(n_genes,)``, where the logits of a network start."""
    mean = torch.ones(n_genes) if gene_mean is None else gene_mean.float()
    floor = 1e-3 * mean.mean().clamp_min(1e-9)  # a gene without a molecule keeps a small share
    return ((mean + floor) / (mean + floor).sum()).log()


class Head(nn.Module, ABC):
    """Last layer of a denoiser.

    Attributes
    ----------
    n_outputs
        Outputs of the network for each gene: 1, a logit, unless a head says otherwise.

    Parameters
    ----------
    n_genes
        Number of genes.
    library_mean
        Mean library size of the training cells, in UMI counts.
    """

    n_outputs: int = 1

    @abstractmethod
    def __init__(self, n_genes: int, library_mean: float) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, library: Tensor | None) -> Posterior:
        """Posterior from logits ``(n_cells, n_outputs * n_genes)``, the first of all genes first.

        ``library`` are UMI totals ``(n_cells,)``, NaN or None where unknown.
        """


@final
class SizedSoftmax(nn.Module):
    r"""Expected counts :math:`\mu = \mathrm{size} \cdot \mathrm{softmax}(\mathrm{logits})`.

    The size is the library size where that is given. Else it is estimated from what was seen, as the posterior mean of
    a Gamma(a, a / library_mean) size: :math:`(a + \sum_g x_g) / (a / \bar L + \sum_g \alpha_g \pi_g)`.

    Parameters
    ----------
    library_mean
        Mean library size of the training cells, in UMI counts.
    """

    library_mean: Tensor

    def __init__(self, library_mean: float) -> None:
        super().__init__()
        self.register_buffer("library_mean", torch.tensor(float(library_mean)))
        self.log_a = nn.Parameter(torch.tensor(math.log(5.0)))

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, library: Tensor | None) -> Tensor:
        """Expected counts of a full measurement, ``(n_cells, n_genes)``."""
        share = logits.float().softmax(-1)
        a = self.log_a.exp()
        size = (a + x_t.sum(-1)) / (a / self.library_mean + seen_share(alpha, share.detach()))
        if library is not None:
            size = torch.where(library.isnan(), size, library.nan_to_num(1.0))
        return share * size.unsqueeze(-1)


def match_library(rate: Tensor, x_t: Tensor, alpha: Tensor, library: Tensor | None) -> Tensor:
    r"""Rescale the rates of a cell so that its missing molecules add up to what the library size leaves.

    With :math:`M = L - \sum_g x_g` missing in truth and :math:`\hat M = \sum_g (1 - \alpha_g) r_g` expected, the rates
    are multiplied by :math:`(a + M) / (a + \hat M)`, a = 10 molecules: near alpha = 1 the total says nothing of rates.
    Cells of unknown library size keep theirs.

    Parameters
    ----------
    rate
        Rates, ``(n_cells, n_genes)``.
    x_t
        Surviving UMI counts, ``(n_cells, n_genes)``.
    alpha
        Survival, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.
    library
        UMI totals ``(n_cells,)``, NaN or None where unknown.

    Returns
    -------
    Rates, ``(n_cells, n_genes)``.
    """
    if library is None:
        return rate
    expected = torch.linalg.vecdot((1 - alpha).expand_as(rate), rate)
    missing = (library.nan_to_num(0.0) - x_t.sum(-1)).clamp_min(0)
    factor = (_TOTAL_PRIOR + missing) / (_TOTAL_PRIOR + expected)
    return rate * torch.where(library.isnan(), 1.0, factor).unsqueeze(-1)


@HEADS.register("conjugate")
@final
class ConjugateHead(Head):
    r"""Gamma-Poisson head: the rate has a Gamma(theta, theta / mu) prior, updated by what was seen.

    .. math:: r_g \mid x_g \sim \mathrm{Gamma}(\theta_g + x_g,\; \theta_g / \mu_g + \alpha_g), \qquad
              \mathrm{E}\, r_g = \mu_g \frac{\theta_g + x_g}{\theta_g + \alpha_g \mu_g} .

    ``mu`` is the network's mean, ``theta`` one learned dispersion per gene. The missing molecules are negative
    binomial. Not in the paper, which plugs in a mean without spread. Rates are then rescaled to the library size where
    that is given (:func:`match_library`).
    """

    def __init__(self, n_genes: int, library_mean: float) -> None:
        super().__init__(n_genes, library_mean)
        self.sized = SizedSoftmax(library_mean)
        self.scaled_log_theta = nn.Parameter(torch.zeros(n_genes))

    @property
    def theta(self) -> Tensor:
        """Dispersion of each gene, ``(n_genes,)``."""
        return fast_positive(self.scaled_log_theta)

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, library: Tensor | None) -> GammaPoissonPosterior:
        """Gamma posterior of the rates."""
        mu = self.sized(logits, x_t, alpha, library)
        shape = self.theta + x_t
        rate = mu * shape / torch.addcmul(self.theta, alpha, mu)
        return GammaPoissonPosterior(match_library(rate, x_t, alpha, library), shape, alpha)


@HEADS.register("poisson")
@final
class PoissonHead(Head):
    """Poisson head: the network's mean is the rate."""

    def __init__(self, n_genes: int, library_mean: float) -> None:
        super().__init__(n_genes, library_mean)
        self.sized = SizedSoftmax(library_mean)

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, library: Tensor | None) -> PoissonPosterior:
        """Poisson posterior."""
        rate = self.sized(logits, x_t, alpha, library)
        return PoissonPosterior(match_library(rate, x_t, alpha, library), alpha)


@HEADS.register("softplus")
@final
class SoftplusHead(Head):
    """The paper's head: softplus of the logit is the expected number of missing molecules (CountsDiff, section 3.2).

    It knows neither library size nor survival except through the network's inputs.
    """

    def __init__(self, n_genes: int, library_mean: float) -> None:
        super().__init__(n_genes, library_mean)

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, library: Tensor | None) -> PoissonPosterior:
        """Poisson posterior."""
        # The rate of an entry that is (almost) wholly seen is not identified by its missing molecules.
        return PoissonPosterior(F.softplus(logits.float()) / (1 - alpha).clamp_min(1e-3), alpha)
