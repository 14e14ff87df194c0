"""Whole cells moved to other rates, gene by gene."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process import MIN_RATE, Posterior, Thinning

_TARGET_TOTAL = 1e4
#: Expression below this counts as this (CP10k): keeps ratios of silent genes finite.
_SMALLEST = 1e-3
#: Rounds in which the ratios of a cell are scaled to its library size.
_SCALINGS = 6
#: A round changes the logarithm of no gene's mean by more than this.
_LARGEST_STEP = 1.6


def log1p_cp10k(x: Tensor) -> Tensor:
    """``log(1 + 1e4 * x / total of the cell)``; a cell without counts stays zero.

    Parameters
    ----------
    x
        UMI counts, ``(n_cells, n_genes)``.

    Returns
    -------
    Log expression, ``(n_cells, n_genes)``.
    """
    return torch.log1p(x * (_TARGET_TOTAL / x.sum(-1, keepdim=True).clamp_min(1)))


@final
@dataclass(frozen=True)
class Transport:
    r"""Multiplies the rate of each gene by a ratio, and leaves all else of a cell as it is.

    A change of rate is a change of survival: a gene whose rate falls is thinned to ``ratio``, and one whose rate rises
    goes on beyond survival 1. Its additional molecules are Poisson with mean ``(ratio - 1) * rate``, for a rate drawn
    from the posterior given the cell: if counts are mixed Poisson, so are the moved ones, with rates times ``ratio``
    exactly. Where the dispersion of a gene depends on what is expected of it, rates are those of
    :meth:`~sccountsdiff.process.Posterior.raised`. Genes keep their correlations, and a ratio of 1 keeps the very molecules.

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
        ratio = self.ratio(x_0, fresh, library)
        return _moved(x_0, ratio, fresh.raised(ratio), generator)

    def ratio(self, x_0: Tensor, fresh: Posterior, library: Tensor) -> Tensor:
        """Factor of each entry ``(n_cells, n_genes)``: that of its gene, scaled to the library size of its cell.

        Parameters
        ----------
        x_0, fresh, library
            As in :meth:`draw`.

        Returns
        -------
        Positive factors.
        """
        ratio = self.log_ratio.exp().expand_as(x_0)
        per_ratio = fresh.raised(ratio).rate / ratio
        for _ in range(_SCALINGS):
            total = _expected(ratio, x_0, ratio * per_ratio).sum(-1)
            ratio = ratio * (library / total.clamp_min(_SMALLEST))[:, None]
        return ratio


def _moved(x_0: Tensor, ratio: Tensor, raised: Posterior, generator: torch.Generator | None) -> Tensor:
    """Counts of which a part is kept, and those that are born of raised rates."""
    return Thinning().corrupt(x_0, ratio.clamp_max(1), generator) + raised.draw(generator, _born(ratio))


def _born(ratio: Tensor) -> Tensor:
    """Part of the raised rate by which it exceeds what there was."""
    return (1 - 1 / ratio).clamp_min(0)


def _expected(ratio: Tensor, x_0: Tensor, raised: Tensor) -> Tensor:
    """Expected counts after a transport to raised rates: what is kept, and what is born."""
    return ratio.clamp_max(1) * x_0 + _born(ratio) * raised


def fit_transport(
    x_0: Tensor,
    fresh: Posterior,
    library: Tensor,
    profile: Tensor,
    n_rounds: int = 7,
    n_averaged: int = 7,
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
        Number of whole corrections.
    n_averaged
        Number of ever smaller ones after these, by one half, one third and so on of what is lacking: each draw has noise, of
        which a whole correction makes up for the last one.
    generator
        Source of randomness, on the device of the counts; the global one if None.

    Returns
    -------
    :class:`Transport`.
    """
    smallest = _SMALLEST / _TARGET_TOTAL * library.mean()
    transport = Transport(torch.zeros_like(profile))
    for part in [1.0] * n_rounds + [1 / (n + 2) for n in range(n_averaged)]:
        ratio = transport.ratio(x_0, fresh, library)
        raised = fresh.raised(ratio)
        expected = _expected(ratio, x_0, raised.rate)
        moved = _moved(x_0, ratio, raised, generator)
        lacking = (profile - log1p_cp10k(moved).mean(0)).nan_to_num(0.0)
        step = (part * lacking / _slope(moved, raised.rate)).clamp(-_LARGEST_STEP, _LARGEST_STEP)
        mean = expected.mean(0).clamp_min(smallest)
        fresh_mean = (raised.rate / ratio).mean(0)
        change = _log_ratio(mean * step.exp(), x_0, fresh_mean) - _log_ratio(mean, x_0, fresh_mean)
        transport = Transport(transport.log_ratio + change)
    return transport


def _slope(moved: Tensor, rate: Tensor) -> Tensor:
    r"""Change of mean log1p(CP10k) with the logarithm of the rate, by Stein's identity for Poisson counts.

    :math:`\partial E f(x) / \partial \log \lambda = \lambda\, E[f(x + 1) - f(x)]`.
    """
    scale = _TARGET_TOTAL / moved.sum(-1, keepdim=True).clamp_min(1)
    gain = torch.log1p(scale * (moved + 1)) - torch.log1p(scale * moved)
    return (rate * gain).mean(0).clamp_min(_SMALLEST)


def _log_ratio(mean: Tensor, x_0: Tensor, rate: Tensor) -> Tensor:
    """Logarithm of the ratio that gives each gene a mean count: what is kept is linear in it, and so are births."""
    seen, fresh = x_0.mean(0), rate.clamp_min(MIN_RATE)
    ratio = torch.where(mean <= seen, mean / seen.clamp_min(MIN_RATE), 1 + (mean - seen) / fresh)
    return ratio.clamp_min(MIN_RATE).log()
