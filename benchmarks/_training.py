"""What every training run of the benchmarks has in common."""

from __future__ import annotations

import logging
import os
import time

import numpy as np
import scvi
import torch
from lightning.pytorch.callbacks import Callback

QUIET = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


def prepare(seed: int) -> None:
    """Seed everything, use as many threads as ``OMP_NUM_THREADS`` says (1 without it), and keep Lightning silent."""
    for name in ("scvi", "lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    scvi.settings.seed = seed


class EpochClock(Callback):
    """Wall time of each training epoch, validation left out."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._start = 0.0

    def on_train_epoch_start(self, trainer, module) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx: int) -> None:
        """Read the clock after the last batch."""
        if batch_idx + 1 == trainer.num_training_batches:
            self.seconds.append(time.perf_counter() - self._start)

    def median(self) -> float:
        """Return the median seconds of an epoch, the first one left out."""
        return float(np.median(self.seconds[1:] or self.seconds))
