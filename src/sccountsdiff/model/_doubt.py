"""How far a finished network is told to trust the condition of a cell."""

from __future__ import annotations

from typing import NamedTuple, final

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sccountsdiff.conditioning import ConditionEncoder, condition_encoders
from sccountsdiff.model._callbacks import held_out_bounds, is_worse
from sccountsdiff.model._module import CountDiffusionModule


@final
class DoubtConditions(Callback):
    """Pull the tokens of a key towards its null as far as held-out cells become more likely, if they clearly do.

    A network that saw few cells of a category knows these by heart and takes the category for more typical than it is:
    what it is told of a cell outweighs what it sees of it, and cells that it generates lie too near to the middle of
    their type. Each key has one factor (:attr:`~sccountsdiff.conditioning.ConditionEncoder.trust`), found by the bound of
    cells that were held out, on the same thinned counts each time. It stays at 1 unless the gain exceeds its own
    standard error and is worth having: cells that are less typical than they should be are the greater harm. A cell of
    which nothing is seen yet has the same factor, or 1 if the bound prefers that: there the condition is all there is
    to go by.
    """

    #: Trust that is tried after 1, one after the other, while cells become more likely; not below the last of them.
    LEVELS = (0.9, 0.8, 0.7)
    #: Gain in nats a cell that is worth having: with many held-out cells, less than this can exceed its standard error.
    LEAST_GAIN = 0.05
    #: Held-out cells that are asked, about.
    N_CELLS = 4096

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Trust all: what is learned is learned from whole tokens, also in a second training."""
        for encoder in _doubtful(pl_module.module):
            encoder.trust.fill_(1.0)
            encoder.trust_unseen.fill_(1.0)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find it, key by key."""
        encoders = _doubtful(pl_module.module)
        bounds = held_out_bounds(trainer, pl_module, self.N_CELLS) if encoders else None
        if bounds is None:
            return
        for encoder in encoders:
            for number in range(len(encoder.keys)):
                trust = _Trust(encoder.trust[number : number + 1], encoder.trust_unseen[number : number + 1])
                bounds = self._doubt(trainer, pl_module, trust, bounds)

    def _doubt(self, trainer: pl.Trainer, pl_module: pl.LightningModule, trust: _Trust, full: Tensor) -> Tensor:
        """Lower the trust in one key, in place; the bounds then, of those before."""
        best, found, trusted = full, (1.0, 1.0), (1.0, 1.0)
        try:
            for level in self.LEVELS:
                trust.set(level, level)
                bounds = held_out_bounds(trainer, pl_module, self.N_CELLS)
                if bounds.mean() >= best.mean():
                    break
                best, found = bounds, (level, level)
            if found < (1.0, 1.0):
                trust.set(found[0], 1.0)
                bounds = held_out_bounds(trainer, pl_module, self.N_CELLS)
                if bounds.mean() < best.mean():
                    best, found = bounds, (found[0], 1.0)
            if is_worse(full, best) and (full - best).mean() >= self.LEAST_GAIN:
                trusted = found
        finally:  # also of an interruption: a level that was only tried is none
            trust.set(*trusted)
        return best if trusted < (1.0, 1.0) else full


class _Trust(NamedTuple):
    """Trust in one key, of cells that are seen and of those that are not: views of shape ``(1,)``."""

    seen: Tensor
    unseen: Tensor

    def set(self, seen: float, unseen: float) -> None:
        """Change both, in place."""
        self.seen.fill_(seen)
        self.unseen.fill_(unseen)


def _doubtful(module: CountDiffusionModule) -> list[ConditionEncoder]:
    """Encoders to find the trust of: a model that keeps what another has learned keeps it, one without nulls trusts all."""
    kept = module.denoiser.offsets.everyone.n_kept or module.denoiser.condition_dropout == 0
    return [] if kept else condition_encoders(module.denoiser)
