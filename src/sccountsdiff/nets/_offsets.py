"""What sets a new category apart gene by gene: another chemistry captures other genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor, nn

from sccountsdiff.conditioning import CategoricalKey, CombinationKey, Condition, Key, LevelTable
from sccountsdiff.nets._heads import FAST

#: Standard deviation of an offset that is expected beforehand, as a log ratio of shares.
_SPREAD = 0.5


@final
class GeneOffsets(nn.Module):
    r"""Offsets of the logits of genes, for levels of a key that were added to a trained network.

    A token can only ask for what the network has learned to do with tokens. How another chemistry captures each gene it
    has never seen; one number for each gene says it. A rare gene says little of its offset :math:`b`, so that all have a
    prior :math:`b \sim \mathrm{N}(0, 0.5^2)`. Levels that were known before have no offset: their logits stay exactly
    what they were.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys: tuple[CategoricalKey | CombinationKey, ...] = ()
        self.first: dict[str, int] = {}
        self.tables = nn.ModuleList()

    def extend(self, keys: Sequence[Key], first: Mapping[str, int], n_genes: int) -> None:
        """Give offsets, at first 0, to some levels.

        Parameters
        ----------
        keys
            Keys of the network.
        first
            Name of a key -> its first level that has offsets.
        n_genes
            Number of genes.
        """
        with_levels = (key for key in keys if isinstance(key, CategoricalKey | CombinationKey))
        self.keys = tuple(key for key in with_levels if key.n_levels > first.get(key.name, key.n_levels))
        self.first = dict(first)
        tables = [LevelTable(key.n_levels - first[key.name], n_genes) for key in self.keys]
        for table in tables:
            nn.init.zeros_(table.weight)
        self.tables = nn.ModuleList(tables)

    def named_tables(self) -> dict[str, LevelTable]:
        """Read the offsets of each key.

        Returns
        -------
        Name of a key -> its offsets divided by their speed, ``(n_new_levels, n_genes)``.
        """
        tables = [table for table in self.tables if isinstance(table, LevelTable)]
        return {key.name: table for key, table in zip(self.keys, tables, strict=True)}

    def forward(self, logits: Tensor, condition: Condition) -> Tensor:
        """Logits ``(n_cells, n_outputs * n_genes)`` with the offsets of the cells' levels added to the first of each gene."""
        for key, table in zip(self.keys, self.named_tables().values(), strict=True):
            value = condition.get(key.name)
            if value is None:
                continue
            new = key.members(key.fill(value, key.is_null(value)))[:, self.first[key.name] :]
            offset = FAST * (new.to(logits.device) @ table.rows())
            logits = logits + nn.functional.pad(offset, (0, logits.shape[-1] - offset.shape[-1]))
        return logits

    def penalty(self) -> Tensor | float:
        """Sum the squared offsets on the scale of their prior.

        Returns
        -------
        Negative log prior of all offsets in nats, up to a constant.
        """
        scaled = [FAST * table.rows() / _SPREAD for table in self.named_tables().values()]
        return sum((offset.square().sum() / 2 for offset in scaled), 0.0)
