"""The network, trained a little more without dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import final

import lightning.pytorch as pl
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from sccountsdiff.model._callbacks import held_out_bounds, is_worse
from sccountsdiff.model._finish import Finish
from sccountsdiff.model._growth import weight_groups
from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.objective import Objective, Taught


@final
class Polish(Finish):
    """Train the network a little more without dropout, half on what it expects itself.

    Under dropout a network sees a part of a cell, and learns to answer to it too weakly. A walk back answers to what
    it has made so far, again and again, so that a little too weakly leaves generated cells without much of what genes do
    together. Without dropout a network would soon know its cells by heart; that half of the molecules are those
    expected by the network as it was (:class:`~sccountsdiff.objective.Taught`) holds it back. Where the bound of
    held-out cells gets worse nevertheless, as it may with many genes and few cells, the network tells nearly all; that has
    to make it better, or all stays as it was.
    """

    description = "Polishing"
    #: Largest learning rate.
    RATE = 3e-4
    #: Held-out cells that are asked, about: a tenth of an atlas would take long.
    N_HELD_OUT = 16_384
    #: Part of the molecules that the network tells itself, and standard errors by which the bound of held-out cells may
    #: get worse: a first and a second try.
    TRIES = ((0.5, 1.0), (0.9, 0.0))
    #: That of the try under way.
    _share = TRIES[0][0]

    def learned(self, module: CountDiffusionModule) -> list[nn.Parameter]:
        """All weights but what each gene has of its own; none under heads that lack such, and so a law of whole cells."""
        own = module.denoiser.scaled_logs()
        return [p for p in module.parameters() if own and not any(p is logs for logs in own)]

    def objective(self, module: CountDiffusionModule) -> Objective:
        """That of the training, with the network as it is for a teacher."""
        teacher = deepcopy(module.denoiser).eval().requires_grad_(False)
        return replace(module.objective, weigh=Taught(teacher, self._share))

    def optimizer(self, module: CountDiffusionModule) -> Optimizer:
        """AdamW without decay."""
        return AdamW(weight_groups(module), lr=self.RATE, weight_decay=0.0)

    def prior(self, module: CountDiffusionModule, learned: Sequence[nn.Parameter]) -> Callable[[], Tensor | float]:
        """That of the training."""
        return module.penalty

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train, and go back if held-out cells say so."""
        state = {name: value.clone() for name, value in pl_module.module.state_dict().items()}
        before = held_out_bounds(trainer, pl_module, self.N_HELD_OUT)
        for share, n_errors in self.TRIES:
            self._share = share
            super().on_train_end(trainer, pl_module)
            after = held_out_bounds(trainer, pl_module, self.N_HELD_OUT)
            if before is None or after is None or not is_worse(after, before, n_errors):
                return
            pl_module.module.load_state_dict(state)
