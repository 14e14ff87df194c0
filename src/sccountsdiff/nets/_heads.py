r"""Heads: from one logit per gene to a posterior over the missing molecules.

The default head combines two ideas. The rates of a cell are shares of expression times the size of the cell
(:class:`SizedSoftmax`), and what was seen of a gene enters its posterior in closed form (:class:`ConjugateHead`): a
bottleneck cannot carry every gene's own count, conjugacy does it with one parameter per gene.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sccountsdiff.nets._dispersion import dispersion_at
from sccountsdiff.nets._gene_laws import GeneLaws
from sccountsdiff.nets._library import GivenTotals, Library
from sccountsdiff.process import GammaPoissonPosterior, PoissonPosterior, Posterior, Registry

HEADS: Registry[Head] = Registry("head")

#: Logarithms of one number a gene move this many times faster than the other parameters (one shared learning rate would
#: leave them behind).
FAST = 20.0


def fast_positive(scaled_log: Tensor) -> Tensor:
    """A positive parameter of each gene from its scaled logarithm, which an optimiser moves twenty times as fast."""
    return (FAST * scaled_log).clamp(-12, 12).exp()


class Head(nn.Module, ABC):
    """Last layer of a denoiser.

    Parameters
    ----------
    n_genes
        Number of genes.
    library
        What the library sizes count.
    dispersion
        Dispersion of each gene to start from ``(n_genes,)``; None is 1. Of no use to heads without a dispersion.
    log_share
        Log share of each gene in the training cells (:meth:`Library.log_share`); None is equal shares. Of no use to heads
        without outliers.
    """

    #: Outputs of the network for each gene: 1, a logit, unless a head says otherwise.
    n_outputs: int = 1
    #: Numbers that a pass keeps for each entry, roughly.
    numbers_per_entry: int = 32

    @abstractmethod
    def __init__(
        self, n_genes: int, library: Library, dispersion: Tensor | None = None, log_share: Tensor | None = None
    ) -> None:
        super().__init__()

    def scaled_log_dispersion(self) -> nn.Parameter | None:
        """Logarithm of the dispersion of each gene, divided by :data:`FAST`; None without one to calibrate."""
        return None

    def late_scaled_logs(self) -> list[nn.Parameter]:
        """What a gene has of its own besides: left as it is in the epochs of a training, and learned at its end.

        Returns
        -------
        Logarithms divided by :data:`FAST`, ``(n_genes,)`` each; none by default.
        """
        return []

    def vary_dispersions(self) -> None:
        """Let dispersions depend on what is expected, from now on, as :meth:`late_scaled_logs` say; none do by default."""

    def scaled_logs(self) -> list[nn.Parameter]:
        """What each gene has of its own, whatever the network says: fitted once more at the end of a training.

        Returns
        -------
        Logarithms divided by :data:`FAST`, ``(n_genes,)`` each; none by default.
        """
        return []

    def laws(self) -> GeneLaws | None:
        """Laws of the genes in two states; None for heads whose laws have one.

        Returns
        -------
        Numbers of each gene, ``(n_genes,)`` each, without a shift.
        """
        return None

    def put(self, genes: Tensor, laws: GeneLaws) -> None:
        """Take over laws of some genes; a head without :meth:`laws` has nothing to take over.

        Parameters
        ----------
        genes
            Numbers of the genes, ``(n,)``.
        laws
            Their laws, ``(n,)`` each; a shift is not the head's.
        """

    @abstractmethod
    def expected(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> Tensor:
        """Expected counts of a full measurement by what the network says, the gene's own count left aside.

        Parameters
        ----------
        logits
            Outputs of the network ``(n_cells, n_outputs * n_genes)``, the first of all genes first.
        x_t
            Surviving UMI counts, ``(n_cells, n_genes)``.
        alpha
            Survival, broadcastable to ``x_t``.
        given
            Library sizes.

        Returns
        -------
        ``(n_cells, n_genes)``.
        """

    @abstractmethod
    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> Posterior:
        """Posterior from logits ``(n_cells, n_outputs * n_genes)``, the first of all genes first."""


@final
class SizedSoftmax(nn.Module):
    r"""Expected counts :math:`\mu = \mathrm{size} \cdot \mathrm{softmax}(\mathrm{logits})`.

    The size is the library size where that is given. Else it is estimated from what was seen, as the posterior mean of
    a Gamma(a, a / L) size: :math:`(a + \sum_g x_g) / (a / L + \sum_g \alpha_g \pi_g)`, where the size L expected
    beforehand is the mean over cells, or what the network says of a group (:meth:`Library.expected`). A library size
    that counts a part of the genes is such a sight itself, with survival 1 for these genes.

    Parameters
    ----------
    library
        What the library sizes count.
    """

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.library = library
        self.log_a = nn.Parameter(torch.full((library.n_groups,), math.log(5.0)))

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> Tensor:
        """Expected counts of a full measurement, ``(n_cells, n_genes)``."""
        logits = logits.float()
        share, prior = self.library.softmax(logits), self.library.expected(logits)
        size = self._estimate(self.library.total(x_t), alpha, share.detach(), prior)
        if given is not None:
            size = torch.where(given.total.isnan(), size, self._from(given, share, prior))
        return share * self.library.spread(size)

    def _estimate(self, molecules: Tensor, alpha: Tensor, share: Tensor, prior: Tensor) -> Tensor:
        a = self.log_a.exp()
        return (a + molecules) / (a / prior + self.library.seen_share(alpha, share))

    def _from(self, given: GivenTotals, share: Tensor, prior: Tensor) -> Tensor:
        """Size of a full measurement ``(n_cells, n_groups)`` from the library size."""
        total = given.total.nan_to_num(1.0)
        if given.measured is None:
            return total
        measured = given.measured.to(share.dtype)
        return torch.where(self.library.least(measured) > 0, total, self._estimate(total, measured, share, prior))


class SharesHead(Head):
    """A head whose expected counts are shares of expression times the size of the cell."""

    def __init__(
        self, n_genes: int, library: Library, dispersion: Tensor | None = None, log_share: Tensor | None = None
    ) -> None:
        super().__init__(n_genes, library)
        self.sized = SizedSoftmax(library)

    def expected(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> Tensor:
        """Shares of expression times the size of the cell; of several outputs of a gene the first are the logits."""
        return self.sized(logits.chunk(self.n_outputs, -1)[0], x_t, alpha, given)


class DispersedHead(SharesHead):
    r"""Such a head with a dispersion of each gene, learned from where it starts.

    From :meth:`vary_dispersions` on it depends on what is expected of the gene in a cell,

    .. math:: \theta_g(\mu) = \theta_g\, (\mu / m_g)^{\eta_g} ,

    with the mean :math:`m_g` over the training cells. A marker varies much among cells that express it now and then, and
    little among those of the type that it marks. In the epochs of a training all :math:`\eta` are 0, which takes less
    time.
    """

    log_mean: Tensor

    def __init__(
        self, n_genes: int, library: Library, dispersion: Tensor | None = None, log_share: Tensor | None = None
    ) -> None:
        super().__init__(n_genes, library)
        start = torch.zeros(n_genes) if dispersion is None else dispersion.float().log() / FAST
        self.scaled_log_theta = nn.Parameter(start)
        self.scaled_log_growth = nn.Parameter(torch.zeros(n_genes), requires_grad=False)
        self.varies = False
        share = torch.full((n_genes,), 1 / n_genes) if log_share is None else log_share.float().exp()
        self.register_buffer("log_mean", (share * library.spread(library.mean.unsqueeze(0)).squeeze(0)).log())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Of models of earlier versions no dispersion varies."""
        state_dict.setdefault(f"{prefix}log_mean", self.log_mean)
        growth = state_dict.setdefault(f"{prefix}scaled_log_growth", torch.zeros_like(self.scaled_log_growth))
        self.varies = bool(growth.any())
        super()._load_from_state_dict(state_dict, prefix, *args)

    def late_scaled_logs(self) -> list[nn.Parameter]:
        r"""Logarithms of :math:`10^\eta`."""
        return [self.scaled_log_growth]

    def vary_dispersions(self) -> None:
        r"""Let dispersions depend on what is expected from now on: less time is taken as long as :math:`\eta` is 0."""
        self.varies = True

    @property
    def theta(self) -> Tensor:
        """Dispersion of each gene where its mean is expected, ``(n_genes,)``."""
        return fast_positive(self.scaled_log_theta)

    @property
    def log_growth(self) -> Tensor:
        r"""Logarithm of :math:`10^\eta`, ``(n_genes,)``: 0 as long as no dispersion varies."""
        return FAST * self.scaled_log_growth if self.varies else torch.zeros_like(self.scaled_log_growth)

    def dispersion(self, mu: Tensor) -> Tensor:
        """Dispersion where so much is expected.

        Parameters
        ----------
        mu
            Expected counts, ``(n_cells, n_genes)``.

        Returns
        -------
        ``(n_genes,)``, or ``(n_cells, n_genes)`` if it depends on them.
        """
        if not self.varies:
            return self.theta
        return dispersion_at(mu, FAST * self.scaled_log_theta, self.log_growth, self.log_mean)

    def scaled_log_dispersion(self) -> nn.Parameter | None:
        """Logarithm of the dispersion of each gene, divided by :data:`FAST`."""
        return self.scaled_log_theta

    def scaled_logs(self) -> list[nn.Parameter]:
        """Dispersions."""
        return [self.scaled_log_theta]


