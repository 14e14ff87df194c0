"""Reveal orders: which of the hidden entries of a masked cell come back in one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process._posterior import Posterior
from sccountsdiff.process._registry import Registry

REVEALS: Registry[Reveal] = Registry("reveal order")


class Reveal(ABC):
    """Which hidden entries are revealed in a reverse step."""

    @abstractmethod
    def choose(
        self, candidates: Tensor, posterior: Posterior, birth: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Choose entries.

        Parameters
        ----------
        candidates
            Counts drawn for all entries ``(n_cells, n_genes)``; those of the entries chosen are kept.
        posterior
            Where they were drawn from.
        birth
            Probability with which each entry is to be revealed ``(n_cells, n_genes)``; 0 where it is seen already.
        generator
            Source of randomness, on the device of the counts; the global one if None.

        Returns
        -------
        Boolean ``(n_cells, n_genes)``; the expected number of True in a cell is the sum of its probabilities.
        """


@REVEALS.register("independent")
@final
class IndependentReveal(Reveal):
    """Each hidden entry by itself: the reverse kernel of masking."""

    def choose(
        self, candidates: Tensor, posterior: Posterior, birth: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Toss a coin for each entry."""
        return torch.rand(birth.shape, generator=generator, device=birth.device) < birth


@REVEALS.register("random")
@final
class RandomReveal(Reveal):
    """The expected number of entries of each cell, in random order: the same marginals with less noise in the number."""

    def choose(
        self, candidates: Tensor, posterior: Posterior, birth: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Take the first entries of a random order."""
        return _first(torch.rand(birth.shape, generator=generator, device=birth.device), birth, generator)


@REVEALS.register("confident")
@final
class ConfidentReveal(Reveal):
    """The expected number of entries of each cell, those drawn with the highest probability first.

    Good for guessing single tokens at few steps, but no sample of the model any more: zeros are the most certain
    tokens, come first, and pull the rest of the cell down.

    Parameters
    ----------
    temperature
        Scale of the Gumbel noise on the log probabilities; 0 is the strict order, large values the random one.

    References
    ----------
    MaskGIT (Chang et al. 2022).
    """

    def __init__(self, temperature: float = 1.0) -> None:
        if temperature < 0:
            raise ValueError(f"temperature must be at least 0, got {temperature}.")
        self.temperature = temperature

    def choose(
        self, candidates: Tensor, posterior: Posterior, birth: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Take the entries with the most probable candidates."""
        dice = torch.rand(birth.shape, generator=generator, device=birth.device)
        gumbel = -torch.log(-torch.log(dice.clamp(1e-7, 1 - 1e-7)))
        return _first(-posterior.log_prob(candidates) - self.temperature * gumbel, birth, generator)


def _first(order: Tensor, birth: Tensor, generator: torch.Generator | None) -> Tensor:
    """The entries with the smallest ``order``, as many in each cell as are to be revealed on average."""
    flat = birth.flatten(1)
    chance = torch.rand(len(flat), 1, generator=generator, device=flat.device)
    number = (flat.sum(1, keepdim=True) + chance).floor()
    rank = order.flatten(1).masked_fill(flat == 0, torch.inf).argsort(1).argsort(1)
    return ((rank < number) & (flat > 0)).reshape(birth.shape)
