"""Forms of an answer: expectation, variance, quantiles, draws."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from sccountsdiff.model._method import Engine, Method
from sccountsdiff.model._question import View
from sccountsdiff.model._sparse import sparse_block

_EXPECTED = "expected counts; a test of differences between groups must not use them (see test_markers)"


class Answer(ABC):
    """What to compute of each minibatch."""

    #: Whether it is read off the closed form of each entry.
    closed_form: ClassVar[bool]
    #: What the results are, for whoever finds them in a file.
    holds: ClassVar[str]

    @abstractmethod
    def names(self, name: str) -> list[str]:
        """Name of each result."""

    @abstractmethod
    def of(self, method: Method, engine: Engine, view: View, generator: torch.Generator) -> list[Tensor]:
        """The results for a minibatch, each ``(n_cells, n_genes)``."""

    def block(self, result: Tensor) -> Any:
        """A result as it is stored: dense float32."""
        return result.cpu().numpy().astype(np.float32, copy=False)

    @abstractmethod
    def combined(self, results: Sequence[Any]) -> Any:
        """What is returned to a user who wants no layer."""


@final
@dataclass(frozen=True)
class Mean(Answer):
    """Expected counts, in closed form."""

    closed_form: ClassVar[bool] = True
    holds: ClassVar[str] = _EXPECTED

    def names(self, name: str) -> list[str]:
        """The name itself."""
        return [name]

    def of(self, method: Method, engine: Engine, view: View, generator: torch.Generator) -> list[Tensor]:
        """One pass."""
        return [method.belief(engine, view).mean()]

    def combined(self, results: Sequence[Any]) -> NDArray[np.float32]:
        """``(n_cells, n_genes)``."""
        return results[0]


@final
@dataclass(frozen=True)
class MeanAndVariance(Answer):
    """Expected counts and the variance of the count of each entry, in closed form."""

    closed_form: ClassVar[bool] = True
    holds: ClassVar[str] = f"variance of each count beside {_EXPECTED}"

    def names(self, name: str) -> list[str]:
        """The name itself and ``<name>_variance``."""
        return [name, f"{name}_variance"]

    def of(self, method: Method, engine: Engine, view: View, generator: torch.Generator) -> list[Tensor]:
        """One pass for both."""
        belief = method.belief(engine, view)
        return [belief.mean(), belief.variance()]

    def combined(self, results: Sequence[Any]) -> NDArray[np.float32]:
        """``(2, n_cells, n_genes)``."""
        return np.stack(results)


@final
@dataclass(frozen=True)
class Quantiles(Answer):
    """Quantiles of the counts of each entry, in closed form.

    Parameters
    ----------
    levels
        Strictly between 0 and 1.
    """

    closed_form: ClassVar[bool] = True
    holds: ClassVar[str] = "quantiles of the counts"
    levels: tuple[float, ...]

    def __post_init__(self) -> None:
        wrong = [level for level in self.levels if not 0 < level < 1]
        if wrong or not self.levels:
            raise ValueError(f"Quantile levels must lie strictly between 0 and 1, got {wrong}.")

    def names(self, name: str) -> list[str]:
        """``<name>_q<level>``."""
        return [f"{name}_q{level:g}" for level in self.levels]

    def of(self, method: Method, engine: Engine, view: View, generator: torch.Generator) -> list[Tensor]:
        """One pass for all levels."""
        belief = method.belief(engine, view)
        return [belief.quantile(level) for level in self.levels]

    def combined(self, results: Sequence[Any]) -> NDArray[np.float32]:
        """``(n_levels, n_cells, n_genes)``."""
        return np.stack(results)


@final
@dataclass(frozen=True)
class Draws(Answer):
    """Joint draws of integer counts.

    Parameters
    ----------
    n_samples
        Number of draws; None is a single one.
    """

    closed_form: ClassVar[bool] = False
    holds: ClassVar[str] = "counts drawn by the model; analyses of several are pooled (see pool_imputations)"
    n_samples: int | None = None

    def __post_init__(self) -> None:
        _check_samples(1 if self.n_samples is None else self.n_samples)

    def names(self, name: str) -> list[str]:
        """``<name>_sample<k>``, or the name itself of one draw."""
        return [name] if self.n_samples in (None, 1) else [f"{name}_sample{k}" for k in range(self.n_samples)]

    def of(self, method: Method, engine: Engine, view: View, generator: torch.Generator) -> list[Tensor]:
        """One walk each."""
        return [method.draw(engine, view, generator) for _ in range(self.n_samples or 1)]

    def block(self, result: Tensor) -> sparse.csr_matrix:
        """Integers, sparse: most counts are zero."""
        return sparse_block(result)

    def combined(self, results: Sequence[Any]) -> sparse.csr_matrix | list[sparse.csr_matrix]:
        """One matrix ``(n_cells, n_genes)`` if no number of draws was asked for, else a list of them."""
        return results[0] if self.n_samples is None else list(results)


@final
@dataclass(frozen=True)
class MeanOfDraws(Answer):
    """Mean over joint draws: what a method without closed form expects.

    Parameters
    ----------
    n_samples
        Number of draws.
    """

    closed_form: ClassVar[bool] = False
    holds: ClassVar[str] = _EXPECTED
    n_samples: int

    def __post_init__(self) -> None:
        _check_samples(self.n_samples)

    def names(self, name: str) -> list[str]:
        """The name itself."""
        return [name]

    def of(self, method: Method, engine: Engine, view: View, generator: torch.Generator) -> list[Tensor]:
        """A running sum: memory does not grow with the number of draws."""
        total = torch.zeros_like(view.counts)
        for _ in range(self.n_samples):
            total += method.draw(engine, view, generator)
        return [total / self.n_samples]

    def combined(self, results: Sequence[Any]) -> NDArray[np.float32]:
        """``(n_cells, n_genes)``."""
        return results[0]


def parse_answer(
    method: Method,
    n_samples: int | None,
    quantiles: float | Sequence[float] | None,
    return_mean: bool,
    return_variance: bool,
) -> Answer:
    """The form of the answer that a user asks for.

    Raises
    ------
    ValueError
        If two forms are asked for at once, a number is out of range, or the method has no closed form to take the
        answer from.
    """
    if return_variance:
        _check_alone(n_samples, quantiles)
    answer = MeanAndVariance() if return_variance else _requested(n_samples, quantiles, return_mean)
    if answer.closed_form and not method.closed_form:
        raise ValueError(
            f"{type(method).__name__} has no closed form: ask for draws (n_samples=), for the mean over draws "
            "(n_samples= and return_mean=True), or use method='direct'."
        )
    return answer


def _requested(n_samples: int | None, quantiles: float | Sequence[float] | None, return_mean: bool) -> Answer:
    if quantiles is not None:
        if n_samples is not None:
            raise ValueError("Ask for n_samples or for quantiles, not for both.")
        return Quantiles(tuple(float(level) for level in np.atleast_1d(np.asarray(quantiles, dtype=float))))
    if not return_mean:
        return Draws(n_samples)
    return Mean() if n_samples is None else MeanOfDraws(n_samples)


def _check_alone(n_samples: int | None, quantiles: float | Sequence[float] | None) -> None:
    given = {"n_samples": n_samples, "quantiles": quantiles}
    for name in [name for name, value in given.items() if value is not None]:
        raise ValueError(f"return_variance=True answers with mean and variance; leave out {name}={given[name]!r}.")


def _check_samples(n_samples: int) -> None:
    if n_samples < 1:
        raise ValueError(f"n_samples must be at least 1, got {n_samples}.")