@HEADS.register("conjugate")
@final
class ConjugateHead(DispersedHead):
    r"""Gamma-Poisson head: the rate has a Gamma(theta, theta / mu) prior, updated by what was seen.

    .. math:: r_g \mid x_g \sim \mathrm{Gamma}(\theta_g + x_g,\; \theta_g / \mu_g + \alpha_g), \qquad
              \mathrm{E}\, r_g = \mu_g \frac{\theta_g + x_g}{\theta_g + \alpha_g \mu_g} .

    ``mu`` is the network's mean, ``theta`` the learned dispersion of each gene. The missing molecules are negative
    binomial. Not in the paper, which plugs in a mean without spread. Rates are then rescaled to the library size where
    that is given (:meth:`Library.match`).
    """

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> GammaPoissonPosterior:
        """Gamma posterior of the rates."""
        mu = self.expected(logits, x_t, alpha, given)
        theta = self.dispersion(mu)
        shape = theta + x_t
        rate = mu * shape / torch.addcmul(theta, alpha, mu)
        rate = self.sized.library.match(rate, x_t, alpha, given)
        return GammaPoissonPosterior(rate, shape, alpha, lambda ratio: self._raised(ratio, mu, x_t, alpha))

    def _raised(self, ratio: Tensor, mu: Tensor, x_t: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of a rate and of its shape where a multiple is expected."""
        theta = self.dispersion(mu)
        power = (theta / self.dispersion(mu * ratio)).sqrt()
        return ratio * ((theta + x_t) / torch.addcmul(theta, alpha, mu)) ** (power - 1), power**-2


@HEADS.register("poisson")
@final
class PoissonHead(SharesHead):
    """Poisson head: the network's mean is the rate."""

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> PoissonPosterior:
        """Poisson posterior."""
        rate = self.expected(logits, x_t, alpha, given)
        return PoissonPosterior(self.sized.library.match(rate, x_t, alpha, given), alpha)


@HEADS.register("softplus")
@final
class SoftplusHead(Head):
    """The paper's head: softplus of the logit is the expected number of missing molecules (CountsDiff, section 3.2).

    It knows neither library size nor survival except through the network's inputs.
    """

    def __init__(
        self, n_genes: int, library: Library, dispersion: Tensor | None = None, log_share: Tensor | None = None
    ) -> None:
        super().__init__(n_genes, library)

    def expected(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> Tensor:
        """Softplus of the logits, scaled up to all molecules."""
        # The rate of an entry that is (almost) wholly seen is not identified by its missing molecules.
        return F.softplus(logits.float()) / (1 - alpha).clamp_min(1e-3)

    def forward(self, logits: Tensor, x_t: Tensor, alpha: Tensor, given: GivenTotals | None) -> PoissonPosterior:
        """Poisson posterior."""
        return PoissonPosterior(self.expected(logits, x_t, alpha, given), alpha)
