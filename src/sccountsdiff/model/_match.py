"""What a finished network expects of each gene in a category, matched to what was counted there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import final

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from scvi.utils import track
from torch import Tensor

from sccountsdiff.conditioning import Condition, LevelTable
from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.model._shrinkage import shrunken
from sccountsdiff.nets import FAST, Denoiser
from sccountsdiff.objective import Corrupted, UniformSurvival
from sccountsdiff.process import Process

#: Expected molecules below which a gene says nothing of a category.
_LEAST = 1e-6


@final
class MatchTotals(Callback):
    r"""Let the molecules that a network expects of each gene, in all cells and in each category, be those that there were.

    A network of finite size and training has not quite the mean of each gene in each cell type, and generated cells
    have it less, since a walk back goes on from what it has made. So cells are thinned once more, and offsets of the
    logits (:class:`~sccountsdiff.nets.GeneOffsets`) are moved until sums of expected and of missing molecules agree.
    Given the sum S of what is missing beyond what is expected, the sum E of what is expected and the sum V of the squared
    differences of the cells, all by category and gene, a change b is estimated as :math:`b + S / E` with variance
    :math:`V / E^2`, and shrunk as far as the genes of the category tell: the network may have a large category nearly
    right, and a few genes of a rare one wrong by far. A gene of which few molecules were seen, or most of them in few
    cells, is left as it was.
    """

    #: Times that all tables are gone through, each after a pass over so many cells at most.
    ROUNDS, N_CELLS = 3, 25_600
    #: Standard deviations that changes may have beforehand.
    SPREADS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8)

    @torch.no_grad()
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Match them."""
        module: CountDiffusionModule = pl_module.module
        offsets = module.denoiser.offsets
        tables = [offsets.everyone, *offsets.named_tables().values()]
        changes = [(table, torch.zeros_like(table.weight)) for table in tables if table.n_levels > table.n_kept]
        n_batches = math.ceil(self.N_CELLS * trainer.num_training_batches / (pl_module.n_obs_training or 1))
        was_training = module.training
        module.eval()
        silent = trainer.progress_bar_callback is None or not trainer.is_global_zero
        for table, change in track(changes * self.ROUNDS, description="Matching totals", disable=silent):
            sums = self._sums(trainer, module, table, n_batches)
            found = most_probable(sums, change, self.SPREADS)[table.n_kept :]
            table.weight[table.n_kept :] += (found - change[table.n_kept :]) / FAST
            change[table.n_kept :] = found
        module.train(was_training)

    def _sums(self, trainer: pl.Trainer, module: CountDiffusionModule, table: LevelTable, n_batches: int) -> Tensor:
        tally = _Tally(table)
        objective = replace(module.objective, pattern=UniformSurvival(), library_dropout=0.0, weigh=tally)
        for minibatch in islice(trainer.train_dataloader, n_batches):
            module.cell_loss(trainer.strategy.batch_to_device(minibatch), objective)
        return trainer.strategy.reduce(tally.sums, reduce_op="sum")


def most_probable(sums: Tensor, change: Tensor, spreads: Sequence[float]) -> Tensor:
    """Changes of offsets that what was missing makes probable, row by row.

    Parameters
    ----------
    sums
        What is missing beyond what is expected, what is expected, and the sum over cells of the squares of the
        difference, ``(3, n_rows, n_genes)``.
    change
        Changes under which it is expected, ``(n_rows, n_genes)``.
    spreads
        Standard deviations that they may have beforehand, the smallest first.

    Returns
    -------
    Changes, ``(n_rows, n_genes)``, at most 1 in size.
    """
    found = torch.zeros_like(change)
    for row, before, (surplus, expected, squares) in zip(found, change, sums.unbind(1), strict=True):
        genes = expected > _LEAST
        estimate = before + surplus / expected
        variance = torch.maximum(squares, expected) / expected.square()  # no gene varies less than Poisson counts
        row[genes] = shrunken(estimate[genes], variance[genes], spreads)
    return found.clamp(-1, 1)


@final
class _Tally:
    """Sums over the cells of each row of a table, taken where a loss would be: ``(3, n_rows, n_genes)``.

    What is missing beyond what is expected; what is expected, once for each row that a cell has, so that rows which
    share cells do not all make up for the same; squares of the difference.
    """

    def __init__(self, table: LevelTable) -> None:
        self.table = table
        self.sums = torch.zeros(3, *table.weight.shape, device=table.weight.device)

    def __call__(self, process: Process, denoiser: Denoiser, condition: Condition, cells: Corrupted) -> Tensor:
        expected = (1 - cells.shown[1]) * denoiser(*cells.shown, condition).rate * cells.seen
        surplus = (cells.x_0 - cells.x_t) * cells.seen - expected
        rows = {id(table): of for table, of in denoiser.offsets.members(condition, len(expected))}
        members = rows[id(self.table)]
        together = members * members.sum(-1, keepdim=True)
        self.sums += torch.stack([members.T @ surplus, together.T @ expected, members.T @ surplus.square()])
        return expected.new_zeros(len(expected))
