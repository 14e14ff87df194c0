"""Conditions that stand in for the cells' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sccountsdiff.model._request import resolve
from sccountsdiff.model._setup import ConditionSource


def parse_override(
    condition: Mapping[str, Any] | None, sources: Sequence[ConditionSource], n_cells: int
) -> dict[str, Tensor]:
    """Values for every cell, ``(n_cells,)`` or ``(n_cells, dim)``, from one value or one per cell for each key.

    Raises
    ------
    ValueError
        If a key or category is unknown, a value is no number where one is needed, or a column has another length than
        there are cells.
    """
    known = {source.name: source for source in sources}
    columns = {}
    for name, value in (condition or {}).items():
        if name not in known:
            resolve({name: value}, sources)  # raises, and lists the keys
        column = _column(known[name], value, sources, n_cells)
        columns[name] = torch.as_tensor(column).to(known[name].dtype)
    return columns


def _column(source: ConditionSource, value: Any, sources: Sequence[ConditionSource], n_cells: int) -> Any:
    shape = np.shape(value)
    if len(shape) == len(source.shape):
        one = np.asarray(resolve({source.name: value}, sources)[source.name])
        return np.broadcast_to(one, (n_cells, *source.shape)).copy()
    if len(shape) != len(source.shape) + 1 or shape[0] != n_cells:
        raise ValueError(
            f"The values of condition {source.name!r} have shape {shape}; pass one value, or one for each of {n_cells} "
            "cells."
        )
    if source.shape:
        return np.stack([resolve({source.name: vector}, sources)[source.name] for vector in np.asarray(value)])
    # Names and numbers repeat: each is resolved once.
    codes, values = pd.factorize(np.asarray(value), use_na_sentinel=False)
    return np.stack([resolve({source.name: one}, sources)[source.name] for one in values])[codes]
