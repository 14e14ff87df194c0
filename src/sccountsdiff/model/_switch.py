"""Genes that are low in some cells, whatever the rest of the cell says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, product, repeat
from typing import Any, final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from sccountsdiff.conditioning import Condition
from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.nets import Denoiser, Entries, GeneLaws, best_laws
from sccountsdiff.objective import Corrupted, UniformSurvival
from sccountsdiff.process import MIN_RATE, Process


@final
class FindSwitches(Callback):
    """Give genes that are low in some cells, whatever the rest of the cell says, a law that knows it.

    Sex and genotype switch single genes on and off, such as XIST, that no other gene tells of. The second state of a gene
    starts far above the bulk, as that of outliers, and does not find its way below it; one broad law for both levels then
    gives cells that express the gene too much of it. So another start is tried at the end of a training, with the second
    state below the bulk, and taken for the genes that become more likely by it in training and in held-out cells. Many
    do in a network that has not learned yet what the rest of a cell says; it keeps its laws. Not in the paper.
    """

    #: Cells that are looked at, each at one survival.
    N_CELLS = 4096
    #: Parts of the cells in the low state, and counts in it over those of the bulk, to start from.
    PARTS, RATIOS = (0.2, 0.5), (0.05, 0.2)
    #: Genes that are looked at more closely.
    N_CANDIDATES = 32
    #: Nats a cell by which a gene has to become more likely.
    LEAST = 0.01
    #: Part of the genes looked at that may be switched.
    MOST = 0.25

    @torch.no_grad()
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find them. A model that keeps what another has learned keeps its laws, and nothing is sure without held-out cells."""
        module: CountDiffusionModule = pl_module.module
        denoiser = module.denoiser
        laws = denoiser.laws()
        frozen = not all(logs.requires_grad for logs in denoiser.scaled_logs())
        if laws is None or frozen or not trainer.val_dataloaders:
            return
        was_training = module.training
        module.eval()
        # Processes see different cells, the last ones maybe none that are held out: the first one decides.
        found: list[Tensor] = []
        if trainer.is_global_zero:
            found = [part.cpu() for part in self._found(trainer, module, laws, pl_module.n_obs_training or 1)]
        genes, *numbers = (part.to(module.device) for part in trainer.strategy.broadcast(found))
        denoiser.switch(genes, GeneLaws(*numbers))
        module.train(was_training)

    def _found(
        self, trainer: pl.Trainer, module: CountDiffusionModule, laws: GeneLaws, n_cells: int
    ) -> tuple[Tensor, ...]:
        """Numbers of the genes, and the parts of their laws."""
        training, held_out = (
            _Looker(trainer, module, loader, self.N_CELLS)
            for loader in (trainer.train_dataloader, trainer.val_dataloaders)
        )
        mean = _mean([entries.mu.mean(0) for entries in training.entries()]).clamp_min(MIN_RATE)
        starts = [laws, *(laws.switched(mean, part, ratio) for part, ratio in product(self.PARTS, self.RATIOS))]
        one, *two = _mean([torch.stack([law.loss(entries) for law in starts]) for entries in training.entries()])
        genes = (torch.stack(two).amin(0) - one).argsort()[: self.N_CANDIDATES]
        seen, unseen = training.of(genes), held_out.of(genes)
        as_it_is, *others = (start.of(genes).fitted(seen, n_cells) for start in starts)
        other = best_laws(others, seen)
        gains = torch.stack([as_it_is.loss(entries) - other.loss(entries) for entries in (seen, unseen)])
        switched = gains.amin(0) > self.LEAST
        switched &= switched.float().mean() <= self.MOST
        return genes[switched], *other.of(switched)


def _mean(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).mean(0)


@dataclass(frozen=True)
class _Looker:
    """Looks at what a network expects of cells, minibatch by minibatch."""

    trainer: pl.Trainer
    module: CountDiffusionModule
    loader: Any
    n_cells: int

    def entries(self) -> Iterator[Entries]:
        """Thinned cells, again and again until there are enough."""
        taken = _Taken()
        objective = replace(self.module.objective, pattern=UniformSurvival(), library_dropout=0.0, weigh=taken)
        n_seen = 0
        for minibatch in chain.from_iterable(repeat(self.loader)):
            self.module.cell_loss(self.trainer.strategy.batch_to_device(minibatch), objective)
            yield taken.entries
            n_seen += len(taken.entries.mu)
            if n_seen >= self.n_cells:
                return

    def of(self, genes: Tensor) -> Entries:
        """Entries of a few genes, of all cells at once."""
        return Entries(*(torch.cat(parts) for parts in zip(*(e.of(genes) for e in self.entries()), strict=True)))


@dataclass
class _Taken:
    """Takes what a network expects where a loss would be."""

    entries: Entries = field(init=False)

    def __call__(self, process: Process, denoiser: Denoiser, condition: Condition, cells: Corrupted) -> Tensor:
        x_t, alpha = cells.shown
        mu = denoiser.expected(x_t, alpha, condition)
        self.entries = Entries(mu, x_t, alpha, cells.x_0 - x_t, cells.weight)
        return mu.new_zeros(len(mu))
