"""Fingerprints of arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

#: Values copied at a time: names of millions of cells are several times as large as text of one width.
_BLOCK = 2**16


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
        flat = values.ravel()
        blocks = [flat[start : start + _BLOCK] for start in range(0, max(values.size, 1), _BLOCK)]
        dtype = values.dtype
        if dtype.kind in "OUST":
            dtype = np.result_type(*(block.astype(np.str_).dtype for block in blocks))  # as wide as the longest name
        self._hash.update(f"{dtype.str}{values.shape}".encode())
        for block in blocks:
            self._hash.update(block.astype(dtype, copy=False).tobytes())

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
