r"""Mean rate of a mixture of two Gamma laws, with its derivative in closed form.

Left to autograd it keeps some twenty arrays of cells times genes, and training spends its time on passes over them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sccountsdiff.process import MIN_RATE


class MixtureRate(torch.autograd.Function):
    r"""Posterior mean of a rate: :math:`(\theta + x)\, s` with :math:`s = (1 - w)\, p + w\, q`.

    :math:`p = \mu / (\theta + \alpha \mu)` in the bulk and :math:`q = \nu / (\theta + \alpha \nu)` among the outliers, which
    expect :math:`\nu = \kappa \sqrt \mu`; the log odds of :math:`w` are
    :math:`\log o + x \log (\nu / \mu) + (\theta + x) \log ((\theta + \alpha \mu) / (\theta + \alpha \nu))`.
    """

    @staticmethod
    def forward(
        ctx: Any, mu: Tensor, x: Tensor, alpha: Tensor, theta: Tensor, log_level: Tensor, log_odds: Tensor
    ) -> Tensor:
        """Rates ``(n_cells, n_genes)`` from counts and survival of the entries, and the numbers of each gene."""
        shape, ratio = x + theta, outlier_ratio(mu, log_level)
        p, q = alpha * mu, mu * ratio
        p.add_(theta)
        outlier = torch.addcmul(theta, alpha, q)
        log_ratio = (p / outlier).log_()
        w = torch.addcmul(log_odds, x, ratio.log_()).addcmul_(shape, log_ratio).sigmoid_()
        torch.div(mu, p, out=p)
        q.div_(outlier)
        s = torch.lerp(p, q, w)
        ctx.save_for_backward(mu, x, alpha, theta, shape, log_ratio, w, p, q, s)
        return s * shape

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        r"""Gradients of the means and of the three numbers of each gene.

        With :math:`h = g\, (\theta + x)` for a gradient g of the rates, :math:`v = h\, w (1 - w) (q - p)` is that of the log
        odds. Those of :math:`\log \mu` where :math:`\nu` does not move, and of :math:`\log \nu`, are

        .. math:: a &= h (1 - w)\, p\, (1 - \alpha p) + v\, ((\theta + x)\, \alpha p - x), \\
                  b &= h w\, q\, (1 - \alpha q) + v\, (x - (\theta + x)\, \alpha q) .
        """
        (g,) = gradients
        mu, x, alpha, theta, shape, log_ratio, w, p, q, s = ctx.saved_tensors
        h = g * shape
        of_outlier = h * w
        of_bulk = h.sub_(of_outlier)
        v = (q - p).mul_(of_bulk).mul_(w)
        by_theta, by_odds = (s * g).addcmul_(v, log_ratio), _gene_sums(v)
        of_bulk.mul_(p)
        of_outlier.mul_(q)
        moved = v * shape
        v.mul_(x)
        a = torch.sub(moved, of_bulk).mul_(p).mul_(alpha).add_(of_bulk).sub_(v)
        b = moved.add_(of_outlier).mul_(q).mul_(alpha)
        b = of_outlier.add_(v).sub_(b)
        by_level = _gene_sums(b)
        if theta.dim() > 1:
            by_theta.sub_((a + b).div_(theta))
        else:
            by_theta = _gene_sums(by_theta) - (_gene_sums(a) + by_level) / theta
        by_mu = a.add_(b, alpha=0.5).div_(mu.clamp_min(MIN_RATE))
        return by_mu, None, None, by_theta, by_level, by_odds


def _gene_sums(x: Tensor) -> Tensor:
    """Sums over cells, as a matrix product: the compiler's own loops go down one column of many arrays after the other."""
    return x.new_ones(len(x)) @ x


def outlier_ratio(mu: Tensor, log_level: Tensor) -> Tensor:
    r"""What outliers expect over what the bulk does: :math:`\nu / \mu = \kappa / \sqrt \mu`.

    Parameters
    ----------
    mu
        Mean rate of the bulk, ``(n_cells, n_genes)``.
    log_level
        Logarithm of :math:`\kappa`, ``(n_genes,)``.

    Returns
    -------
    ``(n_cells, n_genes)``.
    """
    return (mu + MIN_RATE).rsqrt_() * log_level.exp()


def mixture_rate(mu: Tensor, x: Tensor, alpha: Tensor, theta: Tensor, log_level: Tensor, log_odds: Tensor) -> Tensor:
    r"""Mean rate of an entry in two states, the bulk and outliers, given what was seen.

    Parameters
    ----------
    mu
        Mean rate of the bulk before anything of the gene was seen, ``(n_cells, n_genes)``.
    x
        Surviving UMI counts, ``(n_cells, n_genes)``.
    alpha
        Survival, broadcastable to ``x``.
    theta
        Shape of the Gamma law within a state, ``(n_genes,)`` or ``(n_cells, n_genes)``.
    log_level
        Logarithm of :math:`\kappa`, ``(n_genes,)``: outliers expect :math:`\kappa \sqrt \mu`.
    log_odds
        Log odds of the outlier state, ``(n_genes,)``.

    Returns
    -------
    Rates, ``(n_cells, n_genes)``.
    """
    return MixtureRate.apply(mu, x, alpha, theta, log_level, log_odds)
