"""Stages at the end of a training, in which the network speaks without dropout."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice, repeat

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from scvi.utils import track
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.objective import Objective


class Finish(Callback, ABC):
    """Train some parameters of a finished model a little more, without dropout.

    The learning rate rises over a few steps, then comes down to zero. An interruption leaves them as they were.
    """

    #: Cells to go through, and the most minibatches.
    N_CELLS, MOST_STEPS = 76_800, 600
    #: Steps of the training for each of these, at least: what follows a short training is short.
    SHARE = 3
    #: Steps over which the learning rate rises.
    WARMUP = 20
    #: What the progress bar says.
    description: str

    @abstractmethod
    def learned(self, module: CountDiffusionModule) -> list[nn.Parameter]:
        """Parameters to train; none leaves the model as it is."""

    @abstractmethod
    def objective(self, module: CountDiffusionModule) -> Objective:
        """What they are trained on."""

    @abstractmethod
    def optimizer(self, module: CountDiffusionModule) -> Optimizer:
        """Optimiser of those parameters that require a gradient, which are the learned ones."""

    @abstractmethod
    def prior(self, module: CountDiffusionModule, learned: Sequence[nn.Parameter]) -> Callable[[], Tensor | float]:
        """Negative log prior in nats, up to a constant."""

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train."""
        module = pl_module.module
        learned = [parameter for parameter in self.learned(module) if parameter.requires_grad]
        n_cells = pl_module.n_obs_training or 1
        n_batches = self.N_CELLS * trainer.num_training_batches / n_cells
        n_steps = math.ceil(min(n_batches, self.MOST_STEPS, trainer.global_step / self.SHARE))
        if learned and n_steps:
            with _others_held(module, learned), _undone_if_interrupted(learned):
                self._train(trainer, pl_module, learned, n_steps)

    def _train(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, learned: Sequence[nn.Parameter], n_steps: int
    ) -> None:
        module, n_cells = pl_module.module, pl_module.n_obs_training or 1
        objective, optimizer, prior = self.objective(module), self.optimizer(module), self.prior(module, learned)
        schedule = LambdaLR(optimizer, lambda step: min(1, (step + 1) / self.WARMUP) * (1 - step / n_steps))
        minibatches = islice(chain.from_iterable(repeat(trainer.train_dataloader)), n_steps)
        silent = trainer.progress_bar_callback is None or not trainer.is_global_zero
        for minibatch in track(minibatches, description=self.description, total=n_steps, disable=silent):
            losses = module.cell_loss(trainer.strategy.batch_to_device(minibatch), objective)
            optimizer.zero_grad()
            (losses.mean() + prior() / n_cells).backward()
            for parameter in learned:
                if parameter.grad is not None:
                    parameter.grad = trainer.strategy.reduce(parameter.grad, reduce_op="mean")
            optimizer.step()
            schedule.step()


@contextmanager
def _others_held(module: nn.Module, learned: Sequence[nn.Parameter]) -> Iterator[None]:
    """A network without dropout, all of whose parameters but some are constants meanwhile."""
    held = [p for p in module.parameters() if p.requires_grad and not any(p is one for one in learned)]
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


@contextmanager
def _undone_if_interrupted(learned: Sequence[nn.Parameter]) -> Iterator[None]:
    """Parameters that are as before if a user interrupts: half-way, at a high learning rate, they are good for nothing."""
    before = [parameter.detach().clone() for parameter in learned]
    try:
        yield
    except KeyboardInterrupt:
        for parameter, value in zip(learned, before, strict=True):
            parameter.data.copy_(value)
        raise
