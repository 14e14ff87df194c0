"""Whole cells moved to other rates, gene by gene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process import Posterior, Thinning

_TARGET_TOTAL = 1e4
#: Expression below this counts as this (CP10k): keeps ratios of silent genes finite.
_SMALLEST = 1e-3
#: Rounds in which the ratios of a cell are scaled to its library size.
_SCALINGS = 6
#: A round changes no gene by more than this factor.
_LARGEST_STEP = 5.0


def log1p_cp10k(x: Tensor) -> Tensor:
    """``log(1 + 1e4 * x / total of the cell)``; a cell without counts stays zero.

    Parameters
    ----------
    x
        UMI counts, ``(n_cells, n_genes)``.
    """
    return torch.log1p(x * (_TARGET_TOTAL / x.sum(-1, keepdim=True).clamp_min(1)))


@final
@dataclass(frozen=True)
class Transport:
    r"""Multiplies the rate of each gene by a ratio, and leaves all else of a cell as it is.

    A change of rate is a change of survival: a gene whose rate falls is thinned to ``ratio``, and one whose rate rises
    goes on beyond survival 1. Its additional molecules are Poisson with mean ``(ratio - 1) * rate``, for a rate drawn
    from the posterior given the cell: if counts are mixed Poisson, so are the moved ones, with rates times ``ratio``
    exactly. Genes keep their correlations, and a ratio of 1 keeps the very molecules.

    Parameters
    ----------
    log_ratio
        Logarithm of the factor of each gene, ``(n_genes,)``, up to a constant: totals are kept by the library size.
    """

    log_ratio: Tensor

    def draw(self, x_0: Tensor, fresh: Posterior, library: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Move cells.

        Parameters
        ----------
        x_0
            UMI counts, ``(n_cells, n_genes)``.
        fresh
            Posterior over a fresh full measurement of the same cells (survival 0).
        library
            Expected UMI total of each moved cell, ``(n_cells,)``.
        generator
            Source of randomness, on the device of the counts; the global one if None.

        Returns
        -------
        UMI counts ``(n_cells, n_genes)``, integer-valued floats.
        """
        ratio = self.log_ratio.exp().expand_as(x_0)
        for _ in range(_SCALINGS):
            expected = ratio.clamp_max(1) * x_0 + (ratio - 1).clamp_min(0) * fresh.rate
            ratio = ratio * (library / expected.sum(-1).clamp_min(_SMALLEST))[:, None]
        kept = Thinning().corrupt(x_0, ratio.clamp_max(1), generator)
        return kept + fresh.draw(generator, (ratio - 1).clamp_min(0))


def fit_transport(
    x_0: Tensor,
    fresh: Posterior,
    library: Tensor,
    profile: Tensor,
    n_rounds: int = 8,
    generator: torch.Generator | None = None,
) -> Transport:
    """Find the ratios that move cells to a mean profile, by moving them and correcting what is left.

    Parameters
    ----------
    x_0, fresh, library
        As in :meth:`Transport.draw`.
    profile
        Wanted mean of log1p(CP10k), ``(n_genes,)``; NaN for genes that may go where they like.
    n_rounds
        Number of corrections.
    generator
        Source of randomness, on the device of the counts; the global one if None.

    Returns
    -------
    :class:`Transport`.
    """
    wanted = torch.expm1(profile).clamp_min(_SMALLEST).log()
    transport = Transport(torch.zeros_like(profile))
    for _ in range(n_rounds):
        moved = log1p_cp10k(transport.draw(x_0, fresh, library, generator)).mean(0)
        step = wanted - torch.expm1(moved).clamp_min(_SMALLEST).log()
        limit = math.log(_LARGEST_STEP)
        transport = Transport(transport.log_ratio + step.nan_to_num(0.0).clamp(-limit, limit))
    return transport
