"""How far a finished network is told to trust the condition of a cell."""

from __future__ import annotations

from typing import final

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

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
    standard error and is worth having: cells that are less typical than they should be are the greater harm.
    """

    #: Trust that is tried after 1, one after the other, while cells become more likely; not below the last of them.
    LEVELS = (0.9, 0.8, 0.7)
    #: Gain in nats a cell that is worth having: with many held-out cells, less than this can exceed its standard error.
    LEAST_GAIN = 0.05
    #: Held-out cells that are asked, about.
    N_CELLS = 4096

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find it; a model that keeps what another has learned keeps this as well, and one without nulls trusts all."""
        module: CountDiffusionModule = pl_module.module
        if module.denoiser.offsets.everyone.n_kept or module.denoiser.condition_dropout == 0:
            return
        for encoder in condition_encoders(module.denoiser):
            encoder.trust.fill_(1.0)
            for number in range(len(encoder.keys)):
                self._doubt(trainer, pl_module, encoder, number)

    def _doubt(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, encoder: ConditionEncoder, number: int
    ) -> None:
        """Lower the trust in one key."""
        full = best = held_out_bounds(trainer, pl_module, self.N_CELLS)
        found = trusted = 1.0
        try:
            for level in self.LEVELS if full is not None else ():
                encoder.trust[number] = level
                bounds = held_out_bounds(trainer, pl_module, self.N_CELLS)
                if bounds.mean() >= best.mean():
                    break
                best, found = bounds, level
            if full is not None and is_worse(full, best) and (full - best).mean() >= self.LEAST_GAIN:
                trusted = found
        finally:  # also of an interruption: a level that was only tried is none
            encoder.trust[number] = trusted
