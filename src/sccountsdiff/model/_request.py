"""From what a user asks to generate to one condition per cell."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
        UMI total of each cell ``(n_cells,)``, or of each modality ``(n_cells, n_modalities)``; NaN where unknown.
    template
        Training cell (position in the population) that each cell takes its unspecified keys, its library size and, if
        wanted, its start from; -1 if no training cell has the condition.
    row
        Which of the conditions asked for the cell belongs to, ``(n_cells,)``.
    """

    values: dict[str, NDArray[Any]]
    library_size: NDArray[np.float32]
    template: NDArray[np.intp]
    row: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.template)

    def sized(self, library_size: Any, rng: np.random.Generator) -> CellPlan:
        """The same cells with the library sizes that were asked for, if any."""
        if library_size is None:
            return self
        sizes = library_sizes(library_size, len(self), rng, self.library_size.shape[1:])
        return replace(self, library_size=sizes)


@dataclass(frozen=True)
class Totals:
    """UMI totals of real cells, to draw from.

    Attributes
    ----------
    values
        UMI counts ``(n_cells,)``, or ``(n_cells, n_modalities)``.
    """

    values: NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """One condition to generate cells of.

    Attributes
    ----------
    template
        Condition of the training cells that library sizes, keys left out and starts come from.
    told
        Condition that the walk is told.
    whole
        Whether to prefer training cells in which every gene was measured.
    """

    template: Mapping[str, Any]
    told: Mapping[str, Any]
    whole: bool = False


def plan_cells(
    requests: Sequence[Request],
    sizes: NDArray[np.intp],
    sources: Sequence[ConditionSource],
    population: Population,
    rng: np.random.Generator,
) -> CellPlan:
    """Draw what was left out, and library sizes, from the training cells that match each request."""
    plans = [
        _plan_one(number, request, int(size), sources, population, rng)
        for number, (request, size) in enumerate(zip(requests, sizes, strict=True))
    ]
    return CellPlan(
        {s.name: np.concatenate([plan.values[s.name] for plan in plans]) for s in sources},
        np.concatenate([plan.library_size for plan in plans]),
        np.concatenate([plan.template for plan in plans]),
        np.concatenate([plan.row for plan in plans]),
    )


def plan_like(
    values: Mapping[str, NDArray[Any]], library_size: NDArray[np.float32], rows: Sequence[Mapping[str, Any]]
) -> CellPlan:
    """The same cells, with some keys replaced.

    Parameters
    ----------
    values
        Condition of each cell.
    library_size
        UMI total of each cell ``(n_cells,)``.
    rows
        Keys to replace, one row for all cells or one for each.
    """
    n_cells = len(library_size)
    if len(rows) not in (1, n_cells):
        raise ValueError(f"{len(rows)} conditions for {n_cells} cells of from_adata; pass one, or one for each cell.")
    replaced = {name: column.copy() for name, column in values.items()}
    row = np.arange(n_cells) if len(rows) > 1 else np.zeros(n_cells, dtype=np.intp)
    for number, given in enumerate(rows):
        cells = slice(None) if len(rows) == 1 else number
        for name, value in given.items():
            replaced[name][cells] = value
    return CellPlan(replaced, library_size, np.full(n_cells, -1), row)


def check_templates(plan: CellPlan, population: Population, sources: Sequence[ConditionSource]) -> None:
    """Raise ``ValueError`` unless each cell has a training cell to start from, in which every gene was measured."""
    lost = np.flatnonzero(plan.template < 0)[:1]
    if len(lost):
        named = {
            source.name: source.names.column(plan.values[source.name][lost])[0]
            for source in sources
            if source.names is not None and (plan.values[source.name][lost] >= 0).all()
        }
        raise ValueError(
            f"start='empirical' needs training cells of each condition; there are none of {named}. Use start='zeros' "
            "for combinations that were never measured."
        )
    if (population.rows[plan.template] < 0).any():
        raise ValueError(
            "start='empirical' needs training cells of each condition; those of a condition that was asked for are "
            "with the reference model. Ask the reference for it, or use start='zeros'."
        )
    if np.isnan(population.library_size[plan.template]).any():
        raise ValueError(
            "start='empirical' needs training cells in which every gene was measured; there are none for a condition "
            "that was asked for. Use start='zeros'."
        )


def cells_of_each(n_cells: int | Sequence[int] | None, n_rows: int, n_training: int) -> NDArray[np.intp]:
    """Number of cells of each condition, ``(n_rows,)``."""
    if n_cells is None:
        n_cells = n_training if n_rows == 1 else 1
    numbers_given = np.asarray(n_cells)
    if numbers_given.dtype.kind not in "iuf" or (numbers_given % 1 != 0).any():
        raise ValueError(f"n_cells must be a whole number, or one for each condition, got {n_cells!r}.")
    sizes = numbers_given.astype(np.intp)
    sizes = np.broadcast_to(sizes, n_rows) if sizes.ndim == 0 else sizes
    if len(sizes) != n_rows:
        raise ValueError(f"n_cells has {len(sizes)} entries for {n_rows} conditions; pass one number or one for each.")
    if sizes.min() < 1:
        raise ValueError(f"n_cells must be at least 1, got {sizes.min()}.")
    return sizes


