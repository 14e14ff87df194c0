"""From what a user asks to generate to one condition per cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from sccountsdiff.model._names import nearest_first, resolve_category
from sccountsdiff.model._population import Population
from sccountsdiff.model._setup import ConditionSource

#: What a user may pass as condition.
Conditions = Mapping[str, Any] | Sequence[Mapping[str, Any]] | pd.DataFrame | None


@dataclass(frozen=True)
class CellPlan:
    """What each cell to be generated is conditioned on.

    Attributes
    ----------
    values
        Name of a key -> values ``(n_cells,)`` or ``(n_cells, dim)``; codes -1 and NaN stand for "not given".
    library_size
        UMI total of each cell ``(n_cells,)``, NaN where unknown.
    template
        Training cell (position in the population) that each cell takes its unspecified keys, its library size and, if
        wanted, its start from; -1 if no training cell has the condition.
    """

    values: dict[str, NDArray[Any]]
    library_size: NDArray[np.float32]
    template: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.template)


def plan_cells(
    condition: Conditions,
    n_cells: int | Sequence[int],
    library_size: float | Sequence[float] | NDArray[Any] | None,
    sources: Sequence[ConditionSource],
    population: Population,
    rng: np.random.Generator,
) -> CellPlan:
    """Resolve names, draw what was left out from the training cells that match, and draw library sizes."""
    rows = [resolve(row, sources) for row in _rows(condition)]
    sizes = np.broadcast_to(np.asarray(n_cells, dtype=np.intp), len(rows)) if np.ndim(n_cells) == 0 else n_cells
    if len(sizes) != len(rows):
        raise ValueError(
            f"n_cells has {len(sizes)} entries for {len(rows)} conditions; pass one number or one for each."
        )
    if min(sizes, default=0) < 1:
        raise ValueError(f"n_cells must be at least 1, got {min(sizes, default=0)}.")
    plans = [_plan_one(row, int(size), sources, population, rng) for row, size in zip(rows, sizes, strict=True)]
    joined = CellPlan(
        {s.name: np.concatenate([plan.values[s.name] for plan in plans]) for s in sources},
        np.concatenate([plan.library_size for plan in plans]),
        np.concatenate([plan.template for plan in plans]),
    )
    if library_size is None:
        return joined
    return CellPlan(joined.values, _checked_library(library_size, len(joined)), joined.template)


def resolve(row: Mapping[str, Any], sources: Sequence[ConditionSource]) -> dict[str, Any]:
    """One condition in codes and numbers.

    Raises
    ------
    ValueError
        If a key or category is unknown, or a value is no number (or vector) where one is needed.
    """
    known = {source.name: source for source in sources}
    resolved: dict[str, Any] = {}
    for name, value in row.items():
        if name not in known:
            names = nearest_first(name, known) or "none (setup_anndata was called without any)"
            raise ValueError(f"{name!r} is no condition key of the model. Condition keys: {names}.")
        resolved[name] = _resolve_value(known[name], value)
    return resolved


def _resolve_value(source: ConditionSource, value: Any) -> Any:
    if source.names is not None:
        if not np.isscalar(value):
            raise ValueError(
                f"Condition {source.name!r} takes one category, got {value!r}. For several conditions pass a list of "
                "dictionaries or a DataFrame."
            )
        return resolve_category(source, value)
    number = np.asarray(value, dtype=np.float32)
    if number.shape != source.shape or not np.isfinite(number).all():
        what = f"a finite vector of length {source.shape[0]}" if source.shape else "a finite number"
        raise ValueError(f"Condition {source.name!r} takes {what}, got {value!r}.")
    return number


def _rows(condition: Conditions) -> list[Mapping[str, Any]]:
    if condition is None:
        return [{}]
    if isinstance(condition, Mapping):
        return [condition]
    if isinstance(condition, pd.DataFrame):
        return [{str(k): v for k, v in row.items()} for row in condition.to_dict("records")]
    if len(condition) == 0:
        raise ValueError("The list of conditions is empty; pass None to generate cells like the training data.")
    return list(condition)


def _plan_one(
    given: Mapping[str, Any],
    n_cells: int,
    sources: Sequence[ConditionSource],
    population: Population,
    rng: np.random.Generator,
) -> CellPlan:
    categorical = [source.name for source in sources if source.names is not None]
    matching = population.matching(given, categorical)
    template = _evenly(matching, n_cells, rng) if len(matching) else np.full(n_cells, -1)
    values = {}
    for source in sources:
        null = source.key.null(n_cells, torch.device("cpu")).numpy()
        if source.name in given:
            values[source.name] = np.broadcast_to(np.asarray(given[source.name], dtype=null.dtype), null.shape)
            continue
        drawn = population.column(source.name, template) if len(matching) else None
        values[source.name] = null if drawn is None else drawn.astype(null.dtype)
    # A combination without training cells takes library sizes from all of them.
    cells = template if len(matching) else _evenly(np.arange(len(population)), n_cells, rng)
    library = population.library_size[cells]
    return CellPlan(values, _measured(library, population, rng), template.astype(np.intp))


def _evenly(cells: NDArray[np.integer], n: int, rng: np.random.Generator) -> NDArray[np.integer]:
    """``n`` of the cells in random order, none twice before all are drawn: less noise than independent draws."""
    rounds = [rng.permutation(cells) for _ in range(-(-n // len(cells)))]
    return np.concatenate(rounds)[:n]


def _measured(library: NDArray[Any], population: Population, rng: np.random.Generator) -> NDArray[np.float32]:
    """Library sizes with unknown ones (cells with unmeasured genes) drawn from known ones, if there are any."""
    unknown = np.isnan(library)
    known = population.library_size[~np.isnan(population.library_size)]
    if unknown.any() and len(known):
        library = np.where(unknown, rng.choice(known, len(library)), library)
    return library.astype(np.float32)


def _checked_library(library_size: Any, n_cells: int) -> NDArray[np.float32]:
    library = np.asarray(library_size, dtype=np.float32)
    if library.ndim and library.shape != (n_cells,):
        raise ValueError(
            f"library_size has shape {library.shape}; pass one number, or one for each of {n_cells} cells."
        )
    if not (np.isfinite(library).all() and (library > 0).all()):
        raise ValueError("library_size must be positive and finite: the number of UMIs of each cell.")
    return np.broadcast_to(library, n_cells).copy()
