"""The order in which a training sees its cells: each once an epoch, shared out among processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

Positions = NDArray[np.integer]


def all_cells(n_cells: int) -> Positions:
    """Positions of all cells, in 32 bits as long as these are enough: there may be millions.

    Parameters
    ----------
    n_cells
        Number of cells.

    Returns
    -------
    Rising positions from 0.
    """
    return np.arange(n_cells, dtype=np.int32 if n_cells <= np.iinfo(np.int32).max else np.int64)


class Minibatch(NamedTuple):
    """Cells that go to the network together, and those that are read from the storage along with them.

    Parameters
    ----------
    cells
        Positions of the cells of the minibatch.
    read
        Positions of all cells that one look into the storage brings: the minibatch itself, or rising positions with
        the minibatch among them.
    """

    cells: Positions
    read: Positions


class CellOrder(ABC):
    """A way to go through all cells once."""

    @abstractmethod
    def positions(self, n_cells: int, rng: np.random.Generator) -> Positions:
        """All cells, each once.

        Parameters
        ----------
        n_cells
            Number of cells.
        rng
            Source of randomness.
        """

    def minibatches(self, cuts: list[Positions], rng: np.random.Generator) -> Iterator[Minibatch]:
        """Minibatches from the pieces that the order of a process was cut into.

        Parameters
        ----------
        cuts
            Positions of the cells of each minibatch.
        rng
            Source of randomness.

        Returns
        -------
        The minibatches, in the order of the pieces.
        """
        return (Minibatch(cut, cut) for cut in cuts)


@final
class InOrder(CellOrder):
    """As the cells come."""

    def positions(self, n_cells: int, rng: np.random.Generator) -> Positions:
        """Rising positions."""
        return all_cells(n_cells)


@final
class Spread(CellOrder):
    """As the cells come within a minibatch, and minibatches from all over the storage first.

    Data are often sorted by sample or type. Whoever looks at the first few minibatches alone sees some of everything.
    """

    def positions(self, n_cells: int, rng: np.random.Generator) -> Positions:
        """Rising positions."""
        return all_cells(n_cells)

    def minibatches(self, cuts: list[Positions], rng: np.random.Generator) -> Iterator[Minibatch]:
        """The first minibatch, that in the middle, those at the quarters, and so on (van der Corput).

        Parameters
        ----------
        cuts
            Positions of the cells of each minibatch.
        rng
            Not used.

        Returns
        -------
        All of them.
        """
        digits = max(len(cuts) - 1, 1).bit_length()
        order = (int(f"{number:0{digits}b}"[::-1], 2) for number in range(2**digits))
        return (Minibatch(cuts[i], cuts[i]) for i in order if i < len(cuts))


@final
class Shuffled(CellOrder):
    """A random permutation: for counts in memory, where it costs nothing to jump from cell to cell."""

    def positions(self, n_cells: int, rng: np.random.Generator) -> Positions:
        """A permutation."""
        return rng.permutation(all_cells(n_cells))


@final
@dataclass(frozen=True)
class BlockShuffled(CellOrder):
    """Contiguous blocks in random order, and cells in random order within a buffer of many blocks.

    A disk reads a run of neighbouring cells as fast as a single one. On data sorted by type the share of a type in a
    minibatch then varies by a factor ``1 + (n - 1) * block_size / buffer_size`` more than under a full shuffle, at most
    (``n`` cells in a minibatch): 1.5 for 128 cells and the defaults.

    Parameters
    ----------
    block_size
        Cells of a block.
    buffer_size
        Cells held in memory (sparse), in all.
    """

    block_size: int = 64
    buffer_size: int = 16_384

    def __post_init__(self) -> None:
        if not 1 <= self.block_size <= self.buffer_size:
            raise ValueError(
                "A block holds at least one cell and a buffer at least one block, got "
                f"block_size={self.block_size} and buffer_size={self.buffer_size}."
            )

    def positions(self, n_cells: int, rng: np.random.Generator) -> Positions:
        """Permuted blocks; where the first one starts is drawn too, so that borders differ between epochs."""
        shifted = np.roll(all_cells(n_cells), -int(rng.integers(min(self.block_size, n_cells))))
        blocks = np.split(shifted, range(self.block_size, n_cells, self.block_size))
        return np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])

    def minibatches(self, cuts: list[Positions], rng: np.random.Generator) -> Iterator[Minibatch]:
        """Mix the cells of as many minibatches as a buffer holds.

        Parameters
        ----------
        cuts
            Positions of the cells of each minibatch.
        rng
            Source of randomness.

        Yields
        ------
        Minibatches that are read together.
        """
        n_together = max(1, self.buffer_size // max(len(cuts[0]), 1))
        for first in range(0, len(cuts), n_together):
            together = cuts[first : first + n_together]
            read = np.sort(np.concatenate(together))
            ends = np.cumsum([len(cut) for cut in together])[:-1]
            for cells in np.split(rng.permutation(read), ends):
                yield Minibatch(cells, read)


@final
class MinibatchSampler(Sampler[Minibatch]):
    """Minibatches of one process out of several: together they take every cell once an epoch.

    All minibatches of an epoch are of about the same size, and no process has more of them than another, so that none
    waits in vain. Lightning tells the epoch by :meth:`set_epoch`.

    Parameters
    ----------
    n_cells
        Number of cells.
    batch_size
        Cells of a minibatch, of all processes together.
    order
        How the cells are gone through.
    seed
        Seed of the order, the same in all processes.
    rank, world_size
        Number of this process, and how many there are.

    Raises
    ------
    ValueError
        If there are fewer cells than processes.
    """

    def __init__(
        self, n_cells: int, batch_size: int, order: CellOrder, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if n_cells < world_size:
            raise ValueError(f"{world_size} processes cannot share {n_cells} cells: use fewer devices.")
        self.n_cells = n_cells
        self.order = order
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self.n_batches = min(-(-n_cells // batch_size), n_cells // world_size)
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Number of the epoch to come."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Minibatch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        share = np.array_split(self.order.positions(self.n_cells, rng), self.world_size)[self.rank]
        return self.order.minibatches(np.array_split(share, self.n_batches), rng)
