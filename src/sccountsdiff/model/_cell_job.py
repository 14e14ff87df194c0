"""Questions about measured cells, answered minibatch by minibatch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
import torch
from numpy.typing import NDArray
from scvi import settings
from scvi.utils import track
from torch import Tensor
from torch.utils.data import DataLoader

from sccountsdiff.data import Chunks, Rows
from sccountsdiff.model._job import Job, Piece
from sccountsdiff.model._loader import CountsDataset
from sccountsdiff.model._module import Cells, CountDiffusionModule
from sccountsdiff.model._random import chunk_generator
from sccountsdiff.model._side_by_side import side_by_side


class Shown(Protocol):
    """What a task looks at in a minibatch."""

    def tensors(self) -> list[Tensor]:
        """All that an answer follows from."""


class Task(ABC):
    """A question that is answered for each minibatch of cells by itself."""

    #: Name of the method that asks, for the progress bar.
    title: str

    @property
    @abstractmethod
    def places(self) -> Sequence[Sequence[str]]:
        """Where in an AnnData each result goes."""

    @abstractmethod
    def request(self) -> dict[str, Any]:
        """The question in the terms of JSON."""

    def show(self, cells: Cells, rows: NDArray[np.integer]) -> Shown:
        """What the model is shown of cells at some positions of the data: by default all of them."""
        return cells

    @abstractmethod
    def answer(self, shown: Any, generator: torch.Generator) -> Sequence[Rows]:
        """The results for a minibatch, each with a row for each cell."""


@final
@dataclass(frozen=True)
class CellReader:
    """Chunks of cells of an AnnData, from wherever its counts are.

    Attributes
    ----------
    module
        Its device is where the minibatches go.
    cells
        The cells, in the order of the results.
    size
        Cells in a chunk.
    silent
        Whether to hide the progress bar.
    """

    module: CountDiffusionModule
    cells: CountsDataset
    size: int
    silent: bool

    @property
    def chunks(self) -> Chunks:
        """The chunks."""
        return Chunks(len(self.cells), self.size)

    @property
    def n_entries(self) -> int:
        """Cells times genes of a chunk."""
        return self.size * self.cells.counts.shape[1]

    def rows(self, chunk: int) -> NDArray[np.integer]:
        """Positions of the cells of a chunk in the data."""
        return self.cells.rows[self.chunks.rows(chunk)]

    def read(self, chunks: Sequence[int], title: str) -> Iterator[tuple[NDArray[np.integer], Cells]]:
        """Some chunks: the positions of the cells, and the cells."""
        # Even without shuffling an iterator of torch draws a seed, by default from the global generator.
        options = {"num_workers": settings.dl_num_workers, "generator": torch.Generator()}
        rows = [self.chunks.rows(chunk) for chunk in chunks]
        loader = DataLoader(self.cells, batch_size=None, sampler=rows, **options)
        tracked = track(loader, description=title, disable=self.silent)
        for chunk, tensors in zip(chunks, tracked, strict=True):
            yield self.rows(chunk), self.module.cells(tensors)


@final
@dataclass(frozen=True)
class CellJob(Job):
    """A task for some cells.

    Attributes
    ----------
    task
        The question.
    reader
        The cells.
    """

    task: Task
    reader: CellReader

    @property
    def chunks(self) -> Chunks:
        """The chunks of cells."""
        return self.reader.chunks

    @property
    def places(self) -> Sequence[Sequence[str]]:
        """Where each result goes."""
        return self.task.places

    def request(self) -> dict[str, Any]:
        """The question."""
        return self.task.request()

    def pieces(self, chunks: Sequence[int], seed: int) -> Iterator[Piece]:
        """Answer."""
        reader, task = self.reader, self.task

        def answered(minibatch: tuple[int, tuple[NDArray[np.integer], Cells]]) -> Piece:
            chunk, (rows, cells) = minibatch
            shown = task.show(cells, rows)
            return Piece(task.answer(shown, chunk_generator(seed, chunk, cells.counts.device)), _arrays(shown))

        minibatches = zip(chunks, reader.read(chunks, task.title), strict=True)
        return side_by_side(answered, minibatches, reader.module.at_a_time(len(chunks), reader.n_entries))

    def inputs(self, chunks: Sequence[int]) -> Iterator[Iterable[NDArray[Any]]]:
        """Look at the cells again."""
        for rows, cells in self.reader.read(chunks, "Checking"):
            yield _arrays(self.task.show(cells, rows))


def _arrays(shown: Shown) -> Iterator[NDArray[Any]]:
    return (values.cpu().numpy() for values in shown.tensors())
