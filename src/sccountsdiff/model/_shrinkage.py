"""Many noisy numbers, each shrunk as far as all of them together say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Rounds of expectation and maximisation.
_ROUNDS = 30


def shrunken(estimate: Tensor, variance: Tensor, spreads: Sequence[float]) -> Tensor:
    r"""Means of numbers given noisy estimates, under a prior that the estimates themselves tell.

    The prior is a mixture of normal laws around 0, :math:`b \sim \sum_k p_k\, \mathrm{N}(0, s_k^2)`, whose weights are the
    most likely ones (with one more number that counts for the narrowest law). So where nearly all are small a few large
    ones stay large, which one normal law would shrink with the rest.

    Parameters
    ----------
    estimate
        Estimates, ``(n,)``.
    variance
        Their variances, ``(n,)``.
    spreads
        Standard deviations s of the laws, the narrowest first.

    Returns
    -------
    Posterior means, ``(n,)``.

    References
    ----------
    Stephens (2017), False discovery rates: a new deal (adaptive shrinkage).
    """
    own = torch.tensor(spreads, dtype=estimate.dtype, device=estimate.device).square().unsqueeze(-1)
    total = own + variance
    log_density = -(total.log() + estimate.square() / total) / 2
    one_more = torch.zeros_like(own)
    one_more[0] = 1
    weight = torch.full_like(own, 1 / len(own))
    for _ in range(_ROUNDS if len(own) > 1 else 0):
        of_law = (log_density + weight.log()).softmax(0).sum(-1, keepdim=True) + one_more
        weight = of_law / of_law.sum()
    posterior = (log_density + weight.log()).softmax(0)
    return (posterior * own / total).sum(0) * estimate
