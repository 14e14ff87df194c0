r"""Mean rate of a mixture of two Gamma laws, with its derivative in closed form.

Left to autograd it keeps some twenty arrays of cells times genes, and training spends its time on passes over them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class MixtureRate(torch.autograd.Function):
    r"""Posterior mean of a rate: :math:`\mu\, (\theta + x)\, s` with :math:`s = (1 - w)\, p + w\, q`.

    :math:`p = 1 / (\theta + \alpha \mu)` in the bulk and :math:`q = c / (\theta + \alpha c \mu)` among the outliers; the log
    odds of :math:`w` are :math:`\log o + x \log c + (\theta + x) \log (q / c p)`.
    """

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, x: Tensor, alpha: Tensor, theta: Tensor, log_factor: Tensor, log_odds: Tensor
    ) -> Tensor:
        """Rates ``(n_cells, n_genes)`` from counts and survival of the entries, and three numbers for each gene."""
        factor, shape = log_factor.exp(), x + theta
        p = alpha * mu
        q = torch.addcmul(theta, factor, p)
        p.add_(theta)
        log_ratio = (p / q).log_()
        w = torch.addcmul(log_odds, x, log_factor).addcmul_(shape, log_ratio).sigmoid_()
        p.reciprocal_()
        torch.div(factor, q, out=q)
        s = torch.lerp(p, q, w)
        ctx.save_for_backward(mu, alpha, theta, factor, shape, log_ratio, w, p, q, s)
        return (s * shape).mul_(mu)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        r"""Gradients of the means and of the three numbers of each gene.

        With :math:`h = g\, \mu\, (\theta + x)` for a gradient g of the rates and :math:`v = h\, w (1 - w) (q - p)`, that of
        the log odds: :math:`p' = h (1 - w) p^2 - (\theta + x)\, v\, p` and :math:`q' = h w q^2 + (\theta + x)\, v\, q` are
        what g loses when the denominators grow by 1 and by c.
        """
        (g,) = gradients
        mu, alpha, theta, factor, shape, log_ratio, w, p, q, s = ctx.saved_tensors
        h = g * shape
        by_mu = h * s
        h.mul_(mu)
        of_outlier = h * w
        of_bulk = h.sub_(of_outlier)
        v = (q - p).mul_(of_bulk).mul_(w)
        by_theta = _gene_sums((s * mu).mul_(g).addcmul_(v, log_ratio))
        moved = v * shape
        of_bulk = of_bulk.mul_(p).sub_(moved).mul_(p)
        of_outlier = of_outlier.mul_(q).add_(moved).mul_(q)
        by_odds, bulk_sum, outlier_sum = _gene_sums(v), _gene_sums(of_bulk), _gene_sums(of_outlier) / factor
        by_mu.addcmul_(alpha, of_bulk.add_(of_outlier), value=-1)
        return by_mu, None, None, by_theta - bulk_sum - outlier_sum, theta * (outlier_sum - by_odds), by_odds


def _gene_sums(x: Tensor) -> Tensor:
    """Sums over cells, as a matrix product: the compiler's own loops go down one column of many arrays after the other."""
    return x.new_ones(len(x)) @ x


def mixture_rate(mu: Tensor, x: Tensor, alpha: Tensor, theta: Tensor, log_factor: Tensor, log_odds: Tensor) -> Tensor:
    """Mean rate of an entry in two states, the bulk and outliers, given what was seen.

    Parameters
    ----------
    mu
        Mean rate of the bulk before anything of the gene was seen, ``(n_cells, n_genes)``.
    x
        Surviving UMI counts, ``(n_cells, n_genes)``.
    alpha
        Survival, broadcastable to ``x``.
    theta
        Shape of the Gamma law within a state, ``(n_genes,)``.
    log_factor
        Log rate of the outliers over that of the bulk, ``(n_genes,)``.
    log_odds
        Log odds of the outlier state, ``(n_genes,)``.

    Returns
    -------
    Rates, ``(n_cells, n_genes)``.
    """
    return MixtureRate.apply(mu, x, alpha, theta, log_factor, log_odds)
