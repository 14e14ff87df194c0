"""Running a training to its end: interruption, and what every process knows afterwards."""

from __future__ import annotations

import signal
import threading
import warnings

import torch
from scvi import settings
from scvi.train import TrainRunner


class Runner(TrainRunner):
    """A runner that keeps what was learned when a user interrupts, and tells all processes the history."""

    def __call__(self) -> None:
        """Train; ``Ctrl-C`` is the end of the training, not of the process, and ``SIGTERM`` that of both."""
        handler = signal.getsignal(signal.SIGINT)
        try:
            super().__call__()
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
            if not self.trainer.interrupted:
                raise
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)
            self._finish()
            self._end_if_terminated()
            warnings.warn(
                f"Training was interrupted in epoch {self.trainer.current_epoch} of {self.trainer.max_epochs}; the "
                "model keeps what it learned so far.",
                UserWarning,
                stacklevel=settings.warnings_stacklevel,
            )
        else:
            self._share()
            self._end_if_terminated()

    def _end_if_terminated(self) -> None:
        """End the process as the system asked: Lightning takes note of that, and goes on with what follows the epochs."""
        if self.trainer.received_sigterm:
            raise SystemExit(128 + signal.SIGTERM)

    def _share(self) -> None:
        """Bring every process to the same knowledge: only the first one has kept a history."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.model.history_ = self.trainer.strategy.broadcast(self.model.history_)
        if self.trainer.world_size > 1 and self.model.train_indices is None:
            self.data_splitter.setup("fit")  # spawned processes have split the cells, not this one
            self._remember_indices()

    def _finish(self) -> None:
        """What the parent does after a training that was not interrupted."""
        self._remember_indices()
        self.model.module.eval()
        self.model.is_trained_ = True
        self.model.to_device(self.device)
        self.model.trainer = self.trainer

    def _remember_indices(self) -> None:
        splitter, model = self.data_splitter, self.model
        model.train_indices = getattr(splitter, "train_idx", None)
        model.test_indices = getattr(splitter, "test_idx", None)
        model.validation_indices = getattr(splitter, "val_idx", None)
