"""How sure a trained model is, set by cells it has not seen."""

from __future__ import annotations

from typing import final

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback

from sccountsdiff.nets import FAST


@final
class CalibrateDispersion(Callback):
    """Scale the dispersions of all genes by one factor that suits the held-out cells.

    Expectations fit the training cells better than cells to come, so that dispersions learned around them promise too
    narrow intervals. At the end of training the held-out bound is taken at three factors; the vertex of the parabola
    through them in log factor is kept if its own bound is the best.
    """

    #: Logarithms of the outer factors; twice as much is the most that is changed.
    STEP = 0.25

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose the factor."""
        parameter = pl_module.module.denoiser.dispersion()
        if parameter is None or not parameter.requires_grad or not trainer.val_dataloaders:
            return
        start = parameter.detach().clone()

        @torch.no_grad()
        def bound(log_factor: float) -> float:
            parameter.copy_(start + log_factor / FAST)
            return pl_module.held_out_bound()

        factors = np.array([-self.STEP, 0.0, self.STEP])
        bounds = np.array([bound(factor) for factor in factors])
        chosen = self._vertex(*bounds)
        if chosen == 0 or not bound(chosen) < bounds[1]:
            bound(0.0)

    def _vertex(self, low: float, middle: float, high: float) -> float:
        """Log factor at the minimum of the parabola, or the end that is better if it has none."""
        curvature = low - 2 * middle + high
        slope = (high - low) / 2
        if not np.isfinite(curvature) or slope == 0:
            return 0.0
        steps = -slope / curvature if curvature > 0 else -np.sign(slope) * 2
        return float(np.clip(steps, -2, 2) * self.STEP)
