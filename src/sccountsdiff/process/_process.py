"""What a process is: how units die and return, be they molecules or whole entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from sccountsdiff.process._births import Births
from sccountsdiff.process._posterior import Posterior
from sccountsdiff.process._schedule import Schedule


def max_death(alpha_t: Tensor, alpha_s: Tensor) -> Tensor:
    r"""Largest admissible death probability of a reverse step, :math:`\min(1, (1 - \alpha_s) / \alpha_t)`.

    Parameters
    ----------
    alpha_t, alpha_s
        Survival now and after the step; any broadcastable shapes.

    Returns
    -------
    Probabilities of the broadcast shape; 1 where ``alpha_t`` is 0, for nobody is left to die.

    References
    ----------
    CountsDiff, Prop. 3.2.
    """
    # At alpha_t = 0 nobody is left to die and any death probability will do.
    ratio = torch.where(alpha_t > 0, (1 - alpha_s) / alpha_t.clamp_min(torch.finfo(alpha_t.dtype).tiny), 1.0)
    return ratio.clamp(0, 1)


def bridge(alpha_t: Tensor, alpha_s: Tensor, death: Tensor) -> Tensor:
    r"""Birth probability of a reverse step, :math:`(\alpha_s - (1 - \sigma) \alpha_t) / (1 - \alpha_t)`.

    It keeps the marginals: a unit is alive at s with probability
    :math:`\alpha_t (1 - \sigma) + (1 - \alpha_t)\,\mathrm{birth} = \alpha_s`. The units are molecules under thinning
    and entries under masking; the formula is the same.

    Parameters
    ----------
    alpha_t, alpha_s
        Survival now and after the step, ``alpha_s >= alpha_t``; any broadcastable shapes.
    death
        Death probability ``sigma`` of the living, at most :func:`max_death`.

    Returns
    -------
    Probabilities of the broadcast shape.

    References
    ----------
    CountsDiff, Prop. 3.2 and Alg. 2.
    """
    # Where alpha_t = 1 nothing is missing, so the birth probability does not matter.
    dead = (1 - alpha_t).clamp_min(torch.finfo(alpha_t.dtype).eps)
    return ((alpha_s - (1 - death) * alpha_t) / dead).clamp(0, 1)


def nobody_dies(death: Tensor) -> bool:
    """Whether a death probability is known to be 0 without waiting for a device.

    Parameters
    ----------
    death
        Death probability of a reverse step. One on the host, such as that of no attrition, is looked at; one on another
        device is not.
    """
    return death.device.type == "cpu" and not bool(death.any())


class Shown(NamedTuple):
    """What a denoiser is shown of a state.

    Parameters
    ----------
    counts
        Surviving UMI counts, ``(n_cells, n_genes)``; 0 where nothing was seen.
    survival
        Survival of the entries, ``(n_cells, 1)`` or ``(n_cells, n_genes)``; 0 marks an entry that was not seen.
    """

    counts: Tensor
    survival: Tensor


class Believes(Protocol):
    """What a process asks of a denoiser."""

    def __call__(self, x_t: Tensor, alpha: Tensor, condition: Mapping[str, Tensor]) -> Posterior:
        """Posterior over the missing molecules."""
        ...


class Process(ABC):
    """How counts lose information and regain it, and what a denoiser is to be scored on.

    What a state looks like is the process's own business: denoisers see it through :meth:`shown`, as counts and
    survivals.
    """

    #: How births are drawn unless a sampler is told otherwise.
    births: Births

    @abstractmethod
    def corrupt(self, x_0: Tensor, alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw surviving counts ``x_t``.

        Parameters
        ----------
        x_0
            Clean UMI counts, integer-valued floats ``(n_cells, n_genes)``.
        alpha
            Survival, broadcastable to ``x_0``.
        generator
            Source of randomness, on the device of the counts; the global one if None.
        """

    @abstractmethod
    def renoise(
        self, x_s: Tensor, alpha_s: Tensor, alpha_t: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw ``x_t`` given the state at a larger survival.

        Parameters
        ----------
        x_s
            Counts that survived at ``alpha_s``, ``(n_cells, n_genes)``.
        alpha_s, alpha_t
            Survival of the state and of the one wanted, ``alpha_s >= alpha_t``; broadcastable to ``x_s``.
        generator
            Source of randomness, on the device of the counts; the global one if None.
        """

    @abstractmethod
    def begin(self, x_0: Tensor, survival: float, size: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """State at which a walk towards cells of another size can begin.

        Parameters
        ----------
        x_0
            Clean UMI counts, ``(n_cells, n_genes)``.
        survival
            Survival of the state; 0 is a walk from nothing.
        size
            Library size that is wanted over that of ``x_0``, ``(n_cells, 1)``.
        generator
            Source of randomness, on the device of the counts; the global one if None.
        """

    def shown(self, x_t: Tensor, alpha: Tensor) -> Shown:
        """What a denoiser is shown of a state: the state itself unless a process says otherwise.

        Parameters
        ----------
        x_t
            State, ``(n_cells, n_genes)``.
        alpha
            Survival of its entries, broadcastable to ``x_t``.

        Returns
        -------
        Counts and survivals.
        """
        return Shown(x_t, alpha)

    def glimpse(self, x: Tensor, survival: Tensor) -> Shown:
        """As little of cells as still shows what they are, without a draw: by default all that was seen.

        Shown a whole cell, a denoiser tells its batch by its counts, whatever batch it is told.

        Parameters
        ----------
        x
            Counts that were seen, ``(n_cells, n_genes)``.
        survival
            Their survival, broadcastable to ``x``.

        Returns
        -------
        Counts and survivals.
        """
        return self.shown(x, survival)

    @abstractmethod
    def revive(
        self,
        x_t: Tensor,
        posterior: Posterior,
        alpha_t: Tensor,
        alpha_s: Tensor,
        death: Tensor,
        births: Births,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw ``x_s`` at a larger survival: one reverse step.

        Parameters
        ----------
        x_t
            Surviving counts, ``(n_cells, n_genes)``.
        posterior
            What a denoiser believes is missing.
        alpha_t, alpha_s
            Survival before and after the step, broadcastable to ``x_t``.
        death
            Death probability of the living, broadcastable to ``x_t``; at most :func:`max_death`.
        births
            How births are drawn from the posterior.
        generator
            Source of randomness, on the device of the counts; the global one if None.
        """

    @abstractmethod
    def check_seen(self, survival: Tensor) -> None:
        """Refuse survivals of which cells cannot be completed.

        Parameters
        ----------
        survival
            Part of each entry that was seen, ``(n_cells, 1)`` or ``(n_cells, n_genes)``.

        Raises
        ------
        ValueError
            Naming the survival that offends.
        """

    @abstractmethod
    def remeasure(
        self, denoiser: Believes, seen: Shown, condition: Mapping[str, Tensor], wanted: Tensor | None = None
    ) -> Posterior:
        """Posterior of the rates of the same cells, for a fresh measurement of entries that were seen or hidden.

        Parameters
        ----------
        denoiser
            The network.
        seen
            What was measured.
        condition
            Condition of each cell.
        wanted
            Boolean ``(n_cells, n_genes)``, the seen entries for which it is needed; ``None`` is all of them. Hidden
            entries always have theirs.
        """

    @abstractmethod
    def schedule(self, library_size: float) -> Schedule:
        """Survival over time in a walk back.

        Parameters
        ----------
        library_size
            UMI total of a cell to be reached.
        """

    @abstractmethod
    def loss(self, posterior: Posterior, x_0: Tensor, x_t: Tensor) -> Tensor:
        """Loss of each entry: with uniform survival and weight ``1 / (1 - alpha)`` a bound, up to :meth:`control`.

        Parameters
        ----------
        posterior
            What a denoiser believes is missing of ``x_t``.
        x_0
            Clean UMI counts, ``(n_cells, n_genes)``.
        x_t
            State drawn by :meth:`corrupt`.

        Returns
        -------
        Nats, ``(n_cells, n_genes)``.
        """

    @abstractmethod
    def reference(self, x_0: Tensor, seen: Tensor) -> Shown:
        """What a denoiser is shown for the control variate of the bound; it must not depend on the corruption.

        Parameters
        ----------
        x_0
            Clean UMI counts, ``(n_cells, n_genes)``.
        seen
            1 where an entry was measured, else 0; broadcastable to ``x_0``.
        """

    @abstractmethod
    def control(self, reference: Posterior, x_0: Tensor, x_t: Tensor, alpha: Tensor) -> Tensor:
        """What :meth:`loss` ``/ (1 - alpha)`` lacks to be a bound on ``-log p(x_0)``, and a term of mean zero.

        Parameters
        ----------
        reference
            Posterior at :meth:`reference`.
        x_0
            Clean UMI counts, ``(n_cells, n_genes)``.
        x_t
            State drawn by :meth:`corrupt`.
        alpha
            Survival of the state, broadcastable to ``x_t``.

        Returns
        -------
        Nats, ``(n_cells, n_genes)``.
        """
