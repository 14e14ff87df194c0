"""Results as an AnnData file, written chunk by chunk and resumed after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import anndata as ad
import h5py
import numpy as np
import zarr
from anndata.experimental import write_dispatched
from anndata.io import read_elem, sparse_dataset, write_elem
from numpy.typing import NDArray
from scipy import sparse

from sccountsdiff.data._chunk_folder import ChunkFolder, check_same_request
from sccountsdiff.data._digest import digest
from sccountsdiff.data._matrix import Rows
from sccountsdiff.data._sink import Chunks, Sink

#: Entries of a chunk of the arrays of a sparse matrix: 1 MB of int32.
_SPARSE_CHUNK = 2**18
#: Entries of dense chunks that are written together, at most, a chunk for each core that compresses them: 64 MB.
_TOGETHER = 2**24
#: Names of a chunk. Zarr writes ten chunks at once, and takes several times the memory of the names in them.
_NAMES_CHUNK = 2**14
_NOTE, _REQUEST, _SOURCES, _SEED = "sccountsdiff", "request", "sources", "seed"


@final
class ResultStore(Sink):
    """Results about cells as an AnnData in ``.zarr`` or ``.h5ad``, in constant memory.

    Chunks are kept in ``<path>.partial`` until all are there, by one process or several; the file itself appears at
    the end, whole. After a kill the same request goes on with the chunks that are missing. Dense matrices are chunked
    by cells, sparse ones are csr.

    Parameters
    ----------
    path
        File to write, ending in ``.zarr`` or ``.h5ad``.
    places
        Where in the AnnData each result goes, one place or several: ``"X"``, ``"layers/imputed"``, ``"obsm/X_latent"``,
        ``"obs/elbo"``.
    chunks
        The chunks of cells.
    request
        All that the results follow from apart from the inputs of each chunk, in the terms of JSON: files of another
        request are refused.
    seed
        Seed of this request. A resumed one has the seed that it began with, see :attr:`seed`.

    Attributes
    ----------
    seed
        Seed that the chunks are drawn with.
    complete
        Whether the file is there already.

    Raises
    ------
    ValueError
        If the path ends in something else.
    FileExistsError
        If there is another file at the path, or the unfinished results of another request.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        places: Sequence[Sequence[str]],
        chunks: Chunks,
        request: Mapping[str, Any],
        seed: int,
    ) -> None:
        super().__init__(chunks)
        self.path, self.seed = Path(path), seed
        if self.path.suffix not in _OPENERS:
            raise ValueError(f"out={str(path)!r} must end in {' or '.join(_OPENERS)}.")
        self.places = [list(several) for several in places]
        self.request = json.loads(json.dumps({**request, "results": self.places, "chunk_size": chunks.size}))
        self.complete = self.path.exists()
        if self.complete:
            noted = _notes_of(self.path)
            check_same_request(self.path, json.loads(str(noted.get(_REQUEST, "{}"))), self.request)
            self._sources = [str(source) for source in noted[_SOURCES]]
            return
        self._folder = ChunkFolder(_partial(self.path), self.request)
        self.seed = self._folder.once(_SEED, seed)

    def pending(self, chunks: Sequence[int] | None = None) -> list[int]:
        """Chunks that are not finished."""
        if self.complete:
            return []
        chunks = range(self.chunks.number) if chunks is None else chunks
        finished = self._folder.finished(chunks)
        return [chunk for chunk in chunks if chunk not in finished]

    def write(self, chunk: int, blocks: Sequence[Rows], inputs: Iterable[NDArray[Any]] = ()) -> None:
        """Put a chunk on disk."""
        self._folder.write(chunk, blocks, digest(inputs))

    def check(self, chunk: int, inputs: Iterable[NDArray[Any]]) -> None:
        """Make sure that a finished chunk was made of the same as it would be now.

        Parameters
        ----------
        chunk
            Its number.
        inputs
            What it would be made of.

        Raises
        ------
        FileExistsError
            If that has changed.
        """
        rows = self.chunks.rows(chunk)
        what = f"counts, masks and conditions of cells {rows.start} to {rows.stop - 1}"
        there = self._sources[chunk] if self.complete else self._folder.source(chunk)
        check_same_request(self.path, {what: there}, {what: digest(inputs)})

    def once(self, name: str, value: Any) -> Any:
        """A value of JSON that the writers of this file share: the one that was noted first.

        Parameters
        ----------
        name
            Its name.
        value
            What to note if nothing is.

        Returns
        -------
        What is noted; the value itself once the file is complete.
        """
        return value if self.complete else self._folder.once(name, value)

    def close(self, frame: ad.AnnData) -> None:
        """Put the chunks together, once all are written.

        Parameters
        ----------
        frame
            Cells and genes with all that is known of them before; the results are added.
        """
        if self.complete:
            return
        whole = self._folder.path / f"whole{self.path.suffix}"
        _remove(whole)
        self._sources = [self._folder.source(chunk) for chunk in range(self.chunks.number)]
        notes = {_REQUEST: json.dumps(self.request), _SOURCES: np.array(self._sources), _SEED: self.seed}
        frame.uns[_NOTE] = {**frame.uns.get(_NOTE, {}), **notes}
        results = [(number, place.rpartition("/")) for number, places in enumerate(self.places) for place in places]
        for number, (where, _, name) in results:
            if where == "obs":
                frame.obs[name] = np.concatenate(list(map(np.ravel, self._blocks(number))))
        with _OPENERS[self.path.suffix](whole, "w") as group:
            write_dispatched(group, "/", frame, _write_element)
            for number, (where, _, name) in results:
                if where != "obs":
                    self._append(group[where] if where else group, name, self._blocks(number))
        whole.rename(self.path)
        shutil.rmtree(self._folder.path)
        self.complete = True

    def _blocks(self, result: int) -> Iterator[Rows]:
        """The rows of a result, chunk by chunk."""
        return (self._folder.read(chunk, result) for chunk in range(self.chunks.number))

    def _append(self, group: Any, name: str, blocks: Iterator[Rows]) -> None:
        first = next(blocks)
        if sparse.issparse(first):
            first.indptr = first.indptr.astype(np.int64)  # of the whole, which may hold more than 2**31 counts
            write_elem(group, name, first, dataset_kwargs={"chunks": (_SPARSE_CHUNK,)})
            for block in blocks:
                sparse_dataset(group[name]).append(block)
            return
        growing = {"maxshape": (None, first.shape[1])} if isinstance(group, h5py.Group) else {}
        write_elem(group, name, first, dataset_kwargs={"chunks": first.shape, **growing})
        group[name].resize((self.chunks.n_cells, first.shape[1]))
        end, several = len(first), min(os.cpu_count() or 1, max(1, _TOGETHER // max(first.size, 1)))
        for rows in _gathered(blocks, np.empty((several * len(first), first.shape[1]), first.dtype)):
            start, end = end, end + len(rows)
            group[name][start:end] = rows


def _gathered(blocks: Iterator[NDArray[Any]], buffer: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The rows of blocks, as many at a time as a buffer holds, which is used again and again."""
    filled = 0
    for block in blocks:
        if filled + len(block) > len(buffer):
            yield buffer[:filled]
            filled = 0
        buffer[filled : filled + len(block)] = block
        filled += len(block)
    if filled:
        yield buffer[:filled]


def seed_begun_with(path: str | os.PathLike[str]) -> int | None:
    """Seed of the results at a path, finished or not; None if there are none.

    Parameters
    ----------
    path
        File that a :class:`ResultStore` writes.

    Returns
    -------
    The seed.
    """
    noted = _partial(Path(path)) / f"{_SEED}.json"
    seed = json.loads(noted.read_text()) if noted.exists() else _notes_of(Path(path)).get(_SEED)
    return None if seed is None else int(seed)


def _partial(path: Path) -> Path:
    """Where chunks are kept until the file is whole."""
    return path.with_name(f"{path.name}.partial")


def _write_element(
    write: Any, group: Any, name: str, element: Any, *, dataset_kwargs: Mapping[str, Any], **kwargs: Any
) -> None:
    """Write a part of an AnnData, many names in small chunks."""
    if isinstance(element, np.ndarray) and element.dtype == object and len(element) > _NAMES_CHUNK:
        dataset_kwargs = {**dataset_kwargs, "chunks": (_NAMES_CHUNK,)}
    write(group, name, element, dataset_kwargs=dataset_kwargs)


@contextmanager
def _open_h5ad(path: Path, mode: str) -> Iterator[Any]:
    with h5py.File(path, mode) as file:
        yield file


@contextmanager
def _open_zarr(path: Path, mode: str) -> Iterator[Any]:
    version = getattr(ad.settings, "zarr_write_format", 3)  # AnnData 0.14 will know 3 only
    yield zarr.open_group(str(path), mode=mode, zarr_format=version if mode == "w" else None)


_OPENERS = {".zarr": _open_zarr, ".h5ad": _open_h5ad}


def _notes_of(path: Path) -> dict[str, Any]:
    """What this package noted in a file; empty if it was made by something else."""
    try:
        with _OPENERS[path.suffix](path, "r") as group:
            notes = group[f"uns/{_NOTE}"]
            return {name: read_elem(notes[name]) for name in (_REQUEST, _SOURCES, _SEED)}
    except (KeyError, OSError, ValueError):
        return {}


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
