"""What every training run of the benchmarks has in common."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from typing import NamedTuple

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


class Time(NamedTuple):
    """A moment, or the time between two."""

    #: Seconds on the clock on the wall.
    wall: float
    #: Seconds of processor time of this process, which other work on the machine does not lengthen.
    cpu: float

    @classmethod
    def now(cls) -> Time:
        """Return the present moment."""
        return cls(time.perf_counter(), time.process_time())

    def since(self) -> Time:
        """Return the time passed since this moment."""
        now = Time.now()
        return Time(now.wall - self.wall, now.cpu - self.cpu)


class EpochClock(Callback):
    """Time of each training epoch, validation left out."""

    def __init__(self) -> None:
        self.epochs: list[Time] = []
        self._start = Time.now()

    def on_train_epoch_start(self, trainer, module) -> None:
        """Start the clock."""
        self._start = Time.now()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx: int) -> None:
        """Read the clock after the last batch."""
        if batch_idx + 1 == trainer.num_training_batches:
            if trainer.strategy.root_device.type == "cuda":
                torch.cuda.synchronize()
            self.epochs.append(self._start.since())

    def median(self) -> Time:
        """Return the median time of an epoch, the first one left out."""
        return median(self.epochs)


def median(times: Sequence[Time]) -> Time:
    """Return the median of some times, the first one left out if there are more."""
    return Time(*np.median(times[1:] or times, axis=0))
