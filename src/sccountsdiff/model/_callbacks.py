"""What happens around the training steps: weight averaging, keeping the best, surviving interruption."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from scvi.train import SaveCheckpoint
from torch import Tensor

#: First steps, after each of which the average is updated.
_DENSE_STEPS = 100


class AverageWeights(WeightAveraging):
    """Exponential moving average of the weights, used in validation and kept at the end.

    The decay rises as ``(1 + n) / (10 + n)`` over the first steps ``n``, so that a short training does not carry its
    random start along.

    Parameters
    ----------
    decay
        Final decay per step.
    every
        Steps between two updates, once the first hundred are over: an update costs as much as an optimiser step.
    """

    def __init__(self, decay: float = 0.999, every: int = 4) -> None:
        # Buffers are constants of the data here: they are copied, not averaged.
        super().__init__(use_buffers=False, multi_avg_fn=self._average)
        self.decay = decay
        self.every = every
        self._in_use = False

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether to update after step ``step_idx``."""
        return step_idx is not None and (step_idx < _DENSE_STEPS or (step_idx + 1) % self.every == 0)

    def _average(self, averaged: list[Tensor], current: list[Tensor], n_averaged: Any) -> None:
        step = self._latest_update_step  # of the update before this one
        decay = min(self.decay, (1 + step) / (10 + step)) ** (1 if step < _DENSE_STEPS else self.every)
        torch._foreach_lerp_(averaged, current, 1 - decay)

    def averaged_state(self, device: str = "cpu") -> dict[str, Tensor]:
        """Copy of the averaged weights, as a state dict of the plan's module."""
        assert self._average_model is not None
        state = self._average_model.module.module.state_dict()
        return {name: value.detach().to(device, copy=True) for name, value in state.items()}

    def restart(self, pl_module: pl.LightningModule) -> None:
        """Let the average be the current weights."""
        assert self._average_model is not None
        self._average_model.module.module.load_state_dict(pl_module.module.state_dict())

    def _swap_models(self, pl_module: pl.LightningModule) -> None:
        super()._swap_models(pl_module)
        self._in_use = not self._in_use

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The model keeps the averaged weights."""
        super().on_train_end(trainer, pl_module)
        self._in_use = True

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """An interrupted training keeps the averaged weights, and what has followed them."""
        if self._average_model is not None and not self._in_use:
            self._copy_average_to_current(pl_module)


class KeepBest(Callback):
    """Watch the held-out bound, keep the best weights, and end an overfitting training early but annealed.

    The bound is computed on the same thinned counts each time, so that two of them are compared cell by cell: a
    difference counts if it exceeds its own standard error. When the bound has been worse than its best for a while,
    training goes back to the best weights and lets the learning rate come down to zero from there, within half as many
    validations as the best weights took; then it stops.

    Parameters
    ----------
    averaging
        Holder of the averaged weights.
    stop
        Whether to end early; the best weights are kept in any case.
    patience
        Number of validations in a row that must be worse than the best.
    """

    #: Part of the time to the best weights that the learning rate takes to come down.
    COOLING = 0.5

    def __init__(self, averaging: AverageWeights, stop: bool = True, patience: int = 3) -> None:
        self.averaging = averaging
        self.stop = stop
        self.patience = patience
        self.best: Tensor | None = None
        self.last: Tensor | None = None
        self.best_state: dict[str, Tensor] = {}
        self.best_step = 0
        self.n_worse = 0
        self.stop_at: int | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare with the best so far."""
        bounds: Tensor | None = getattr(pl_module, "held_out_bounds", None)
        if bounds is None or trainer.sanity_checking:
            return
        self.last = bounds
        # What follows a bound that is not finite is better, whatever it is.
        if self.best is None or not self.best.isfinite().all() or bounds.mean() < self.best.mean():
            self.best, self.best_state, self.n_worse = bounds, self.averaging.averaged_state(), 0
            self.best_step = trainer.global_step if self.stop_at is None else self.best_step
        else:
            self.n_worse = self.n_worse + 1 if is_worse(bounds, self.best) else 0
        if self.stop_at is None and self.stop and self.n_worse >= self.patience:
            self._cool_down(trainer, pl_module)
        elif self.stop_at is not None and trainer.global_step >= self.stop_at:
            trainer.should_stop = True

    def _cool_down(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to the best weights and bring the learning rate down, up to a validation."""
        per_validation = trainer.num_training_batches * (trainer.check_val_every_n_epoch or 1)
        per_validation = max(1, per_validation // trainer.accumulate_grad_batches)
        n_steps = per_validation * max(2, round(self.COOLING * self.best_step / per_validation))
        pl_module.module.load_state_dict(self.best_state)
        self.averaging.restart(pl_module)
        pl_module.rate.cool_down(trainer.global_step, n_steps)
        self.stop_at = trainer.global_step + n_steps

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to the best weights if the last ones are worse."""
        if self.best is not None and self.last is not None and is_worse(self.last, self.best):
            pl_module.module.load_state_dict(self.best_state)

    def state_dict(self) -> dict[str, Any]:
        """State in a checkpoint."""
        return {name: getattr(self, name) for name in self._STATE}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """State from a checkpoint."""
        for name in self._STATE:
            setattr(self, name, state_dict[name])

    _STATE = ("best", "last", "best_state", "best_step", "n_worse", "stop_at")


class SaveLast(Callback):
    """Keep one checkpoint, ``last.ckpt``, from which an interrupted training resumes.

    Written to a temporary file first: a process killed while writing leaves the previous checkpoint intact.

    Parameters
    ----------
    directory
        Where to keep it.
    """

    FILE_NAME = "last.ckpt"
    #: Least time between two checkpoints.
    SECONDS = 30.0

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = Path(directory) / self.FILE_NAME
        self._saved_at = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if the last time is long ago."""
        # The clocks of two processes differ, and all have to take part.
        if trainer.strategy.broadcast(time.monotonic() - self._saved_at >= self.SECONDS):
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what training ended with."""
        self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint (averaged weights, raw weights, optimiser, schedule, epoch)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        try:
            trainer.save_checkpoint(partial)
        except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
            partial.unlink(missing_ok=True)
            error.add_note(
                f"The checkpoint could not be written; the one before it is kept in {self.path}. Make space or repair the "
                "disk, then run the same lines again: training goes on from there."
            )
            raise
        if trainer.is_global_zero:
            os.replace(partial, self.path)
        self._saved_at = time.monotonic()


class SaveAveraged(SaveCheckpoint):
    """:class:`~scvi.train.SaveCheckpoint` of the averaged weights: those that the monitored bound was computed with."""

    def on_save_checkpoint(self, trainer: pl.Trainer, *args: Any) -> None:
        """Save the model with its averaged weights put in."""
        averaging = next(callback for callback in trainer.callbacks if isinstance(callback, AverageWeights))
        module = trainer.lightning_module.module
        raw = {name: value.detach().clone() for name, value in module.state_dict().items()}
        module.load_state_dict(averaging.averaged_state())
        try:
            if trainer.is_global_zero:
                super().on_save_checkpoint(trainer, *args)
        finally:
            module.load_state_dict(raw)

    def _remove_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        if trainer.is_global_zero:
            super()._remove_checkpoint(trainer, filepath)


def is_worse(bounds: Tensor, best: Tensor, n_errors: float = 1.0) -> bool:
    """Whether ``bounds`` exceed ``best`` by more than so many standard errors of their difference, or are not finite."""
    difference = bounds - best
    error = difference.std() / len(difference) ** 0.5 if len(difference) > 1 else torch.zeros(())
    return not bool(difference.mean() <= n_errors * error)  # so that NaN is worse


@torch.no_grad()
def held_out_bounds(trainer: pl.Trainer, pl_module: pl.LightningModule, n_cells: float = math.inf) -> Tensor | None:
    """Bound of each held-out cell, those of all processes, or of about ``n_cells`` of them; None if there are none."""
    if not trainer.val_dataloaders:
        return None
    module, was_training = pl_module.module, pl_module.module.training
    module.eval()
    bounds: list[Tensor] = []
    for number, batch in enumerate(trainer.val_dataloaders):
        bounds.append(pl_module.bounds(trainer.strategy.batch_to_device(batch), number))
        if trainer.world_size * sum(map(len, bounds)) >= n_cells:
            break
    module.train(was_training)
    return pl_module.gathered(bounds)
