"""What sets a category apart gene by gene, whatever else a network knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from sccountsdiff.conditioning import Condition, Key, LevelKey, LevelTable
from sccountsdiff.nets._heads import FAST

#: Standard deviation of a learned offset that is expected beforehand, as a log ratio of shares.
_SPREAD = 0.5


@final
class GeneOffsets(nn.Module):
    r"""Offsets of the logits of genes: one row for all cells, and one for each level of each key.

    All are 0 at first, and no gradient reaches them. After the training of a network they correct what its mean has
    wrong in a category. Where a category is added to a trained network, its rows are learned: a token can only ask for
    what the network has learned to do with tokens, and how another chemistry captures each gene it has never seen. A
    rare gene says little of its offset :math:`b`, so that learned ones have a prior :math:`b \sim \mathrm{N}(0, 0.5^2)`.

    Parameters
    ----------
    keys
        Keys of the network; those without levels have no offsets.
    n_genes
        Number of genes.

    Attributes
    ----------
    keys
        Keys with levels.
    everyone
        Offsets of all cells, divided by :data:`FAST` as all others are: a table of one row.
    tables
        Offsets of the levels of each key, ``(n_levels, n_genes)``.
    """

    def __init__(self, keys: Sequence[Key], n_genes: int) -> None:
        super().__init__()
        self.keys: tuple[LevelKey, ...] = tuple(key for key in keys if isinstance(key, LevelKey))
        self.everyone = LevelTable(1, n_genes)
        self.tables = nn.ModuleList(LevelTable(key.n_levels, n_genes) for key in self.keys)
        for weight in self.parameters():
            nn.init.zeros_(weight).requires_grad_(False)

    def named_tables(self) -> dict[str, LevelTable]:
        """Read the offsets of each key.

        Returns
        -------
        Name of a key -> its table.
        """
        tables = [table for table in self.tables if isinstance(table, LevelTable)]
        return {key.name: table for key, table in zip(self.keys, tables, strict=True)}

    def members(self, condition: Condition, n_cells: int) -> list[tuple[LevelTable, Tensor]]:
        """Which rows of each table the cells have.

        Parameters
        ----------
        condition
            Condition of each cell.
        n_cells
            Number of cells.

        Returns
        -------
        Tables, that of everyone first, each with 0/1 floats ``(n_cells, n_rows)``; a key that is not given has no row.
        """
        pairs = [(self.everyone, self.everyone.weight.new_ones(n_cells, 1))]
        for key, table in zip(self.keys, self.named_tables().values(), strict=True):
            value = condition.get(key.name)
            if value is not None:
                pairs.append((table, key.members_given(value)))
        return pairs

    def forward(self, logits: Tensor, condition: Condition) -> Tensor:
        """Logits ``(n_cells, n_outputs * n_genes)`` with the offsets of the cells added to the first of each gene."""
        offset = FAST * self.everyone.rows()
        for key, table in zip(self.keys, self.named_tables().values(), strict=True):
            if key.name in condition:
                offset = offset + key.sum_rows(FAST * table.rows(), condition[key.name])
        others = logits.shape[-1] - offset.shape[-1]
        return logits + (nn.functional.pad(offset, (0, others)) if others else offset)

    def penalty(self) -> Tensor | float:
        """Sum the squares of the learned offsets on the scale of their prior.

        Returns
        -------
        Negative log prior of them in nats, up to a constant.
        """
        learned = [table.rows()[table.n_kept :] for table in self.named_tables().values() if table.weight.requires_grad]
        return sum(((FAST * rows / _SPREAD).square().sum() / 2 for rows in learned), 0.0)
