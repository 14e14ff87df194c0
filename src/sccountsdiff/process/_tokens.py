r"""Counts as tokens: a posterior of any shape over small counts, with a parametric tail for the large ones."""

from __future__ import annotations

from functools import cached_property
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process._posterior import MIN_RATE, Posterior
from sccountsdiff.process._random import binomial
from sccountsdiff.process._rates import GammaPoissonPosterior

#: Bisection steps of the exponential tilt; the interval halves in each.
_TILT_STEPS = 60


@final
class TokenPosterior(Posterior):
    r"""Categorical over the counts 0 to K - 1 and "K or more"; beyond K the excess is negative binomial.

    .. math:: P(x = k) = p_k \; (k < K), \qquad P(x = K + e) = p_K \, \mathrm{NB}(e;\, \mathrm{mean}, \mathrm{size})

    It describes the count of a fresh, full measurement; the missing molecules are that count thinned by
    ``1 - alpha``. Under masking ``alpha`` is 0 (hidden: the whole count is missing) or 1 (seen: nothing is). Memory is
    that of K + 1 numbers an entry, whatever the largest count, and no count is cut off: fitted by likelihood, the tail
    has the mean excess of the data.

    Parameters
    ----------
    logits
        Logits of the tokens ``(n_cells, n_genes, K + 1)``; the last is "K or more". There is no logit of MASK, which
        therefore cannot be drawn.
    tail_mean
        Mean excess over K of a count of K or more, in UMI counts ``(n_cells, n_genes)``.
    tail_size
        Size (inverse dispersion) of the excess, broadcastable to ``tail_mean``; 1 is a geometric law.
    alpha
        Survival, broadcastable to ``tail_mean``.
    """

    def __init__(self, logits: Tensor, tail_mean: Tensor, tail_size: Tensor, alpha: Tensor) -> None:
        self.log_tokens = logits.log_softmax(-1)
        self.tail_mean = tail_mean.clamp_min(MIN_RATE)
        self.tail_size = tail_size.expand_as(tail_mean)
        self.alpha = alpha

    @property
    def n_explicit(self) -> int:
        """Number K of counts that have a token of their own."""
        return self.log_tokens.shape[-1] - 1

    @cached_property
    def tokens(self) -> Tensor:
        """Probabilities of the tokens, ``(n_cells, n_genes, K + 1)``."""
        return self.log_tokens.exp()

    @cached_property
    def rate(self) -> Tensor:  # type: ignore[override]  # a lazy attribute: training does not need it
        """Expected count, ``(n_cells, n_genes)``."""
        values = torch.arange(self.n_explicit + 1, dtype=self.tokens.dtype, device=self.tokens.device)
        return (self.tokens @ values + self.tokens[..., -1] * self.tail_mean).clamp_min(MIN_RATE)

    @property
    def rate_variance(self) -> Tensor:
        """Variance of the count beyond that of a Poisson law; negative where it is below."""
        k, mean, size = self.n_explicit, self.tail_mean, self.tail_size
        values = torch.arange(k + 1, dtype=self.tokens.dtype, device=self.tokens.device)
        excess_square = mean + mean**2 / size + mean**2
        second_moment = self.tokens @ values**2 + self.tokens[..., -1] * (2 * k * mean + excess_square)
        return second_moment - self.rate**2 - self.rate

    def _tail(self, where: Tensor) -> GammaPoissonPosterior:
        """Law of the excess at some entries."""
        mean = self.tail_mean[where]
        return GammaPoissonPosterior(mean, self.tail_size[where], torch.zeros_like(mean))

    def draw_rate(self, generator: torch.Generator | None = None) -> Tensor:
        """Not offered: a law of tokens has no rate behind it."""
        raise NotImplementedError(
            "A posterior over count tokens has no rate to draw: it is a law of counts, not a mixture of Poisson laws. "
            "Take its mean, or draw counts."
        )

    def draw(self, generator: torch.Generator | None = None, fraction: Tensor | float = 1.0) -> Tensor:
        """Draw counts, and thin them to those missing."""
        dice = torch.rand(self.tail_mean.shape, generator=generator, device=self.tail_mean.device)
        # Rounding of the cumulative sum must not push a draw past the last token.
        count = (dice.unsqueeze(-1) >= self.tokens[..., :-1].cumsum(-1)).sum(-1).to(dice.dtype)
        large = count == self.n_explicit
        count[large] += self._tail(large).draw(generator)
        shown = (1 - self.alpha) * fraction
        # All or nothing needs no dice.
        return binomial(count, shown, generator) if bool(((shown > 0) & (shown < 1)).any()) else count * shown

    def log_prob(self, missing: Tensor) -> Tensor:
        """Log probability of hidden counts; 0 where an entry was seen, since nothing can be missing there.

        Raises
        ------
        ValueError
            If the survival of an entry lies strictly between 0 and 1.
        """
        self._check_whole()
        missing = missing.expand_as(self.tail_mean)
        token = missing.clamp(0, self.n_explicit).long().unsqueeze(-1)
        log_prob = self.log_tokens.gather(-1, token).squeeze(-1)
        large = missing >= self.n_explicit
        excess = self._tail(large).log_prob(missing[large] - self.n_explicit)
        log_prob = log_prob.masked_scatter(large, log_prob[large] + excess)
        return torch.where(self.alpha > 0, 0.0, log_prob)

    def cdf(self, missing: Tensor) -> Tensor:
        """Distribution function of hidden counts; 1 where an entry was seen and ``missing >= 0``."""
        self._check_whole()
        missing = missing.expand_as(self.tail_mean).floor()
        token = missing.clamp(0, self.n_explicit - 1).long().unsqueeze(-1)
        cdf = self.tokens[..., :-1].cumsum(-1).gather(-1, token).squeeze(-1)
        large = missing >= self.n_explicit
        beyond = 1 - self._tail(large).cdf(missing[large] - self.n_explicit)
        cdf = cdf.masked_scatter(large, 1 - self.tokens[..., -1][large] * beyond)
        cdf = torch.where(self.alpha > 0, 1.0, cdf)
        return torch.where(missing < 0, 0.0, cdf.clamp(0, 1))

    def tilt(self, toward: TokenPosterior, away: TokenPosterior, scale: float) -> TokenPosterior:
        r"""Guidance in logit space: :math:`\log p_k + w (\log p_k^{toward} - \log p_k^{away})`, token by token.

        The logarithm of the mean excess moves in the same way.

        References
        ----------
        Nisonoff et al. 2025; Schiff et al. 2024 (guidance of discrete diffusion).
        """
        logits = self.log_tokens + scale * (toward.log_tokens - away.log_tokens)
        tail_mean = self.tail_mean * ((toward.tail_mean.log() - away.tail_mean.log()) * scale).exp()
        return TokenPosterior(logits, tail_mean, self.tail_size, self.alpha)

    def with_rate(self, rate: Tensor) -> TokenPosterior:
        r"""The law :math:`p(x)\,e^{\delta x}` with ``delta`` such that the mean is ``rate``: the exponential tilt."""
        shrink = self.tail_mean / (self.tail_mean + self.tail_size)
        low = torch.full_like(shrink, -60.0)
        high = -shrink.log()  # the tail can be tilted no further
        for _ in range(_TILT_STEPS):
            middle = (low + high) / 2
            enough = self._tilted(middle, shrink).rate >= rate
            low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
        return self._tilted((low + high) / 2, shrink)

    def _tilted(self, delta: Tensor, shrink: Tensor) -> TokenPosterior:
        """Exponential tilt by ``delta``; ``shrink`` is the success probability of the excess."""
        k = self.n_explicit
        values = torch.arange(k + 1, dtype=delta.dtype, device=delta.device)
        left, left_tilted = 1 - shrink, (1 - shrink * delta.exp()).clamp_min(1e-7)
        logits = self.log_tokens + delta.unsqueeze(-1) * values
        in_tail = self.tail_size * (left.log() - left_tilted.log())
        logits = torch.cat([logits[..., :-1], (logits[..., -1] + in_tail).unsqueeze(-1)], -1)
        return TokenPosterior(logits, self.tail_size * (1 - left_tilted) / left_tilted, self.tail_size, self.alpha)

    def where(self, mask: Tensor, other: TokenPosterior) -> TokenPosterior:
        """Choose entry by entry."""
        return TokenPosterior(
            torch.where(mask.unsqueeze(-1), self.log_tokens, other.log_tokens),
            torch.where(mask, self.tail_mean, other.tail_mean),
            torch.where(mask, self.tail_size, other.tail_size),
            torch.where(mask, self.alpha, other.alpha),
        )

    def _check_whole(self) -> None:
        """A token is an entry in full: part of one has no token."""
        partly = (self.alpha > 0) & (self.alpha < 1)
        if bool(partly.any()):
            raise ValueError(
                f"Count tokens are seen or hidden whole, but an entry has survival {float(self.alpha[partly][0]):g}. "
                "Use a Gamma-Poisson posterior for entries that are seen in part."
            )
