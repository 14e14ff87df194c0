"""Work on many cells, chunk by chunk: in memory, to a file, or in many processes, it is the same work."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray

from sccountsdiff.data import Chunks, ResultStore, Rows, Sink


class Piece(NamedTuple):
    """What comes out for a chunk of cells."""

    #: The rows of each result.
    blocks: Sequence[Rows]
    #: What they follow from, apart from the request; taken only if somebody wants to know.
    inputs: Iterable[NDArray[Any]]


class Job(ABC):
    """Results for many cells. What comes out for a chunk depends on the seed and its number alone.

    Attributes
    ----------
    chunks
        The chunks of cells.
    """

    chunks: Chunks

    @property
    @abstractmethod
    def places(self) -> Sequence[Sequence[str]]:
        """Where in an AnnData each result goes, see :class:`~sccountsdiff.data.ResultStore`."""

    @abstractmethod
    def request(self) -> dict[str, Any]:
        """All that the results follow from, apart from model, seed and the inputs of each chunk."""

    @abstractmethod
    def pieces(self, chunks: Sequence[int], seed: int) -> Iterator[Piece]:
        """Work out some chunks, in this order.

        Parameters
        ----------
        chunks
            Their numbers.
        seed
            Seed of the draws.
        """

    @abstractmethod
    def inputs(self, chunks: Sequence[int]) -> Iterator[Iterable[NDArray[Any]]]:
        """What some chunks would be made of, without making them.

        Parameters
        ----------
        chunks
            Their numbers.
        """

    @torch.inference_mode()
    def fill(self, sink: Sink, seed: int, chunks: Sequence[int] | None = None) -> None:
        """Work out what a sink lacks of some chunks, or of all."""
        pending = sink.pending(chunks)
        for chunk, piece in zip(pending, self.pieces(pending, seed) if pending else (), strict=True):
            sink.write(chunk, piece.blocks, piece.inputs)

    @torch.inference_mode()
    def advance(self, store: ResultStore, chunks: Sequence[int] | None = None) -> None:
        """Do a part of the work, or all of it: what is finished is checked, what is missing is worked out."""
        chunks = range(self.chunks.number) if chunks is None else chunks
        pending = set(store.pending(chunks))
        finished = [chunk for chunk in chunks if chunk not in pending]
        for chunk, inputs in zip(finished, self.inputs(finished) if finished else (), strict=True):
            store.check(chunk, inputs)
        self.fill(store, store.seed, sorted(pending))
