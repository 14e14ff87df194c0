"""Finished pieces of a long computation, each on disk whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from scipy import sparse

from sccountsdiff.data._matrix import Rows


@final
class ChunkFolder:
    """A folder of numbered chunks that belong to one request.

    Files come into place by renaming, so that a kill or a full disk leaves no half file under a chunk's name. A chunk
    whose checksum fails counts as not written.

    Parameters
    ----------
    path
        The folder; made if it does not exist.
    request
        What the chunks answer, in the terms of JSON. Chunks of the same request are kept.

    Raises
    ------
    FileExistsError
        If the folder holds chunks of another request.
    """

    def __init__(self, path: Path, request: Mapping[str, Any]) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        check_same_request(path, self.once("request", request), request)

    def once(self, name: str, value: Any) -> Any:
        """A value of JSON under a name: the one that was noted first."""
        noted = self.path / f"{name}.json"
        if not noted.exists():
            self._put(noted.name, lambda file: file.write(json.dumps(value).encode()))
        return json.loads(noted.read_text(encoding="utf-8"))

    def finished(self, chunks: Iterable[int]) -> set[int]:
        """Those of some chunks that are there and whole."""
        return {chunk for chunk in chunks if _is_whole(self.path / self._name(chunk))}

    def write(self, chunk: int, blocks: Sequence[Rows], source: str) -> None:
        """Put the blocks of a chunk on disk, with the fingerprint of what they were made of."""
        arrays = {f"{k}_{part}": array for k, block in enumerate(blocks) for part, array in _parts(block).items()}
        self._put(self._name(chunk), lambda file: np.savez(file, source=np.array(source), **arrays))

    def read(self, chunk: int, block: int) -> Rows:
        """One of the blocks of a chunk."""
        with np.load(self.path / self._name(chunk)) as arrays:
            return _whole({part: arrays[f"{block}_{part}"] for part in _PARTS if f"{block}_{part}" in arrays})

    def source(self, chunk: int) -> str:
        """Fingerprint of what a chunk was made of."""
        with np.load(self.path / self._name(chunk)) as arrays:
            return str(arrays["source"])

    def _put(self, name: str, write: Any) -> None:
        """Write a file beside its place, then move it there."""
        partial = self.path / f".{name}.{uuid.uuid4().hex}"  # several machines may write the same name
        try:
            with partial.open("wb") as file:
                write(file)
                _flush(file)
            partial.replace(self.path / name)
        except OSError as error:
            error.add_note(
                f"What was finished before is kept in {self.path}. Make space or repair the disk, then run the same call "
                "again: it goes on from there."
            )
            raise
        finally:
            partial.unlink(missing_ok=True)

    def _name(self, chunk: int) -> str:
        return f"{chunk:08d}.npz"


def check_same_request(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raise ``FileExistsError``, naming what differs, unless two requests are the same."""
    differing = [
        f"{name} ({there.get(name)!r} there, {here.get(name)!r} here)"
        for name in sorted({*there, *here})
        if there.get(name) != here.get(name)
    ]
    if differing:
        raise FileExistsError(
            f"{path} holds the results of another request: it differs in {'; '.join(differing)}. Repeat that request to "
            "complete it, delete the path, or choose another one."
        )


_PARTS = ("values", "data", "indices", "indptr", "shape")


def _parts(block: Rows) -> dict[str, Any]:
    if not sparse.issparse(block):
        return {"values": block}
    return {"data": block.data, "indices": block.indices, "indptr": block.indptr, "shape": np.array(block.shape)}


def _whole(parts: Mapping[str, Any]) -> Rows:
    if "values" in parts:
        return parts["values"]
    return sparse.csr_matrix((parts["data"], parts["indices"], parts["indptr"]), shape=tuple(parts["shape"]))


def _is_whole(file: Path) -> bool:
    """Whether the checksums of all arrays hold."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, EOFError, FileNotFoundError):
        return False


def _flush(file: IO[bytes]) -> None:
    """To the disk itself: the name must not appear before the content, even if the machine stops."""
    file.flush()
    os.fsync(file.fileno())
