"""Birth draws: from a posterior over missing molecules to the integer number that return in one step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process._posterior import Posterior
from sccountsdiff.process._random import binomial, poisson
from sccountsdiff.process._registry import Registry

BIRTHS: Registry[Births] = Registry("birth draw")


class Births(ABC):
    """How the births of a reverse step are drawn."""

    @abstractmethod
    def draw(self, posterior: Posterior, birth: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw the molecules that return in one step.

        Parameters
        ----------
        posterior
            What a denoiser believes is missing of each entry.
        birth
            Probability with which each missing molecule returns, broadcastable to the posterior's mean.
        generator
            Source of randomness, on the device of the posterior; the global one if None.

        Returns
        -------
        Integer-valued floats ``(n_cells, n_genes)``.
        """


@BIRTHS.register("poisson")
@final
class PoissonBirths(Births):
    """Poisson births with mean ``birth * posterior.mean``: exact when the rate is known, never under-dispersed by it."""

    def draw(self, posterior: Posterior, birth: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw births."""
        return poisson((birth * (1 - posterior.alpha)) * posterior.rate, generator)


@BIRTHS.register("binomial")
@final
class BinomialBirths(Births):
    """The paper's draw: round the expected missing molecules up or down at random, then thin them.

    It ignores the spread of the posterior, so that few steps give under-dispersed counts.

    References
    ----------
    CountsDiff, section 3.4 (stochastic rounding).
    """

    def draw(self, posterior: Posterior, birth: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw births."""
        mean = posterior.mean
        whole = mean.floor()
        return binomial(whole + binomial(torch.ones_like(mean), mean - whole, generator), birth, generator)


@BIRTHS.register("posterior")
@final
class PosteriorBirths(Births):
    """Births from the posterior itself: the exact reverse kernel of one entry, negative binomial for a Gamma rate."""

    def draw(self, posterior: Posterior, birth: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw births."""
        return posterior.draw(generator, fraction=birth)