def library_sizes(
    library_size: Any, n_cells: int, rng: np.random.Generator, trailing: tuple[int, ...] = ()
) -> NDArray[np.float32]:
    """UMI total of each cell from a number, one number per cell, or the cells of another AnnData.

    Parameters
    ----------
    library_size
        A number, ``(n_cells,)``, or UMI totals as :func:`totals_of` gives them for an AnnData.
    n_cells
        Number of cells.
    rng
        Source of randomness, for totals of another AnnData.
    trailing
        Shape of the totals of one cell: ``(n_modalities,)`` if there are several.
    """
    if isinstance(library_size, Totals):
        return _evenly(library_size.values, n_cells, rng).astype(np.float32)
    return _checked_library(library_size, n_cells, trailing)


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
        return resolve_category(source, _as_level(source, value))
    try:
        number = np.asarray(value, dtype=np.float32)  # of text too, if it is a number
    except (TypeError, ValueError):
        number = np.array(np.nan)
    if number.shape != source.shape or not np.isfinite(number).all():
        what = f"a finite vector of length {source.shape[0]}" if source.shape else "a finite number"
        raise ValueError(f"Condition {source.name!r} takes {what}, got {value!r}.")
    return number


def _as_level(source: ConditionSource, value: Any) -> Any:
    """A number as the text that is called like it, if one is: clusters are named ``"0"``, ``"1"``, and so on."""
    called = {level for level in source.categories if isinstance(level, str)}
    spelled = [str(value)] if isinstance(value, numbers.Number) else []
    if isinstance(value, numbers.Real) and float(value).is_integer():
        spelled.append(str(int(value)))
    return next((text for text in spelled if text in called), value)


def condition_rows(condition: Conditions) -> list[Mapping[str, Any]]:
    if condition is None:
        return [{}]
    if isinstance(condition, Mapping):
        return [condition]
    if isinstance(condition, pd.DataFrame):  # a blank is a key left out
        records = condition.to_dict("records")
        rows = [{str(k): v for k, v in row.items() if not np.all(pd.isna(v))} for row in records]
    else:
        rows = [condition] if isinstance(condition, str) else list(condition)
    if not rows:
        raise ValueError("The conditions are empty; pass None to generate cells like the training data.")
    for row in rows:
        if not isinstance(row, Mapping):
            raise TypeError(
                f"A condition is a mapping from keys to values, such as {{'cell_type': 'B cell'}}, got {row!r}."
            )
    return rows


def _plan_one(
    number: int,
    request: Request,
    n_cells: int,
    sources: Sequence[ConditionSource],
    population: Population,
    rng: np.random.Generator,
) -> CellPlan:
    categorical = [source.name for source in sources if source.names is not None]
    matching = population.matching(request.template, categorical)
    matching = population.complete(matching) if request.whole else matching
    template = _evenly(matching, n_cells, rng) if len(matching) else np.full(n_cells, -1)
    values = {}
    for source in sources:
        null = source.key.null(n_cells, torch.device("cpu")).numpy()
        if source.name in request.told:
            values[source.name] = np.broadcast_to(np.asarray(request.told[source.name], dtype=null.dtype), null.shape)
            continue
        drawn = population.column(source.name, template) if len(matching) else None
        values[source.name] = null if drawn is None else drawn.astype(null.dtype)
    # A combination without training cells takes library sizes from all of them.
    everyone = np.arange(len(population))
    cells = template if len(matching) else _evenly(everyone, n_cells, rng)
    library = population.library_size[cells]
    for others in filter(len, (matching, everyone)):
        library = _filled(library, population.library_size[others], rng)
    return CellPlan(values, library, template.astype(np.intp), np.full(n_cells, number))


def _evenly(cells: NDArray[Any], n: int, rng: np.random.Generator) -> NDArray[Any]:
    """``n`` of the cells in random order, none twice before all are drawn: less noise than independent draws."""
    rounds = [rng.permutation(cells) for _ in range(-(-n // len(cells)))]
    return np.concatenate(rounds)[:n]


def _filled(library: NDArray[Any], others: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """Library sizes with unknown ones (cells with unmeasured genes) drawn from others that are known, if any are."""
    filled = library.reshape(len(library), -1).astype(np.float32)
    for column, sizes in zip(filled.T, others.reshape(len(others), -1).T, strict=True):
        unknown, known = np.isnan(column), sizes[~np.isnan(sizes)]
        if unknown.any() and len(known):
            column[unknown] = rng.choice(known, len(column))[unknown]
    return filled.reshape(library.shape)


def _checked_library(library_size: Any, n_cells: int, trailing: tuple[int, ...]) -> NDArray[np.float32]:
    library = np.asarray(library_size, dtype=np.float32)
    if library.shape not in (trailing, (n_cells, *trailing)):
        raise ValueError(
            f"library_size has shape {library.shape}; pass one number, or one for each of {n_cells} cells."
        )
    if not (np.isfinite(library).all() and (library > 0).all()):
        raise ValueError("library_size must be positive and finite: the number of UMIs of each cell.")
    return np.broadcast_to(library, (n_cells, *trailing)).copy()
