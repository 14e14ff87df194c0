"""Where streamed results go, and who works on them."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np

from sccountsdiff.data import ResultStore
from sccountsdiff.model._job import Job
from sccountsdiff.model._parcel import Parcel
from sccountsdiff.model._text import listed

_SHARDS = "shards"
#: Chunks that a worker takes at a time: what is lost with a worker, at most, is computed again.
_CHUNKS_OF_A_TASK = 16


class Destination(ABC):
    """A file, and the part of the work on it that is done here."""

    path: str | os.PathLike[str]
    #: Whether other processes draw too: all need the same seed.
    shared: bool = False

    @abstractmethod
    def work(self, job: Job, store: ResultStore) -> bool:
        """Work.

        Parameters
        ----------
        job
            The results wanted.
        store
            Where they go.

        Returns
        -------
        Whether all is there, and the file is to be put together.
        """


@final
@dataclass(frozen=True)
class Whole(Destination):
    """All of it here.

    Parameters
    ----------
    path
        The file.
    """

    path: str | os.PathLike[str]

    def work(self, job: Job, store: ResultStore) -> bool:
        """All chunks."""
        job.advance(store)
        return True


@final
@dataclass(frozen=True)
class Shard(Destination):
    """One of several equal parts, worked out by processes that know nothing of each other.

    All processes ask for the same, with the same seed, and see the same folder. :class:`Merge` puts the file together.

    Parameters
    ----------
    path
        File to write at the end, ending in ``.zarr`` or ``.h5ad``.
    number
        Number of this part, from 1.
    of
        Number of parts.

    Raises
    ------
    ValueError
        If there is no such part.

    Examples
    --------
    >>> model.impute(adata, out=Shard("imputed.zarr", 3, of=8))  # and so on, in 8 processes
    >>> model.impute(adata, out=Merge("imputed.zarr"))
    """

    path: str | os.PathLike[str]
    number: int
    of: int
    shared = True

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise ValueError(f"Shard {self.number}/{self.of} does not exist: shards are numbered from 1 to {self.of}.")

    def work(self, job: Job, store: ResultStore) -> bool:
        """The chunks of this part."""
        store.once(_SHARDS, self.of)
        job.advance(store, _parts(store, self.of)[self.number - 1])
        return False


@final
@dataclass(frozen=True)
class Merge(Destination):
    """The file put together from shards that are all there; nothing is computed.

    Parameters
    ----------
    path
        The file that the shards were made for.
    """

    path: str | os.PathLike[str]
    shared = True

    def work(self, job: Job, store: ResultStore) -> bool:
        """Look whether something is missing.

        Raises
        ------
        FileNotFoundError
            If a chunk is missing or damaged.
        """
        missing = store.pending()
        if missing:
            of = store.once(_SHARDS, 1)
            numbered = enumerate(_parts(store, of), 1)
            shards = [f"{number}/{of}" for number, part in numbered if set(part) & set(missing)]
            raise FileNotFoundError(
                f"{self.path} cannot be put together: {len(missing)} of {store.chunks.number} chunks are missing or "
                f"damaged, those of shard {listed(shards)}. Run these shards (again), then merge."
            )
        return True


@final
@dataclass(frozen=True)
class Dask(Destination):
    """The work spread over the workers of a Dask cluster.

    The workers write to the same folder, which all must see. A worker that dies loses the chunk it was at.

    Parameters
    ----------
    path
        File to write, ending in ``.zarr`` or ``.h5ad``.
    client
        :class:`distributed.Client` of the cluster.

    Examples
    --------
    >>> from dask.distributed import Client, LocalCluster
    >>> with LocalCluster(n_workers=4) as cluster, Client(cluster) as client:
    ...     model.impute(adata, out=Dask("imputed.zarr", client))
    """

    path: str | os.PathLike[str]
    client: Any

    def work(self, job: Job, store: ResultStore) -> bool:
        """All chunks, some at a time on each worker."""
        numbers = np.arange(store.chunks.number)
        parts = np.split(numbers, range(_CHUNKS_OF_A_TASK, len(numbers), _CHUNKS_OF_A_TASK))
        # A result of the cluster, not data put on workers: it can be made again if the workers that hold it die.
        parcel = self.client.submit(_same, Parcel((job, store)), pure=False)
        futures = self.client.map(_advance, [part.tolist() for part in parts], parcel=parcel, pure=False)
        self.client.gather(futures)
        return True


#: What ``out=`` takes.
Out: TypeAlias = "str | os.PathLike[str] | Destination"


def parse_out(out: Out) -> Destination:
    """A destination from a path, or the destination itself."""
    return out if isinstance(out, Destination) else Whole(out)


def _parts(store: ResultStore, number: int) -> list[list[int]]:
    """The chunks of each shard: neighbours, which are read at once."""
    return [part.tolist() for part in np.array_split(np.arange(store.chunks.number), number)]


def _same(parcel: Parcel) -> Parcel:
    return parcel


def _advance(chunks: Sequence[int], parcel: Parcel) -> None:
    """Work on some chunks, in a worker."""
    job, store = parcel.content
    job.advance(store, chunks)
