"""The law of each gene, fitted once more when the network is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import final

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from sccountsdiff.model._finish import Finish
from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.nets import FAST
from sccountsdiff.objective import Objective, UniformSurvival


@final
class RefitGenes(Finish):
    """Fit what each gene has of its own (:meth:`~sccountsdiff.nets.Head.scaled_logs`) to the finished network.

    In training the network speaks through dropout, and the laws of the genes learn that noise as well: they come out
    too wide. Rare genes, of which a minibatch says little, have also not come far by then. So at the end the network
    is held still, without dropout, and only these numbers are learned, over uniform survivals. From here on dispersions
    depend on what is expected (:class:`~sccountsdiff.nets.DispersedHead`), unless they are those of another model.
    """

    description = "Fitting genes"
    #: Largest step of a logarithm.
    STEP = 0.1
    #: How far a logarithm may lie from what training has found, as a standard deviation.
    SPREAD = 1.0

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Fit them."""
        denoiser = pl_module.module.denoiser
        late = denoiser.late_scaled_logs() if all(logs.requires_grad for logs in denoiser.scaled_logs()) else []
        if late:
            denoiser.vary_dispersions()
        try:
            for logs in late:
                logs.requires_grad_(True)
            super().on_train_end(trainer, pl_module)
        finally:
            for logs in late:
                logs.requires_grad_(False)

    def learned(self, module: CountDiffusionModule) -> list[nn.Parameter]:
        """What each gene has of its own."""
        return [*module.denoiser.scaled_logs(), *module.denoiser.late_scaled_logs()]

    def objective(self, module: CountDiffusionModule) -> Objective:
        """The bound, with library sizes."""
        return replace(module.objective, pattern=UniformSurvival(log_fraction=0.0), library_dropout=0.0)

    def optimizer(self, module: CountDiffusionModule) -> Optimizer:
        """Adam, with steps in logarithms."""
        return Adam([p for p in module.parameters() if p.requires_grad], lr=self.STEP / FAST, betas=(0.9, 0.99))

    def prior(self, module: CountDiffusionModule, learned: Sequence[nn.Parameter]) -> Callable[[], Tensor]:
        """Normal, around what training has found."""
        start = [logs.detach().clone() for logs in learned]

        def nats() -> Tensor:
            far = torch.cat([FAST * (now - before) for now, before in zip(learned, start, strict=True)])
            return (far / self.SPREAD).square().sum() / 2

        return nats
