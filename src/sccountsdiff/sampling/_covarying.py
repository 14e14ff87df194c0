"""Rates that are drawn for all genes of a cell together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.nets import Covariation, Library
from sccountsdiff.process import MIN_RATE, Posterior


class Factors(NamedTuple):
    """Factors of the cells at a step of a walk.

    Parameters
    ----------
    alpha
        Survival there, one number.
    normal
        Standard normal draws, ``(n_cells, n_directions)``.
    """

    alpha: Tensor
    normal: Tensor


@final
@dataclass(frozen=True)
class CovaryingRates:
    r"""Draws the rates of a step from what a denoiser leaves open of all genes together.

    The law of the births between survivals :math:`\alpha_t` and :math:`\alpha_s`, given :math:`x_t`, is that of rates drawn
    from their posterior, which is one of all genes. With the mean of each gene alone, births of a step are independent,
    and in few steps related genes come out related too little. Factors of successive steps are correlated
    (:meth:`~sccountsdiff.nets.Covariation.correlation`), so that many steps do not average them away: a denoiser that
    learned from few cells does not see all of what earlier factors have done. Not in the paper.

    Parameters
    ----------
    covariation
        Covariance of log rates.
    library
        What the library sizes count: totals of expected molecules are kept.
    """

    covariation: Covariation
    library: Library

    def draw(
        self, posterior: Posterior, alpha: Tensor, before: Factors | None, generator: torch.Generator | None = None
    ) -> tuple[Posterior, Factors]:
        """Draw rates.

        Parameters
        ----------
        posterior
            What a denoiser believes is missing of each entry, ``(n_cells, n_genes)``.
        alpha
            Survival of all entries, one number.
        before
            Factors of the step before; None in the first.
        generator
            Source of randomness, on the device of the rates; the global one if None.

        Returns
        -------
        A posterior of the same kind around the rates drawn, and the factors.
        """
        loadings, rate = self.covariation.loadings(alpha), posterior.rate
        shape = len(rate), loadings.shape[1]
        normal = torch.randn(shape, generator=generator, device=rate.device)
        if before is not None:
            kept = self.covariation.correlation(before.alpha, alpha)
            normal = kept * before.normal + (1 - kept.square()).sqrt() * normal
        drawn = torch.addmm(-loadings.square().sum(1) / 2, normal, loadings.T).exp_().mul_(rate)
        factor = self.library.total(rate) / self.library.total(drawn).clamp_min(MIN_RATE)
        return posterior.with_rate(drawn.mul_(self.library.spread(factor))), Factors(alpha, normal)
