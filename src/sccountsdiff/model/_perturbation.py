"""The perturbation of a cell: one name, or several joined by a separator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from numpy.typing import ArrayLike, NDArray

from sccountsdiff.conditioning import CombinationKey
from sccountsdiff.model._fields import CategoryField, listed
from sccountsdiff.model._names import Names, nearest_first

#: From the name of a perturbation to a vector that describes it.
PerturbationVectors = Mapping[str, ArrayLike]


@final
@dataclass(frozen=True)
class PerturbationNames(Names):
    """How perturbations are written: ``"A+B"`` is A and B given together, in any order.

    Attributes
    ----------
    levels
        Names of the single perturbations.
    separator
        What stands between two names; None if names are never taken apart.
    control
        Name of the control; in a combination it says nothing (``"control+A"`` is ``"A"``). None if there is none.
    spelled
        Combinations as the data spell them.
    """

    separator: str | None
    control: str | None
    spelled: tuple[str, ...] = ()

    def parts(self, text: Any) -> list[str]:
        """Single names in the text.

        Raises
        ------
        ValueError
            If one of them is empty.
        """
        parts = [str(text)] if self.separator is None else str(text).split(self.separator)
        if "" in parts:
            raise ValueError(
                f"Perturbation {str(text)!r} has an empty part between separators {self.separator!r}. Rename it, or "
                "call setup_anndata with another perturbation_separator (None takes no name apart)."
            )
        named = [part for part in dict.fromkeys(parts) if part != self.control]
        return named or parts[:1]

    def unknown(self, text: Any) -> list[str]:
        """Single names in the text that are no level."""
        return [part for part in self.parts(text) if part not in self._positions]

    def code(self, value: Any, key: str) -> int:
        """Code of the set of names."""
        unknown = self.unknown(value)
        if unknown:
            raise ValueError(
                f"{', '.join(map(repr, unknown))} is no category of {key!r}. Known categories: "
                f"{nearest_first(unknown[0], self.levels)}."
            )
        return CombinationKey(key, len(self.levels)).encode({self._positions[part] for part in self.parts(value)})

    def column(self, codes: NDArray[np.integer]) -> pd.Categorical:
        """The text of each set, spelled as in the data if they hold it."""
        unique, inverse = np.unique(codes, return_inverse=True)
        known = unique >= 0
        spelled = {self.code(text, ""): text for text in self.spelled}
        members = CombinationKey("", len(self.levels)).members(torch.as_tensor(unique[known])).numpy() > 0
        joined = [(self.separator or "+").join(map(str, self.levels[row])) for row in members]
        texts = [spelled.get(int(code), text) for code, text in zip(unique[known], joined, strict=True)]
        return pd.Categorical.from_codes(inverse.ravel() - (~known).sum(), categories=texts)

    @property
    def _positions(self) -> dict[str, int]:
        return {str(name): position for position, name in enumerate(self.levels)}


class PerturbationField(CategoryField):
    """The column of ``obs`` that names perturbations, coded as sets of single ones.

    Parameters
    ----------
    registry_key
        Name under which scvi-tools registers the data.
    attr_key
        Column of ``obs``.
    separator, control
        As in :class:`PerturbationNames`.
    vectors
        A vector for each perturbation, by name; perturbations without cells may be among them.
    """

    SEPARATOR_KEY, CONTROL_KEY, SPELLED_KEY, VECTORS_KEY = "separator", "control", "spelled", "vectors"

    def __init__(
        self,
        registry_key: str,
        attr_key: str,
        separator: str | None,
        control: str | None,
        vectors: PerturbationVectors | None,
    ) -> None:
        super().__init__(registry_key, attr_key)
        self.separator, self.control, self.vectors = separator, control, vectors

    def _encode(self, adata: AnnData, column: pd.Series, categories: pd.Index) -> dict[str, Any]:
        """Write the codes; ``categories`` are the texts of the column, or known levels and new texts."""
        spelling = PerturbationNames(np.array([]), self.separator, self.control)
        used = list(dict.fromkeys(part for text in categories for part in spelling.parts(text)))
        levels, vectors = self._levels(used)
        if self.control is not None and self.control not in levels:
            raise ValueError(
                f"control {self.control!r} is no perturbation in adata.obs[{self._original_attr_key!r}], which holds "
                f"{listed(levels)}."
            )
        adata.obs[self.attr_key] = _codes(column, PerturbationNames(levels, self.separator, self.control))
        return {
            self.CATEGORICAL_MAPPING_KEY: levels,
            self.ORIGINAL_ATTR_KEY: self._original_attr_key,
            self.SEPARATOR_KEY: self.separator,
            self.CONTROL_KEY: self.control,
            self.SPELLED_KEY: np.array([str(text) for text in categories], dtype=object),
            self.VECTORS_KEY: vectors,
        }

    def _levels(self, used: list[str]) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Names and vectors of the levels: those used, or with vectors all that have one."""
        if self.vectors is None:
            return np.array(used, dtype=object), None
        table = {str(name): np.asarray(vector, dtype=np.float32) for name, vector in self.vectors.items()}
        shapes = {vector.shape for vector in table.values()}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise ValueError(f"perturbation_embeddings must be vectors of one length, got shapes {sorted(shapes)}.")
        (dim,) = shapes.pop()
        if self.control is not None:
            table.setdefault(self.control, np.zeros(dim, dtype=np.float32))
        missing = [name for name in used if name not in table]
        if missing:
            raise ValueError(f"perturbation_embeddings has no vector for {listed(missing)}. Add one for each name.")
        wrong = [name for name, vector in table.items() if not np.isfinite(vector).all()]
        if wrong:
            raise ValueError(f"perturbation_embeddings holds missing or infinite numbers for {listed(wrong)}.")
        return np.array(list(table), dtype=object), np.stack(list(table.values()))

    def transfer_field(
        self, state_registry: dict[str, Any], adata_target: AnnData, extend_categories: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Encode the column of another AnnData with the levels of the training data."""
        known = names_of(state_registry)
        column = self._column(adata_target)
        unseen = list(dict.fromkeys(part for text in column.unique() for part in known.unknown(text)))
        if unseen and not extend_categories:
            raise ValueError(
                f"adata.obs[{self._original_attr_key!r}] holds perturbations that the model does not know: "
                f"{listed(unseen)}. Known perturbations: {listed(known.levels)}. Drop these cells, rename them, or "
                "teach the model with load_query_data."
            )
        state = self._extended(state_registry, column, unseen) if extend_categories else dict(state_registry)
        adata_target.obs[self.attr_key] = _codes(column, names_of(state))
        return state

    def _extended(self, state: Mapping[str, Any], column: pd.Series, unseen: list[str]) -> dict[str, Any]:
        """State with further levels after the known ones: those in the column, or with vectors all that have one."""
        known, vectors = list(state[self.CATEGORICAL_MAPPING_KEY]), state[self.VECTORS_KEY]
        levels = known + unseen
        if vectors is not None:
            named, given = self._levels(unseen)
            assert given is not None  # what the reference was set up with is at hand
            table = dict(zip(named, given, strict=True))
            moved = [
                name for name, vector in zip(known, vectors, strict=True) if not np.array_equal(table[name], vector)
            ]
            if moved:
                raise ValueError(
                    f"perturbation_embeddings holds other vectors than the reference for {listed(moved)}. Leave these "
                    "names out: the reference has their vectors."
                )
            levels = known + [name for name in named if name not in known]
            vectors = np.stack([table[name] for name in levels])
        texts = [*state[self.SPELLED_KEY], *column.unique().astype(str)]
        return dict(state) | {
            self.CATEGORICAL_MAPPING_KEY: np.array(levels, dtype=object),
            self.SPELLED_KEY: np.array(list(dict.fromkeys(texts)), dtype=object),
            self.VECTORS_KEY: vectors,
        }

    def recheck(self, adata: AnnData, state_registry: dict[str, Any]) -> None:
        """The column must still say what its codes say."""
        names, column = names_of(state_registry), self._column(adata)
        unseen = [text for text in column.unique() if names.unknown(text)]
        known = ~column.isin(unseen).to_numpy()
        changed = ~known
        changed[known] = _codes(column[known], names) != adata.obs[self.attr_key].to_numpy()[known]
        if changed.any():
            raise ValueError(
                f"adata.obs[{self._original_attr_key!r}] was changed after setup_anndata, in {changed.sum()} cells: "
                f"{listed(adata.obs_names[changed])}. Restore the column, or pass a copy of the AnnData (adata.copy())."
            )


def names_of(state: Mapping[str, Any]) -> PerturbationNames:
    """How perturbations are written, from what the registry keeps of the field."""
    field = PerturbationField
    return PerturbationNames(
        np.asarray(state[field.CATEGORICAL_MAPPING_KEY], dtype=object),
        state[field.SEPARATOR_KEY],
        state[field.CONTROL_KEY],
        tuple(state[field.SPELLED_KEY]),
    )


def key_of(name: str, state: Mapping[str, Any]) -> CombinationKey:
    """The condition key, from what the registry keeps of the field."""
    vectors = state[PerturbationField.VECTORS_KEY]
    n_levels = len(state[PerturbationField.CATEGORICAL_MAPPING_KEY])
    return CombinationKey(name, n_levels, None if vectors is None else torch.as_tensor(vectors))


def _codes(column: pd.Series, names: PerturbationNames) -> NDArray[np.int64]:
    """Code of each cell."""
    texts = column.astype("category").cat
    codes = np.array([names.code(text, str(column.name)) for text in texts.categories], dtype=np.int64)
    return codes[texts.codes.to_numpy()]
