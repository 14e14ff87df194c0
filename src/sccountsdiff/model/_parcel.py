"""Objects on their way to other processes."""

from __future__ import annotations

import io
import pickle
from typing import Any, final

import h5py


@final
class Parcel:
    """Something that travels by value, except what is in HDF5 files, which the receiver opens again.

    Parameters
    ----------
    content
        What travels.
    """

    def __init__(self, content: Any) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        buffer = io.BytesIO()
        _Packer(buffer, protocol=pickle.HIGHEST_PROTOCOL).dump(self.content)
        return _unpacked, (buffer.getvalue(),)


class _Packer(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, (h5py.Group, h5py.Dataset)):
            return _opened, (value.file.filename, value.name)
        return NotImplemented


def _unpacked(content: bytes) -> Parcel:
    return Parcel(pickle.loads(content))


def _opened(path: str, name: str) -> Any:
    """A group or dataset of a file that stays open as long as somebody has it."""
    return h5py.File(path, "r")[name]
