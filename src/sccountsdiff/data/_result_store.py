"""Results as an AnnData file, written chunk by chunk and resumed after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import zarr
from anndata.io import read_elem, sparse_dataset, write_elem
from scipy import sparse

from sccountsdiff.data._chunk_folder import ChunkFolder, check_same_request
from sccountsdiff.data._matrix import Rows
from sccountsdiff.data._sink import Sink

#: Entries of a chunk of the arrays of a sparse matrix: 1 MB of int32.
_SPARSE_CHUNK = 2**18
_NOTE, _REQUEST = "sccountsdiff", "request"


@final
class ResultStore(Sink):
    """Layers of an AnnData in ``.zarr`` or ``.h5ad``, in constant memory.

    Chunks are kept in ``<path>.partial`` until all are there; the file itself appears at the end, whole. After a kill
    the same request goes on with the chunks that are missing. Dense layers are chunked by cells, sparse ones are csr.

    Parameters
    ----------
    path
        File to write, ending in ``.zarr`` or ``.h5ad``.
    cell_names, gene_names
        Rows and columns of the layers.
    layers
        Name of each layer.
    chunk_size
        Cells of a chunk.
    request
        All that the results follow from, in the terms of JSON: files of another request are refused.
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
        cell_names: pd.Index,
        gene_names: pd.Index,
        layers: Sequence[str],
        chunk_size: int,
        request: Mapping[str, Any],
        seed: int,
    ) -> None:
        super().__init__(len(cell_names), chunk_size)
        self.path, self.seed = Path(path), seed
        if self.path.suffix not in _OPENERS:
            raise ValueError(f"out={str(path)!r} must end in {' or '.join(_OPENERS)}.")
        self.cell_names, self.gene_names, self.layers = cell_names, gene_names, list(layers)
        self.request = json.loads(json.dumps({**request, "layers": self.layers, "chunk_size": chunk_size}))
        self.complete = self.path.exists()
        if self.complete:
            check_same_request(self.path, _request_of(self.path), self.request)
            return
        self._chunks = ChunkFolder(self.path.with_name(f"{self.path.name}.partial"), self.request)
        self.seed = self._chunks.once("seed", seed)

    def pending(self) -> list[int]:
        """Chunks that are not finished."""
        if self.complete:
            return []
        finished = self._chunks.finished()
        return [chunk for chunk in range(self.n_chunks) if chunk not in finished]

    def write(self, chunk: int, blocks: Sequence[Rows]) -> None:
        """Put a chunk on disk."""
        self._chunks.write(chunk, blocks)

    def close(self, note: Mapping[str, Any]) -> None:
        """Put the chunks together, once all are written.

        Parameters
        ----------
        note
            How the layers were made, for ``uns["sccountsdiff"]``.
        """
        if self.complete:
            return
        whole = self._chunks.path / f"whole{self.path.suffix}"
        _remove(whole)
        with _OPENERS[self.path.suffix](whole, "w") as group:
            notes = {_REQUEST: json.dumps(self.request), **{layer: dict(note) for layer in self.layers}}
            obs, var = pd.DataFrame(index=self.cell_names.astype(str)), pd.DataFrame(index=self.gene_names.astype(str))
            write_elem(group, "/", ad.AnnData(obs=obs, var=var, uns={_NOTE: notes}))
            for chunk in range(self.n_chunks):
                for layer, block in zip(self.layers, self._chunks.read(chunk), strict=True):
                    self._append(group["layers"], layer, chunk, block)
        whole.rename(self.path)
        shutil.rmtree(self._chunks.path)
        self.complete = True

    def _append(self, layers: Any, name: str, chunk: int, block: Rows) -> None:
        if sparse.issparse(block) and chunk == 0:
            block.indptr = block.indptr.astype(np.int64)  # of the whole layer, which may hold more than 2**31 counts
            write_elem(layers, name, block, dataset_kwargs={"chunks": (_SPARSE_CHUNK,)})
        elif sparse.issparse(block):
            sparse_dataset(layers[name]).append(block)
        else:
            if chunk == 0:
                growing = {"maxshape": (None, block.shape[1])} if isinstance(layers, h5py.Group) else {}
                write_elem(layers, name, block, dataset_kwargs={"chunks": block.shape, **growing})
                layers[name].resize((self.n_cells, block.shape[1]))
            layers[name][self.rows(chunk)] = block


@contextmanager
def _open_h5ad(path: Path, mode: str) -> Iterator[Any]:
    with h5py.File(path, mode) as file:
        yield file


@contextmanager
def _open_zarr(path: Path, mode: str) -> Iterator[Any]:
    yield zarr.open_group(str(path), mode=mode, zarr_format=ad.settings.zarr_write_format if mode == "w" else None)


_OPENERS = {".zarr": _open_zarr, ".h5ad": _open_h5ad}


def _request_of(path: Path) -> dict[str, Any]:
    """The request that a file answers; empty if it was made by something else."""
    try:
        with _OPENERS[path.suffix](path, "r") as group:
            return json.loads(str(read_elem(group[f"uns/{_NOTE}/{_REQUEST}"])))
    except (KeyError, OSError, ValueError):
        return {}


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
