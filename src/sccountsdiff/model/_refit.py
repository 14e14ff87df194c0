"""The law of each gene, fitted once more when the network is done."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice, repeat
from typing import final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from scvi.utils import track
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from sccountsdiff.nets import FAST
from sccountsdiff.objective import UniformSurvival


@final
class RefitGenes(Callback):
    """Fit what each gene has of its own (:meth:`~sccountsdiff.nets.Head.scaled_logs`) to the finished network.

    In training the network speaks through dropout, and the laws of the genes learn that noise as well: they come out
    too wide. Rare genes, of which a minibatch says little, have also not come far by then. So at the end the network
    is held still, without dropout, and only these numbers are learned, over uniform survivals.
    """

    #: Cells to go through, and the most minibatches.
    N_CELLS, MOST_STEPS = 76_800, 600
    #: Steps of the training for each of these, at least: what follows a short training is short.
    SHARE = 3
    #: First step of a logarithm; steps get smaller, down to zero.
    STEP = 0.1
    #: How far a logarithm may lie from what training has found, as a standard deviation.
    SPREAD = 1.0

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit them."""
        fitted = [logs for logs in pl_module.module.denoiser.scaled_logs() if logs.requires_grad]
        n_cells = pl_module.n_obs_training or 1
        n_batches = self.N_CELLS * trainer.num_training_batches / n_cells
        n_steps = math.ceil(min(n_batches, self.MOST_STEPS, trainer.global_step / self.SHARE))
        if fitted and n_steps:
            with _held_still(pl_module.module, fitted):
                self._fit(trainer, pl_module, fitted, n_steps)

    def _fit(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, fitted: Sequence[nn.Parameter], n_steps: int
    ) -> None:
        module, n_cells = pl_module.module, pl_module.n_obs_training or 1
        objective = replace(module.objective, pattern=UniformSurvival(log_fraction=0.0), library_dropout=0.0)
        optimizer = Adam(fitted, lr=self.STEP / FAST, betas=(0.9, 0.99))
        schedule = LambdaLR(optimizer, lambda step: 1 - step / n_steps)
        start = [logs.detach().clone() for logs in fitted]
        minibatches = islice(chain.from_iterable(repeat(trainer.train_dataloader)), n_steps)
        silent = trainer.progress_bar_callback is None or not trainer.is_global_zero
        for minibatch in track(minibatches, description="Fitting genes", total=n_steps, disable=silent):
            losses = module.cell_loss(trainer.strategy.batch_to_device(minibatch), objective)
            optimizer.zero_grad()
            (losses.mean() + self._prior(fitted, start) / n_cells).backward()
            for logs in fitted:
                logs.grad = trainer.strategy.reduce(logs.grad, reduce_op="mean")
            optimizer.step()
            schedule.step()

    def _prior(self, fitted: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
        """Negative log prior in nats, up to a constant."""
        far = torch.cat([FAST * (now - before) / self.SPREAD for now, before in zip(fitted, start, strict=True)])
        return far.square().sum() / 2


@contextmanager
def _held_still(module: nn.Module, fitted: Sequence[nn.Parameter]) -> Iterator[None]:
    """A network without dropout, all of whose parameters but some are constants meanwhile."""
    held = [p for p in module.parameters() if p.requires_grad and not any(p is one for one in fitted)]
    was_training = module.training
    module.eval()
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
        module.train(was_training)
