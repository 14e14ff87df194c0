"""The training plan: one AdamW step per minibatch under a one-cycle rate, and the held-out bound."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from scvi.module.base import BaseModuleClass
from scvi.train import TrainingPlan
from torch import Tensor
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics.utilities.distributed import gather_all_tensors

from sccountsdiff.model._growth import weight_groups
from sccountsdiff.model._names import nearest_first
from sccountsdiff.model._rate import OneCycle, default_rate

#: Passes through the network that one validation takes, roughly: cells times samples.
_VALIDATION_PASSES = 1024
_VALIDATION_SEED = 20260401


class DiffusionTrainingPlan(TrainingPlan):
    """Trains a :class:`~sccountsdiff.model._module.CountDiffusionModule`.

    Logs ``train_loss`` and, on held-out cells, the bound in nats per cell as ``elbo_validation`` and
    ``validation_loss``. Survivals and thinning of the held-out bound are the same at each validation.

    Parameters
    ----------
    module
        The module.
    lr
        Largest learning rate of the cycle; ``None`` follows the number of steps and of cells.
    weight_decay
        Weight decay of AdamW.
    eps
        Epsilon of Adam.
    warmup
        Part of the steps in which the learning rate rises.
    compile
        Whether to compile network and loss (:func:`torch.compile`, which needs a C++ compiler): ten seconds to start
        with, then faster steps, the more so the larger the minibatch.
    compile_kwargs
        Passed on to :func:`torch.compile`.
    **kwargs
        Passed on to :class:`~scvi.train.TrainingPlan`.
    """

    def __init__(
        self,
        module: BaseModuleClass,
        *,
        lr: float | None = None,
        weight_decay: float = 1e-4,
        eps: float = 1e-8,
        warmup: float = 0.1,
        compile: bool = False,
        compile_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        known = inspect.signature(TrainingPlan.__init__).parameters.keys() - {"self", "module", "loss_kwargs"}
        for name in kwargs.keys() - known:  # scvi-tools would hand it to a loss that ignores it
            own = inspect.signature(DiffusionTrainingPlan).parameters.keys() - {"module", "kwargs"} | {"ema_decay"}
            raise TypeError(f"plan_kwargs has no {name!r}; it may have {nearest_first(name, sorted(own))}.")
        super().__init__(module, optimizer="AdamW", lr=lr, weight_decay=weight_decay, eps=eps, **kwargs)
        self.warmup = warmup
        self.objective = module.objective.compiled(**(compile_kwargs or {})) if compile else module.objective
        self.rate: OneCycle | None = None
        #: Bound of each held-out cell at the last validation.
        self.held_out_bounds: Tensor | None = None
        self._bounds: list[Tensor] = []
        self._loss_sum: Tensor | float = 0.0
        self._n_steps = 0

    def on_train_start(self) -> None:
        """Let each process draw survivals of its own."""
        if self.trainer.world_size > 1:
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Mean loss of the minibatch."""
        losses = self.module.cell_loss(batch, self.objective)
        n_cells = self.n_obs_training or len(losses) * self.trainer.num_training_batches
        loss = losses.mean() + self.module.penalty() / n_cells
        # One number per epoch is logged: Lightning's own bookkeeping per step would cost as much as the data loader.
        self._loss_sum = self._loss_sum + loss.detach()
        self._n_steps += 1
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the mean training loss, and stop if it is no number any more."""
        mean = torch.as_tensor(self._loss_sum / max(self._n_steps, 1))
        mean = self.trainer.strategy.reduce(mean)  # so that no process is left waiting for one that stops
        self._loss_sum, self._n_steps = 0.0, 0
        if not bool(torch.isfinite(mean)):
            raise RuntimeError(
                f"The training loss is {float(mean)} in epoch {self.current_epoch}. Lower the learning rate "
                "(plan_kwargs={'lr': 3e-4}) or train in full precision (precision='32-true')."
            )
        self.log("train_loss", mean, prog_bar=True, sync_dist=True)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Remember the bound of each cell of the minibatch."""
        self._bounds.append(self.bounds(batch, batch_idx))

    def bounds(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Bound of each cell of a held-out minibatch; the same survivals and thinning each time."""
        n_samples = min(8, max(2, _VALIDATION_PASSES // max(self.n_obs_validation or 1, 1)))
        generator = torch.Generator(self.device).manual_seed(_VALIDATION_SEED + batch_idx)
        return self.module.bound(self.module.cells(batch), n_samples, generator).mean(0)

    def gathered(self, bounds: list[Tensor]) -> Tensor:
        """Bounds of the cells of several minibatches and of all processes, which so decide the same."""
        own = torch.cat(bounds).float()
        return (torch.cat(gather_all_tensors(own)) if self.trainer.world_size > 1 else own).cpu()

    def on_validation_epoch_end(self) -> None:
        """Log the bound."""
        if not self._bounds:
            return
        self.held_out_bounds, self._bounds = self.gathered(self._bounds), []
        mean = self.held_out_bounds.mean().to(self.device)
        self.log("elbo_validation", mean, prog_bar=True, sync_dist=True)
        self.log("validation_loss", mean, sync_dist=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW under a one-cycle schedule over the planned steps.

        Raises
        ------
        ValueError
            If every weight is frozen.
        """
        groups = weight_groups(self.module)
        if not groups:
            raise ValueError(
                "There is nothing to train: the query data hold no category with a vector to learn, and all else is "
                "frozen. Use the model as it is, or call load_query_data(..., unfrozen=True)."
            )
        n_steps = int(self.trainer.estimated_stepping_batches)
        self.lr = default_rate(n_steps, self.n_obs_training or 0) if self.lr is None else self.lr
        optimizer: Optimizer = AdamW(
            groups,
            lr=self.lr,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=self._can_fuse(),
        )
        self.rate = OneCycle(n_steps, self.warmup)
        scheduler = LambdaLR(optimizer, self.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _can_fuse(self) -> bool:
        """Whether the fused AdamW can be used: several times faster, but no gradient clipping in mixed precision."""
        return self.device.type in ("cpu", "cuda") and "mixed" not in str(self.trainer.precision)
