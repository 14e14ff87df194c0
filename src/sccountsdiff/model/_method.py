"""Ways to work out what is missing, side by side."""

from __future__ import annotations

from abc import ABC, abstractmethod
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, final

import torch
from torch import Tensor

from sccountsdiff.conditioning import ClassifierFreeGuidance
from sccountsdiff.model._module import fresh_measurement
from sccountsdiff.model._question import Question, View
from sccountsdiff.nets import Denoiser
from sccountsdiff.process import BIRTHS, SCHEDULES, Posterior, PosteriorBirths, Process, Registry, Shown
from sccountsdiff.sampling import Known, RePaintSampler, RescaledAttrition, Sampler, Thinned, survival_grid

METHODS: Registry[Method] = Registry("imputation method")


class Engine(NamedTuple):
    """The trained core, as a method uses it."""

    denoiser: Denoiser
    process: Process
    #: Mean library size of the training cells, in UMI counts.
    library_mean: float


class Belief(NamedTuple):
    """Counts as the sum of what is kept and a posterior over what is added, entry by entry."""

    kept: Tensor
    added: Posterior

    def mean(self) -> Tensor:
        """Expected counts, ``(n_cells, n_genes)``."""
        return self.kept + self.added.mean

    def variance(self) -> Tensor:
        """Variance of the counts, ``(n_cells, n_genes)``; 0 where they are known."""
        return self.added.variance.expand_as(self.kept)

    def quantile(self, level: float) -> Tensor:
        """Quantile of the counts, ``(n_cells, n_genes)``."""
        return self.kept + self.added.quantile(level)


class Method(ABC):
    """How missing counts are worked out."""

    #: Whether :meth:`belief` exists, or there are draws only.
    closed_form: ClassVar[bool]

    @abstractmethod
    def draw(self, engine: Engine, view: View, generator: torch.Generator) -> Tensor:
        """Draw whole cells.

        Parameters
        ----------
        engine
            The trained core.
        view
            What is shown of the cells.
        generator
            Source of randomness, on the device of the counts.

        Returns
        -------
        UMI counts ``(n_cells, n_genes)``, integer-valued floats.
        """

    @abstractmethod
    def belief(self, engine: Engine, view: View) -> Belief:
        """The law of each entry in closed form.

        Parameters
        ----------
        engine
            The trained core.
        view
            What is shown of the cells.
        """

    @abstractmethod
    def check(self, question: Question) -> None:
        """Raise ``ValueError`` if this method cannot answer a question.

        Parameters
        ----------
        question
            What is asked of all cells.
        """


@METHODS.register("direct")
@final
@dataclass(frozen=True)
class Direct(Method):
    """The network is shown the survival of every entry: one pass for closed forms, a walk for joint draws.

    Parameters
    ----------
    n_steps
        Steps of the walk. 1 draws every entry on its own, from the closed form.
    """

    closed_form: ClassVar[bool] = True
    n_steps: int = 20

    def draw(self, engine: Engine, view: View, generator: torch.Generator) -> Tensor:
        """Missing molecules together, by a walk that keeps what was seen; then fresh measurements of seen entries."""
        drawn = view.counts
        if bool((view.survival < 1).any()):
            sampler = Sampler(engine.process, engine.denoiser, PosteriorBirths())
            seen = Thinned(view.counts, view.survival)
            grid = survival_grid(engine.process.schedule(engine.library_mean), self.n_steps)
            drawn = sampler.sample(torch.zeros_like(view.counts), view.condition, grid, seen, generator)
        remeasured = view.fresh & (view.survival == 1)
        if not bool(remeasured.any()):
            return drawn
        return torch.where(remeasured, fresh_measurement(_posterior(engine, view)).draw(generator), drawn)

    def belief(self, engine: Engine, view: View) -> Belief:
        """One pass. A fresh measurement keeps nothing of the old one, and adds all molecules."""
        added = copy(_posterior(engine, view))
        added.alpha = torch.where(view.fresh, 0.0, view.survival)
        return Belief(view.counts.masked_fill(view.fresh, 0), added)

    def check(self, question: Question) -> None:
        """Every question has an answer."""


@METHODS.register("repaint")
@final
@dataclass(frozen=True)
class RePaint(Method):
    """The imputation of the paper: all entries walk at one survival, seen ones are thinned afresh at every step.

    The defaults are those of the paper (its 20 grid points are 19 steps). Its jump is longer than its walk, so that
    every repetition starts from nothing and only the last one counts; ``jump=1`` to ``5`` does resample.

    Parameters
    ----------
    n_steps
        Steps of the walk.
    n_resample
        Times that each window of the walk is repeated.
    jump
        Steps of a window.
    guidance
        Guidance scale; 1 is none. Needs a model trained with condition dropout.
    attrition
        Part of the largest admissible death probability in each step.
    births
        Name of the birth draw.
    schedule
        Name of the survival schedule of the walk.

    References
    ----------
    CountsDiff (arXiv 2604.03779), imputation; Lugmayr et al. 2022 (RePaint).
    """

    closed_form: ClassVar[bool] = False
    n_steps: int = 19
    n_resample: int = 3
    jump: int = 20
    guidance: float = 0.5
    attrition: float = 0.02
    births: str = "binomial"
    schedule: str = "cosine"

    def draw(self, engine: Engine, view: View, generator: torch.Generator) -> Tensor:
        """Walk with resampling."""
        denoiser = ClassifierFreeGuidance(self.guidance).wrap(engine.denoiser)
        sampler = Sampler(engine.process, denoiser, BIRTHS[self.births](), RescaledAttrition(self.attrition))
        known = Known(view.counts, (view.survival == 1).expand_as(view.counts))
        grid = survival_grid(SCHEDULES[self.schedule](), self.n_steps)
        return RePaintSampler(sampler, self.n_resample, self.jump).sample(known, view.condition, grid, generator)

    def belief(self, engine: Engine, view: View) -> Belief:
        """There is none."""
        raise ValueError("RePaint has no closed form. Ask for n_samples, or use method='direct'.")

    def check(self, question: Question) -> None:
        """Only hidden entries can be filled in."""
        if question.replace != "masked" or question.depth is not None:
            raise ValueError(
                "RePaint fills in hidden entries only: pass mask= (and neither replace= nor target_depth=), or use "
                "method='direct'."
            )


def _posterior(engine: Engine, view: View) -> Posterior:
    """What is believed of hidden entries, and of fresh measurements of the seen ones that want one."""
    return engine.process.remeasure(engine.denoiser, Shown(view.counts, view.survival), view.condition, view.fresh)


def parse_method(method: str | Method, n_steps: int | None) -> Method:
    """A method from its name, or the method itself.

    Raises
    ------
    ValueError
        If ``n_steps`` is given beside an object, which has its own.
    """
    if not isinstance(method, str):
        if n_steps is not None:
            raise ValueError(f"n_steps={n_steps} is given beside {method}, which has steps of its own. Set them there.")
        return method
    options: dict[str, Any] = {} if n_steps is None else {"n_steps": n_steps}
    return METHODS[method](**options)
