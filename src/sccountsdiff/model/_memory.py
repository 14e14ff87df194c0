"""How long a walk remembers what it has drawn for all genes together, found by walks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sccountsdiff.conditioning import Condition
from sccountsdiff.model._covary import FOR_COVARIANCES, LARGEST, RAREST, half
from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.sampling import CovaryingRates, Sampler, survival_grid

_SEED = 20261130


@final
class FitMemory(Callback):
    """Let walks remember less where cells that are walked back vary more than training cells do.

    With a perfect network each step would draw its factors anew. One that has learned from few cells answers too weakly
    to what they have done, and many steps average them away unless they are remembered; one that has learned from many
    needs no memory, and with one its cells vary too widely. So training cells are generated again, given their
    condition and library size. If they vary more widely along the directions of covariation than the cells themselves
    (mean of the log ratios, by more than two standard errors), they are generated without a memory as well, and the
    memory becomes that between the two at which they would vary as the cells do.
    """

    #: Steps of a walk: what generation takes by default.
    N_STEPS = 20
    #: Standard errors by which they have to.
    SURE = 2
    #: Entries that are walked back for each, about.
    N_ENTRIES = 2**22

    @torch.no_grad()
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find it; a model that keeps what another has learned keeps this as well."""
        module: CountDiffusionModule = pl_module.module
        covariation = module.denoiser.covariation
        if module.denoiser.offsets.everyone.n_kept or not covariation.known:
            return
        was_training = module.training
        module.eval()
        full = found = float(covariation.memory)
        try:
            examples = list(self._examples(trainer, module))
            remembered = self._widened(trainer, module, examples)
            if remembered.mean > self.SURE * remembered.error:
                covariation.memory.zero_()
                gain = remembered.mean - self._widened(trainer, module, examples).mean
                found = full * max(1 - remembered.mean / gain, 0.0) if gain > 0 else full
        finally:  # also of an interruption
            covariation.memory.fill_(found)
            module.train(was_training)

    def _examples(self, trainer: pl.Trainer, module: CountDiffusionModule) -> Iterator[_Examples]:
        """Cells that did not give the directions, as many as are wanted or there are."""
        wanted = self.N_ENTRIES // trainer.world_size
        for minibatch in trainer.train_dataloader:
            cells = half(module.cells(trainer.strategy.batch_to_device(minibatch)), FOR_COVARIANCES)
            if len(cells.counts):
                yield _Examples(cells.counts, module.told(cells), cells.survival)
            wanted -= cells.counts.numel()
            if wanted <= 0:
                return

    def _widened(self, trainer: pl.Trainer, module: CountDiffusionModule, examples: list[_Examples]) -> _Widened:
        """How much wider walked cells vary than the cells themselves."""
        denoiser, process = module.denoiser, module.objective.process
        grid = survival_grid(process.schedule(float(denoiser.library.mean.sum())), self.N_STEPS, 0.0)
        sampler = Sampler(process, denoiser, covarying=CovaryingRates(denoiser.covariation, denoiser.library))
        generator = torch.Generator(module.device).manual_seed(_SEED)
        sums = denoiser.covariation.directions.new_zeros(3, 2, denoiser.covariation.directions.shape[1])
        for some in examples:
            walked = sampler.sample(torch.zeros_like(some.counts), some.condition, grid, generator=generator)
            places = some.along(module, torch.stack([some.counts, walked]))
            sums += torch.stack([torch.ones_like(places).sum(1), places.sum(1), places.square().sum(1)])
        number, total, squares = trainer.strategy.reduce(sums, reduce_op="sum")
        own, other = (squares / number - (total / number).square()).clamp_min(1e-12)
        drawn = denoiser.covariation.roots[0].square().sum(-1)
        return _Widened.of((other / own).log(), drawn / own)


class _Widened(NamedTuple):
    """Log ratio of variances, over directions."""

    mean: float
    #: Standard error of the mean.
    error: float

    @classmethod
    def of(cls, log_ratios: Tensor, shares: Tensor) -> _Widened:
        """Directions count by the share of their variance that is drawn for all genes together."""
        weights = shares / shares.sum()
        mean = weights @ log_ratios
        return cls(float(mean), float(torch.linalg.vector_norm(weights * (log_ratios - mean))))


class _Examples(NamedTuple):
    """Training cells: counts, conditions, and which entries were measured."""

    counts: Tensor
    condition: Condition
    seen: Tensor

    def along(self, module: CountDiffusionModule, counts: Tensor) -> Tensor:
        """Where counts lie along each direction beyond what is expected of these cells.

        From ``(..., n_cells, n_genes)`` to ``(..., n_cells, n_directions)``, in standard deviations of Poisson counts.
        """
        denoiser, nothing = module.denoiser, torch.zeros_like(self.counts)
        expected = denoiser(*module.objective.process.shown(nothing, nothing[:, :1]), self.condition).rate
        scale = expected.mean(0).clamp_min(RAREST).sqrt()
        axes = torch.linalg.qr(denoiser.covariation.directions * scale.unsqueeze(-1)).Q
        return ((counts - expected) * self.seen / scale).clamp(-LARGEST, LARGEST) @ axes
