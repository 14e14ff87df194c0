"""Training and held-out cells, and the minibatches that each process takes of them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scvi import REGISTRY_KEYS, settings
from scvi.data import AnnDataManager
from scvi.dataloaders import DataSplitter
from torch.utils.data import DataLoader, Dataset

from sccountsdiff.model._loader import CountsDataset
from sccountsdiff.model._order import (
    BlockShuffled,
    CellOrder,
    InOrder,
    Minibatch,
    MinibatchSampler,
    Shuffled,
    Spread,
    all_cells,
)
from sccountsdiff.model._random import seeded

#: Held-out cells up to which all are looked at anyway, so that their order does not matter.
_FEW = 512


class BufferedCells(Dataset):
    """Cells of a dataset, of which more are read from the storage than go into one minibatch.

    They are held in the pieces in which they were read: to join them would take as much memory again.

    Parameters
    ----------
    cells
        The dataset.
    """

    #: Cells of a piece.
    PIECE = 16_384

    def __init__(self, cells: CountsDataset) -> None:
        self.cells = cells
        self._read: NDArray[np.integer] = np.empty(0, dtype=np.intp)
        self._pieces: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self.cells)

    def __getitem__(self, minibatch: Minibatch) -> dict[str, Any]:
        if minibatch.cells is minibatch.read:
            return self.cells[minibatch.cells]
        if not np.array_equal(minibatch.read, self._read):
            self._fill(minibatch.read)
        return self.cells.tensors(self._rows(np.searchsorted(self._read, minibatch.cells)))

    def _fill(self, rows: NDArray[np.integer]) -> None:
        self._read, self._pieces = rows[:0], []  # the old cells go before the new ones are read
        self._pieces = [self.cells.read(rows[start : start + self.PIECE]) for start in range(0, len(rows), self.PIECE)]
        self._read = rows

    def _rows(self, picked: NDArray[np.integer]) -> dict[str, Any]:
        """Rows in any order, each from the piece that it lies in."""
        order = np.argsort(picked)
        starts = np.arange(len(self._pieces)) * self.PIECE
        of_pieces = np.split(picked[order], np.searchsorted(picked[order], starts[1:]))
        parts = list(zip(self._pieces, of_pieces, starts, strict=True))
        back = np.argsort(order)
        return {
            key: _joined([piece[key][rows - start] for piece, rows, start in parts])[back] for key in self._pieces[0]
        }


class CountsDataSplitter(DataSplitter):
    """Splits cells at random, and deals minibatches to any number of processes so that none is seen twice.

    What is random is agreed upon by all processes and kept in checkpoints: a resumed training holds out the same cells.

    Parameters
    ----------
    adata_manager
        The registered data.
    order
        How to go through the training cells; ``None`` shuffles blocks if the counts are on disk, else cells.
    **kwargs
        Passed on to :class:`~scvi.dataloaders.DataSplitter`, and by it to the data loader of torch. Whether the sampler
        is distributed need not be said: the strategy of the trainer decides.
    """

    def __init__(self, adata_manager: AnnDataManager, order: CellOrder | None = None, **kwargs: Any) -> None:
        self.batch_size = kwargs.pop("batch_size", None) or settings.batch_size
        kwargs.pop("distributed_sampler", None)
        with warnings.catch_warnings():
            # A last minibatch of one or two cells does no harm: no layer takes statistics over cells.
            warnings.filterwarnings("ignore", message="Last batch will have a small size")
            super().__init__(adata_manager, batch_size=self.batch_size, **kwargs)
        self.order = _suitable_order(adata_manager) if order is None else order
        self.split_seed = int(np.random.SeedSequence().generate_state(1)[0]) if settings.seed is None else settings.seed
        self.order_seed = seeded(None)

    def setup(self, stage: str | None = None) -> None:
        """Split the cells, the same in every process."""
        if self.trainer is not None:
            self.load_state_dict(self.trainer.strategy.broadcast(self.state_dict()))
        else:
            self._split()

    def state_dict(self) -> dict[str, Any]:
        """Seeds, for a checkpoint."""
        return {"split_seed": self.split_seed, "order_seed": self.order_seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Seeds from a checkpoint; the cells are split again."""
        self.split_seed, self.order_seed = state_dict["split_seed"], state_dict["order_seed"]
        self._split()

    def _split(self) -> None:
        if self.external_indexing is not None:
            self.train_idx, self.val_idx, self.test_idx = self.external_indexing
            return
        cells = all_cells(self.adata_manager.adata.n_obs)
        if self.shuffle_set_split:
            cells = np.random.RandomState(self.split_seed).permutation(cells)
        self.val_idx, self.train_idx, self.test_idx = np.split(cells, [self.n_val, self.n_val + self.n_train])

    def train_dataloader(self) -> DataLoader:
        """Minibatches of training cells for this process."""
        rank, world_size = self._place()
        # Neighbours in the file are neighbours in the order, so that blocks can be read at once.
        cells = self._dataset(np.sort(self.train_idx))
        sampler = MinibatchSampler(len(cells), self.batch_size, self.order, self.order_seed, rank, world_size)
        return self._loader(cells, sampler)

    def val_dataloader(self) -> DataLoader | None:
        """Minibatches of held-out cells for this process."""
        return self._held_out(self.val_idx)

    def test_dataloader(self) -> DataLoader | None:
        """Minibatches of the cells left over, for this process."""
        return self._held_out(self.test_idx)

    def _held_out(self, rows: NDArray[np.integer]) -> DataLoader | None:
        if len(rows) == 0:
            return None
        rank, world_size = self._place()
        if len(rows) < world_size:  # too few to share: every process looks at all of them
            rank, world_size = 0, 1
        cells = self._dataset(np.sort(rows))  # neighbours are read from a disk together
        order = InOrder() if len(rows) <= _FEW else Spread()
        return self._loader(cells, MinibatchSampler(len(cells), self.batch_size, order, 0, rank, world_size))

    def _place(self) -> tuple[int, int]:
        """Number of this process, and how many there are."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _dataset(self, rows: NDArray[np.integer]) -> CountsDataset:
        return CountsDataset(self.adata_manager, rows, self.load_sparse_tensor)

    def _loader(self, cells: CountsDataset, sampler: MinibatchSampler) -> DataLoader:
        options = {"num_workers": settings.dl_num_workers, "persistent_workers": settings.dl_persistent_workers}
        options |= {name: value for name, value in self.data_loader_kwargs.items() if name != "batch_size"}
        return DataLoader(BufferedCells(cells), batch_size=None, sampler=sampler, pin_memory=self.pin_memory, **options)


def _suitable_order(manager: AnnDataManager) -> CellOrder:
    """Blocks for counts on disk, cells for counts in memory."""
    counts = manager.get_from_registry(REGISTRY_KEYS.X_KEY)
    in_memory = sparse.issparse(counts) or isinstance(counts, np.ndarray)
    return Shuffled() if in_memory else BlockShuffled()


def _joined(parts: list[Any]) -> Any:
    """Rows one after the other: NumPy arrays, or sparse matrices."""
    return sparse.vstack(parts, format="csr") if sparse.issparse(parts[0]) else np.concatenate(parts)
