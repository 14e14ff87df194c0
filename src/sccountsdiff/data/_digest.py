"""Fingerprints of arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np


class Digest:
    """Takes arrays one by one; the same arrays in the same order give the same text."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, array: Any) -> None:
        """Take an array.

        Parameters
        ----------
        array
            Numbers or names, of any shape.
        """
        values = np.asarray(array)
        values = values.astype(np.str_) if values.dtype.kind in "OUST" else values
        self._hash.update(f"{values.dtype.str}{values.shape}".encode())
        self._hash.update(np.ascontiguousarray(values).tobytes())

    def text(self) -> str:
        """The fingerprint of what was taken so far.

        Returns
        -------
        32 hexadecimal digits.
        """
        return self._hash.hexdigest()


def digest(arrays: Iterable[Any]) -> str:
    """Fingerprint of several arrays.

    Parameters
    ----------
    arrays
        Arrays of numbers or names, in an order that matters.

    Returns
    -------
    32 hexadecimal digits.
    """
    taken = Digest()
    for array in arrays:
        taken.add(array)
    return taken.text()
