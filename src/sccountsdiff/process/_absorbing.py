r"""Masking: how whole entries are hidden, and how they are revealed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from sccountsdiff.process._births import Births, PosteriorBirths
from sccountsdiff.process._posterior import Posterior
from sccountsdiff.process._process import Believes, Process, Shown, bridge, nobody_dies
from sccountsdiff.process._reveal import IndependentReveal, Reveal
from sccountsdiff.process._schedule import LinearSchedule, Schedule

#: A hidden entry. It is no number, so that no count can be taken for it and it cannot be clamped into one.
MASK = math.nan
#: How far the library size of a cell may be from the one wanted, as a part of it.
SIZE_TOLERANCE = 1e-3


@final
class Absorbing(Process):
    r"""Each entry survives whole with probability alpha, or turns into MASK: absorbing, or masked, diffusion.

    The unit that dies and returns is the entry, not the molecule; the probabilities of death and return are the same
    (:func:`bridge`). Under the linear schedule :math:`\alpha = 1 - t` a hidden entry is revealed with probability
    :math:`(t - s) / t`, so that after step k of N the share 1 - k / N is still hidden.

    A state holds counts, and NaN where an entry is masked. An entry of survival 0 is masked whatever it holds: zeros
    will do as the start of a walk.

    Parameters
    ----------
    reveal
        Which of the hidden entries are revealed in a step.
    schedule
        Survival over time in a walk back; linear if ``None``, so that each step reveals as many entries.

    References
    ----------
    DCM (Bhattacharya et al. 2026), section 2; MDLM (Sahoo et al. 2024); remasking: ReMDM (Wang et al. 2025). The
    released code of DCM reveals by the *forward* rate, nearly all entries in the first step.
    """

    births = PosteriorBirths()
    #: Groups of genes that are predicted from the others in turn, see :meth:`remeasure`.
    N_GROUPS = 10

    def __init__(self, reveal: Reveal | None = None, schedule: Schedule | None = None) -> None:
        self.reveal = IndependentReveal() if reveal is None else reveal
        self._schedule = LinearSchedule() if schedule is None else schedule

    def corrupt(self, x_0: Tensor, alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Mask entries."""
        return torch.where(_toss(x_0, alpha, generator), x_0, MASK)

    def renoise(
        self, x_s: Tensor, alpha_s: Tensor, alpha_t: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Mask further: those seen at ``alpha_s`` stay with probability ``alpha_t / alpha_s``."""
        tiny = torch.finfo(alpha_s.dtype).tiny
        return self.corrupt(x_s, alpha_t / alpha_s.clamp_min(tiny), generator)

    def begin(self, x_0: Tensor, survival: float, size: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Mask entries of cells that have the size that is wanted."""
        other = (size - 1).abs() > SIZE_TOLERANCE
        if survival > 0 and bool(other.any()):
            raise ValueError(
                f"Masked cells keep entries whole, so that a walk cannot begin from a cell of another library size: one "
                f"would have to be {float(size[other][0]):.3g} times as large. Ask for the library size of the cells "
                "that the walk begins from, or let it begin from nothing (start='zeros')."
            )
        return self.corrupt(x_0, torch.full_like(size, survival), generator)

    def shown(self, x_t: Tensor, alpha: Tensor) -> Shown:
        """Counts with 0 for MASK, and survival 1 or 0: what is masked is known entry by entry."""
        masked = _masked(x_t, alpha)
        return Shown(x_t.masked_fill(masked, 0.0), (~masked).to(x_t.dtype))

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
        """One reverse step: seen entries are masked again with probability ``death``, masked ones revealed."""
        masked = _masked(x_t, alpha_t)
        birth = torch.where(masked, bridge(alpha_t, alpha_s, death), 0.0)
        candidates = births.draw(posterior, torch.ones_like(birth[..., :1]), generator)
        revealed = self.reveal.choose(candidates, posterior, birth, generator)
        x_s = torch.where(revealed, candidates, x_t.masked_fill(masked, MASK))
        if not nobody_dies(death):
            x_s = torch.where(~masked & _toss(x_t, death, generator), MASK, x_s)
        return x_s

    def check_seen(self, survival: Tensor) -> None:
        """Refuse entries that were seen in part, as those of a shallow cell are."""
        partly = (survival > 0) & (survival < 1)
        if bool(partly.any()):
            raise ValueError(
                "Masking hides and reveals whole entries: it cannot add molecules to an entry of which a part was seen "
                f"(survival {float(survival[partly][0]):.3g}), as recovering a shallow cell would need. Hide entries "
                "with a mask, or use a model of thinning."
            )

    def remeasure(
        self, denoiser: Believes, seen: Shown, condition: Mapping[str, Tensor], wanted: Tensor | None = None
    ) -> Posterior:
        """Each seen entry from the others: genes are hidden in ten groups, one group in each pass.

        A masked denoiser says nothing of an entry it is shown; the entry's own count is not used. One more pass serves
        the hidden entries.
        """
        posterior = denoiser(*seen, condition)
        asked = (seen.survival > 0).expand_as(seen.counts)
        asked = asked if wanted is None else asked & wanted
        group = torch.arange(asked[0].numel(), device=asked.device).reshape(asked.shape[1:]) % self.N_GROUPS
        for number in range(self.N_GROUPS):
            left_out = asked & (group == number)
            if bool(left_out.any()):
                survival = seen.survival.expand_as(seen.counts).masked_fill(left_out, 0.0)
                without = denoiser(seen.counts.masked_fill(left_out, 0.0), survival, condition)
                posterior = without.where(left_out, posterior)
        return posterior

    def schedule(self, library_size: float) -> Schedule:
        """The schedule that was chosen; the number of entries does not depend on the library size."""
        return self._schedule

    def loss(self, posterior: Posterior, x_0: Tensor, x_t: Tensor) -> Tensor:
        r"""Cross-entropy of the masked entries, 0 for the others (DCM, eq. 6).

        Weighted by :math:`1 / (1 - \alpha)`, 1 / t under the linear schedule, it is the NELBO (MDLM, eq. 10).
        """
        masked = x_t.isnan()
        return torch.where(masked, -posterior.log_prob(torch.where(masked, x_0, 0.0)), 0.0)

    def reference(self, x_0: Tensor, seen: Tensor) -> Shown:
        """Nothing but the condition: a cell with all entries masked."""
        return Shown(torch.zeros_like(x_0), torch.zeros_like(seen))

    def control(self, reference: Posterior, x_0: Tensor, x_t: Tensor, alpha: Tensor) -> Tensor:
        r"""``(1 - [masked] / (1 - alpha)) * cross-entropy``, which has mean zero."""
        return (x_t.isnan() / (1 - alpha) - 1) * reference.log_prob(x_0)


def _masked(x_t: Tensor, alpha: Tensor) -> Tensor:
    """Where an entry is hidden."""
    return x_t.isnan() | (alpha <= 0)


def _toss(like: Tensor, probability: Tensor, generator: torch.Generator | None) -> Tensor:
    """A coin for each entry."""
    return torch.rand(like.shape, generator=generator, device=like.device) < probability
