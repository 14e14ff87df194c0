"""Guidance: a denoiser wrapped into one that insists on its condition."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol, final

import torch
from torch import Tensor

from sccountsdiff.conditioning._keys import Condition, Key
from sccountsdiff.process import Posterior


class ConditionalDenoiser(Protocol):
    """What guidance needs of a denoiser."""

    keys: tuple[Key, ...]
    condition_dropout: float

    def __call__(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Posterior:
        """Posterior over the missing molecules."""
        ...


class Guidance(ABC):
    """How hard a sampler should insist on a condition: wraps a denoiser into a guided one."""

    @abstractmethod
    def wrap(self, denoiser: ConditionalDenoiser) -> ConditionalDenoiser:
        """Return the guided denoiser.

        Parameters
        ----------
        denoiser
            A denoiser that was trained with condition dropout.

        Raises
        ------
        ValueError
            If the denoiser was trained without condition dropout, so that it has no null to compare with.
        """


@final
class ClassifierFreeGuidance(Guidance):
    r"""Joint guidance: :math:`\log r = \log r_\varnothing + \gamma (\log r_c - \log r_\varnothing)`.

    Parameters
    ----------
    scale
        Guidance scale gamma: 0 ignores the condition, 1 (no guidance) follows the model, more exaggerates. The other
        convention in the literature, ``w = gamma - 1``, calls no guidance 0.

    References
    ----------
    CountsDiff, section 3.3; Nisonoff et al. 2025.
    """

    def __init__(self, scale: float) -> None:
        self.scale = _checked_scale(scale, "guidance scale")

    def wrap(self, denoiser: ConditionalDenoiser) -> ConditionalDenoiser:
        """Guide jointly over all keys that the condition gives; scale 1 returns the denoiser itself."""
        if self.scale == 1:
            return denoiser
        return _GuidedDenoiser(denoiser, [(frozenset(key.name for key in denoiser.keys), self.scale)])


@final
class CompositionalGuidance(Guidance):
    r"""One term per key: :math:`\log r = \log r_\varnothing + \sum_k w_k (\log r_{c_k} - \log r_\varnothing)`.

    Parameters
    ----------
    scales
        Guidance scale of each key; a key that is not named does not steer at all.
    """

    def __init__(self, scales: Mapping[str, float]) -> None:
        self.scales = {name: _checked_scale(scale, f"guidance scale of {name!r}") for name, scale in scales.items()}

    def wrap(self, denoiser: ConditionalDenoiser) -> ConditionalDenoiser:
        """Guide by each key on its own."""
        known = [key.name for key in denoiser.keys]
        unknown = [name for name in self.scales if name not in known]
        if unknown:
            raise ValueError(f"Guidance names {unknown}, which are not condition keys. Condition keys: {known}.")
        return _GuidedDenoiser(denoiser, [(frozenset([name]), scale) for name, scale in self.scales.items()])


@final
class ContrastGuidance(Guidance):
    r"""The effect of one key, found where the other keys are not given, added to the control of the cell's own context.

    .. math:: \log r = \log r_{u, \mathrm{control}} + w (\log r_{\mathrm{value}} - \log r_{\mathrm{control}})

    with :math:`u` the other keys: for combinations ``(u, value)`` that were never measured, while ``(u, control)`` was.

    Parameters
    ----------
    name
        Key whose effect is contrasted.
    control
        Code of its control.
    scale
        Guidance scale w; 1 adds the effect as it is.
    """

    def __init__(self, name: str, control: int, scale: float = 1.0) -> None:
        self.name = name
        self.control = control
        self.scale = _checked_scale(scale, "guidance scale of the contrast")

    def wrap(self, denoiser: ConditionalDenoiser) -> ConditionalDenoiser:
        """Steer from the control of the context along the effect of the key."""
        known = [key.name for key in denoiser.keys]
        if self.name not in known:
            raise ValueError(f"Guidance names {self.name!r}, which is no condition key. Condition keys: {known}.")
        return _ContrastDenoiser(denoiser, self.name, self.control, self.scale)


def _checked_scale(scale: float, what: str) -> float:
    if not (math.isfinite(scale) and 0 <= scale <= 20):
        raise ValueError(f"The {what} must lie between 0 (ignore the condition) and 20, got {scale}. 1 is no guidance.")
    return float(scale)


def _check_dropout(denoiser: ConditionalDenoiser) -> None:
    if denoiser.condition_dropout == 0:
        raise ValueError(
            "Guidance needs a model trained with condition dropout (condition_dropout > 0): this one never learned "
            "what a cell looks like when its condition is not given."
        )


@final
class _GuidedDenoiser:
    """A denoiser whose log rates are pushed from the null towards subsets of the condition."""

    def __init__(self, denoiser: ConditionalDenoiser, terms: Sequence[tuple[frozenset[str], float]]) -> None:
        _check_dropout(denoiser)
        self.denoiser = denoiser
        self.terms = tuple(terms)
        self.keys = denoiser.keys
        self.condition_dropout = denoiser.condition_dropout

    def __call__(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Posterior:
        steering = {key.name for key in self.keys}
        free = {name: value for name, value in condition.items() if name not in steering}
        null = self.denoiser(x_t, alpha, free)
        guided = null
        for names, scale in self.terms:
            given = {name: value for name, value in condition.items() if name in names}
            guided = guided.tilt(self.denoiser(x_t, alpha, free | given), null, scale)
        return guided


@final
class _ContrastDenoiser:
    """A denoiser whose log rates under a control are pushed along the effect of one key by itself."""

    def __init__(self, denoiser: ConditionalDenoiser, name: str, control: int, scale: float) -> None:
        _check_dropout(denoiser)
        self.denoiser = denoiser
        self.name, self.control, self.scale = name, control, scale
        self.keys = denoiser.keys
        self.condition_dropout = denoiser.condition_dropout

    def __call__(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Posterior:
        value = condition[self.name]
        control = {self.name: torch.full_like(value, self.control)}
        steering = {key.name for key in self.keys}
        free = {name: given for name, given in condition.items() if name not in steering}
        at_control = self.denoiser(x_t, alpha, {**condition, **control})
        with_effect = self.denoiser(x_t, alpha, free | {self.name: value})
        return at_control.tilt(with_effect, self.denoiser(x_t, alpha, free | control), self.scale)
