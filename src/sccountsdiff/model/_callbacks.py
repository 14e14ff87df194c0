"""What happens around the training steps: weight averaging, keeping the best, surviving interruption."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor


class AverageWeights(WeightAveraging):
    """Exponential moving average of the weights, used in validation and kept at the end.

    The decay rises as ``(1 + n) / (10 + n)`` over the first steps ``n``, so that a short training does not carry its
    random start along.

    Parameters
    ----------
    decay
        Final decay per step.
    """

    def __init__(self, decay: float = 0.999) -> None:
        # Buffers are constants of the data here: they are copied, not averaged.
        super().__init__(use_buffers=False, multi_avg_fn=self._average)
        self.decay = decay
        self._swapped = False

    def _average(self, averaged: list[Tensor], current: list[Tensor], n_averaged: Any) -> None:
        step = self._latest_update_step
        torch._foreach_lerp_(averaged, current, 1 - min(self.decay, (1 + step) / (10 + step)))

    def averaged_state(self, device: str = "cpu") -> dict[str, Tensor]:
        """Copy of the averaged weights, as a state dict of the plan's module."""
        assert self._average_model is not None
        state = self._average_model.module.module.state_dict()
        return {name: value.detach().to(device, copy=True) for name, value in state.items()}

    def _swap_models(self, pl_module: pl.LightningModule) -> None:
        super()._swap_models(pl_module)
        self._swapped = not self._swapped

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """An interrupted training keeps the averaged weights."""
        if self._average_model is not None and not self._swapped:
            self._copy_average_to_current(pl_module)


class KeepBest(Callback):
    """Watch the held-out bound: stop when it has got worse for long, and keep the best weights.

    The bound is computed on the same thinned counts each time, so that two of them are compared cell by cell: a
    difference counts if it exceeds its own standard error.

    Parameters
    ----------
    averaging
        Holder of the averaged weights.
    stop
        Whether to stop early; the best weights are kept in any case.
    patience
        Number of validations in a row that must be worse than the best; ``None`` is a third of those planned, which
        leaves time for the learning rate to come down.
    """

    def __init__(self, averaging: AverageWeights, stop: bool = True, patience: int | None = None) -> None:
        self.averaging = averaging
        self.stop = stop
        self.patience = patience
        self.best: Tensor | None = None
        self.best_state: dict[str, Tensor] = {}
        self.n_worse = 0
        self.stopped_epoch: int | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Set the patience."""
        if self.patience is None:
            planned = (trainer.max_epochs or 1) // (trainer.check_val_every_n_epoch or 1)
            self.patience = max(5, planned // 3)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare with the best so far."""
        bounds: Tensor | None = getattr(pl_module, "held_out_bounds", None)
        if bounds is None or trainer.sanity_checking:
            return
        if self.best is None or bounds.mean() < self.best.mean():
            self.best, self.best_state, self.n_worse = bounds, self.averaging.averaged_state(), 0
            return
        self.n_worse = self.n_worse + 1 if _is_worse(bounds, self.best) else 0
        if self.stop and self.patience is not None and self.n_worse >= self.patience:
            self.stopped_epoch = trainer.current_epoch
            trainer.should_stop = True

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go back to the best weights if the last ones are worse."""
        last: Tensor | None = getattr(pl_module, "held_out_bounds", None)
        if self.best is not None and last is not None and _is_worse(last, self.best):
            pl_module.module.load_state_dict(self.best_state)

    def state_dict(self) -> dict[str, Any]:
        """State in a checkpoint."""
        return {"best": self.best, "best_state": self.best_state, "n_worse": self.n_worse}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """State from a checkpoint."""
        self.best, self.best_state = state_dict["best"], state_dict["best_state"]
        self.n_worse = state_dict["n_worse"]


class SaveLast(Callback):
    """Keep one checkpoint, ``last.ckpt``, from which an interrupted training resumes.

    Written to a temporary file first: a process killed while writing leaves the previous checkpoint intact.

    Parameters
    ----------
    directory
        Where to keep it.
    seconds
        Least time between two checkpoints.
    """

    FILE_NAME = "last.ckpt"

    def __init__(self, directory: str | os.PathLike[str], seconds: float = 30.0) -> None:
        self.path = Path(directory) / self.FILE_NAME
        self.seconds = seconds
        self._saved_at = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if the last time is long ago."""
        if time.monotonic() - self._saved_at >= self.seconds:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what training ended with."""
        self.save(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Write the checkpoint (averaged weights, raw weights, optimiser, schedule, epoch)."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.path)
        self._saved_at = time.monotonic()


def _is_worse(bounds: Tensor, best: Tensor) -> bool:
    """Whether ``bounds`` exceed ``best`` by more than the standard error of their difference."""
    difference = bounds - best
    error = difference.std() / len(difference) ** 0.5 if len(difference) > 1 else torch.zeros(())
    return bool(difference.mean() > error)
