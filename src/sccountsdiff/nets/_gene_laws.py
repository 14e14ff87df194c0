"""Laws of genes, apart from the network that states what to expect."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import Adam

from sccountsdiff.nets._dispersion import dispersion_at
from sccountsdiff.nets._mixture_rate import mixture_rate
from sccountsdiff.process import PoissonPosterior

#: Dispersion within a level, at least, where a search for two levels starts.
_NARROW = 5.0
#: Largest step of a logarithm, and how far one may move, as a standard deviation.
_STEP, _SPREAD = 0.1, 2.0


class Entries(NamedTuple):
    """Entries of cells, and what a network expects of them.

    Parameters
    ----------
    mu
        Expected counts of the bulk before anything of the gene was seen, ``(n_cells, n_genes)``.
    x_t
        Surviving UMI counts, ``(n_cells, n_genes)``.
    alpha
        Survival, broadcastable to ``x_t``.
    missing
        Missing molecules, ``(n_cells, n_genes)``.
    weight
        Weight of the loss of each entry, ``(n_cells, n_genes)``.
    """

    mu: Tensor
    x_t: Tensor
    alpha: Tensor
    missing: Tensor
    weight: Tensor

    def of(self, genes: Tensor) -> Entries:
        """Entries of some genes.

        Parameters
        ----------
        genes
            Their numbers, ``(n,)``.

        Returns
        -------
        Parts with one column for each of these genes.
        """
        return Entries(*(part[:, genes] if part.shape[1] > 1 else part for part in self))


class GeneLaws(NamedTuple):
    """The law of each gene in two states (:class:`MixtureHead`), and a shift of what the network expects.

    Parameters
    ----------
    log_theta
        Logarithm of the dispersion, ``(n_genes,)``.
    log_level
        Logarithm of the level of the second state, ``(n_genes,)``.
    log_odds
        Log odds of the second state, ``(n_genes,)``.
    log_growth
        Logarithm of the factor by which the dispersion grows with every tenfold of what is expected, ``(n_genes,)``.
    shift
        Change of the logarithm of the expected counts of the bulk, ``(n_genes,)``.
    log_mean
        Logarithm of the expected counts at which the dispersion is ``theta``, ``(n_genes,)``: given, not to be found.
    """

    log_theta: Tensor
    log_level: Tensor
    log_odds: Tensor
    log_growth: Tensor
    shift: Tensor
    log_mean: Tensor

    def of(self, genes: Tensor) -> GeneLaws:
        """Laws of some genes.

        Parameters
        ----------
        genes
            Their numbers ``(n,)``, or a mask ``(n_genes,)``.

        Returns
        -------
        Numbers of these genes, ``(n,)`` each.
        """
        return GeneLaws(*(part[genes] for part in self))

    def loss(self, entries: Entries) -> Tensor:
        """Loss of each gene.

        Parameters
        ----------
        entries
            Entries of these genes.

        Returns
        -------
        Mean over cells, in nats up to terms without the rate, ``(n_genes,)``.
        """
        mu = entries.mu * self.shift.exp()
        theta = dispersion_at(mu, self.log_theta, self.log_growth, self.log_mean)
        rate = mixture_rate(mu, entries.x_t, entries.alpha, theta, self.log_level, self.log_odds)
        return (PoissonPosterior(rate, entries.alpha).nll(entries.missing) * entries.weight).mean(0)

    def switched(self, mean: Tensor, part: float, ratio: float) -> GeneLaws:
        r"""Laws of genes that are low in some cells, whatever the rest of the cell says.

        The second state, above the bulk as outliers are, is put below it. The bulk rises so that the mean stays.

        Parameters
        ----------
        mean
            Mean of the expected counts of each gene, ``(n_genes,)``.
        part
            Part of the cells in the low state.
        ratio
            Expected counts of the low state over those of the bulk, in a cell that expresses the gene as on average.

        Returns
        -------
        Dispersions of at least 5 everywhere, and levels, odds and shifts in place of those there are.
        """
        shift = torch.full_like(mean, -math.log(1 - part + part * ratio))
        level = math.log(ratio) + (mean.log() + shift) / 2
        odds = torch.full_like(mean, math.log(part / (1 - part)))
        theta = self.log_theta.clamp_min(math.log(_NARROW))
        return GeneLaws(theta, level, odds, torch.zeros_like(theta), shift, self.log_mean)

    def fitted(self, entries: Entries, n_cells: int, n_steps: int = 100) -> GeneLaws:
        """Laws that fit better, found from these on.

        Parameters
        ----------
        entries
            Entries of these genes.
        n_cells
            Number of different cells among them: the prior, normal around these laws, counts for one cell.
        n_steps
            Steps of the search.

        Returns
        -------
        Laws whose loss is smaller, as a rule.
        """
        *start, given = self
        numbers = [part.detach().clone().requires_grad_() for part in start]
        optimizer = Adam(numbers, lr=_STEP, betas=(0.9, 0.99))
        with torch.enable_grad():
            for step in range(n_steps):
                optimizer.param_groups[0]["lr"] = _STEP * (1 - step / n_steps)
                far = sum(((now - then) / _SPREAD).square().sum() for now, then in zip(numbers, start, strict=True))
                optimizer.zero_grad()
                (GeneLaws(*[*numbers, given]).loss(entries).sum() + far / (2 * n_cells)).backward()
                optimizer.step()
        return GeneLaws(*[*(number.detach() for number in numbers), given])


def best_laws(laws: Sequence[GeneLaws], entries: Entries) -> GeneLaws:
    """Of several laws of each gene the one that fits best.

    Parameters
    ----------
    laws
        Laws of the same genes.
    entries
        Entries of these genes.

    Returns
    -------
    One law of each gene.
    """
    best = torch.stack([law.loss(entries) for law in laws]).argmin(0, keepdim=True)
    return GeneLaws(*(torch.stack(parts).gather(0, best)[0] for parts in zip(*laws, strict=True)))
