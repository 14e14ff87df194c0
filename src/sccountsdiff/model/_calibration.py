"""How sure a trained model is, set by cells it has not seen."""

from __future__ import annotations

from typing import final

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sccountsdiff.model._module import Cells, CountDiffusionModule
from sccountsdiff.nets import FAST

_SEED = 20260402
#: Parts of the entries that are hidden.
_HIDDEN = (0.1, 0.5, 0.9)
#: Held-out cells to look at: thousands of entries each, so that few will do.
_MAX_CELLS = 512


@final
class CalibrateDispersion(Callback):
    """Scale the dispersions of all genes by one factor, so that intervals cover held-out cells as often as they say.

    Expectations fit the training cells better than cells to come, so that dispersions learned around them promise too
    narrow intervals. At the end of training entries of held-out cells are hidden: the probability integral transform u
    of what comes is uniform if the laws are right, and its mean ``|u - 1/2|`` is 1/4. The factor is the one that makes
    it so, by a secant.
    """

    #: Log factor of the second point of the secant.
    STEP = -0.25
    #: Largest change of a log dispersion.
    LIMIT = 0.4

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the factor."""
        parameter = pl_module.module.denoiser.scaled_log_dispersion()
        if parameter is None or not parameter.requires_grad or not trainer.val_dataloaders:
            return
        start = parameter.detach().clone()
        distances = []
        for log_factor in (0.0, self.STEP):
            parameter.data = start + log_factor / FAST
            distances.append(_distance(trainer, pl_module.module))
        slope = (distances[1] - distances[0]) / self.STEP
        log_factor = (0.25 - distances[0]) / slope if slope > 0 else 0.0  # wider laws, u nearer to 1/2
        parameter.data = start + float(np.clip(log_factor, -self.LIMIT, self.LIMIT)) / FAST


@torch.no_grad()
def _distance(trainer: pl.Trainer, module: CountDiffusionModule) -> float:
    """Mean distance of u from 1/2 over hidden entries of held-out cells, the same on all processes."""
    module.eval()
    sums, n_cells = torch.zeros(2, device=trainer.strategy.root_device), 0
    for batch in trainer.val_dataloaders:
        cells = module.cells(trainer.strategy.batch_to_device(batch))
        generator = torch.Generator(cells.counts.device).manual_seed(_SEED + n_cells)
        for fraction in _HIDDEN:
            sums += _sums(module, cells, fraction, generator)
        n_cells += len(cells.counts)
        if n_cells >= _MAX_CELLS:
            break
    total, number = trainer.strategy.reduce(sums, reduce_op="sum").tolist()
    return total / max(number, 1.0)


def _sums(module: CountDiffusionModule, cells: Cells, fraction: float, generator: torch.Generator) -> Tensor:
    """Sum of the distances and number of the hidden entries."""
    counts = cells.counts
    hidden, level = torch.rand((2, *counts.shape), generator=generator, device=counts.device)
    hidden = hidden < fraction
    scored = hidden if cells.observed is None else hidden & cells.observed
    law = module.denoise(cells.hide(hidden))
    below = torch.where(counts > 0, law.cdf((counts - 1).clamp_min(0)), 0.0)
    distance = (torch.lerp(below, law.cdf(counts), level) - 0.5).abs()
    return torch.stack([distance[scored].sum(), scored.sum()])
