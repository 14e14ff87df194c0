"""Dispersions that grow or fall with what is expected of a gene."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sccountsdiff.process import MIN_RATE

#: Expected counts beyond a hundred times the mean of a gene, or below a hundredth, count as these.
_FAR = 2 * math.log(10)
#: Largest logarithm of a dispersion, up or down.
_LARGEST = 12.0


def dispersion_at(mu: Tensor, log_theta: Tensor, log_growth: Tensor, log_mean: Tensor) -> Tensor:
    r"""Dispersion of each entry: :math:`\theta\, (\mu / m)^\eta`.

    Parameters
    ----------
    mu
        Expected counts, ``(n_cells, n_genes)``.
    log_theta
        Logarithm of the dispersion where the mean of the gene is expected, ``(n_genes,)``.
    log_growth
        Logarithm of :math:`10^\eta`, the factor by which the dispersion grows with every tenfold of that, ``(n_genes,)``.
    log_mean
        Logarithm of the mean :math:`m` of the gene, ``(n_genes,)``.

    Returns
    -------
    ``(n_cells, n_genes)``.
    """
    tens = ((mu + MIN_RATE).log() - log_mean).clamp(-_FAR, _FAR) / math.log(10)
    return torch.addcmul(log_theta, log_growth, tens).clamp(-_LARGEST, _LARGEST).exp()
