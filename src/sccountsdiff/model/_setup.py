"""From arguments of ``setup_anndata`` to fields, and from a registry to condition keys."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS

from sccountsdiff.conditioning import LIBRARY_SIZE, MEASURED, CategoricalKey, ContinuousKey, EmbeddingKey, Key
from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, SETUP_ARGS_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._fields import CategoryField, CountsField, NumberField, VectorField
from sccountsdiff.model._measured import Measured, MeasuredByBatch, MeasuredGenes, MeasuredLayer
from sccountsdiff.model._modalities import MeasuredModalities
from sccountsdiff.model._names import CategoryNames, Names
from sccountsdiff.model._perturbation import PerturbationField, key_of, names_of

PERTURBATION_KEY = "perturbation"


@dataclass(frozen=True)
class ConditionSource:
    """Where a condition key comes from.

    Attributes
    ----------
    key
        The key as the network knows it; ``key.name`` is the user's column of ``obs`` (or entry of ``obsm``).
    registry_key
        Name under which scvi-tools registers the data.
    dtype
        Type of the tensor of values.
    names
        What the codes are called; None for continuous keys and embeddings.
    shape
        Shape of one cell's value: ``()``, or ``(dim,)`` for an embedding.
    """

    key: Key
    registry_key: str
    dtype: torch.dtype
    names: Names | None = None
    shape: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The user's name of the key."""
        return self.key.name

    @property
    def categories(self) -> NDArray[Any]:
        """Names of the single categories; empty for continuous keys and embeddings."""
        return np.array([]) if self.names is None else self.names.levels


def make_fields(args: dict[str, Any]) -> list[Any]:
    """Fields that ``setup_anndata`` registers, from its arguments."""
    _check_names(args)
    fields: list[Any] = [
        CountsField(args["layer"], _measured(args)),
        CategoryField(REGISTRY_KEYS.BATCH_KEY, args["batch_key"]),
        CategoryField(REGISTRY_KEYS.LABELS_KEY, args["labels_key"]),
    ]
    fields += [CategoryField(registry, name) for name, registry in _categorical(args) if registry not in _STANDARD]
    if args["perturbation_key"] is not None:
        names = (args.get("perturbation_separator"), args.get("control"), args.get("perturbation_embeddings"))
        fields.append(PerturbationField(PERTURBATION_KEY, args["perturbation_key"], *names))
    fields += [NumberField(registry, name) for name, registry in _continuous(args)]
    fields += [VectorField(registry, name) for name, registry in _embeddings(args)]
    return fields


def _measured(args: dict[str, Any]) -> list[Measured]:
    """All that the arguments say of what was measured."""
    sources: list[Measured] = [MeasuredGenes()]
    if args["observed_layer"] is not None:
        sources.append(MeasuredLayer(args["observed_layer"]))
    if args["measured_genes"] is not None:
        sources.append(MeasuredByBatch(args["measured_genes"], args["batch_key"]))
    if args["modality_key"] is not None:
        sources.append(MeasuredModalities(args["modality_key"]))
    return sources


def condition_sources(registry: dict[str, Any]) -> tuple[ConditionSource, ...]:
    """Condition keys of a registered data set, in a fixed order."""
    args = registry[SETUP_ARGS_KEY]
    state = {name: field[STATE_REGISTRY_KEY] for name, field in registry[FIELD_REGISTRIES_KEY].items()}
    sources = []
    for name, source in _categorical(args):
        names = CategoryNames(np.asarray(state[source][CategoryField.CATEGORICAL_MAPPING_KEY]))
        sources.append(ConditionSource(CategoricalKey(name, len(names.levels)), source, torch.long, names))
    if args["perturbation_key"] is not None:
        field = state[PERTURBATION_KEY]
        key = key_of(args["perturbation_key"], field)
        sources.append(ConditionSource(key, PERTURBATION_KEY, torch.long, names_of(field)))
    for name, source in _continuous(args):
        moments = state[source][NumberField.MEAN_KEY], state[source][NumberField.STD_KEY]
        sources.append(ConditionSource(ContinuousKey(name, *moments), source, torch.float32))
    for name, source in _embeddings(args):
        dim = len(state[source][VectorField.COLUMN_NAMES_KEY])
        sources.append(ConditionSource(EmbeddingKey(name, dim), source, torch.float32, shape=(dim,)))
    return tuple(sources)


_STANDARD = (REGISTRY_KEYS.BATCH_KEY, REGISTRY_KEYS.LABELS_KEY)


def _categorical(args: dict[str, Any]) -> list[tuple[str, str]]:
    named = [
        (args["batch_key"], REGISTRY_KEYS.BATCH_KEY),
        (args["labels_key"], REGISTRY_KEYS.LABELS_KEY),
    ]
    covariates = [(name, f"covariate_{name}") for name in args["categorical_covariate_keys"] or ()]
    return [(name, registry) for name, registry in named + covariates if name is not None]


def _continuous(args: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, f"covariate_{name}") for name in args["continuous_covariate_keys"] or ()]


def _embeddings(args: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, f"embedding_{name}") for name in args["embedding_keys"] or ()]


def _check_names(args: dict[str, Any]) -> None:
    """Lists of keys must be lists; names must differ, and leave the reserved ones alone."""
    for argument in ("categorical_covariate_keys", "continuous_covariate_keys", "embedding_keys"):
        if isinstance(args[argument], str):
            raise TypeError(f"{argument} takes a list of names, got {args[argument]!r}: write [{args[argument]!r}].")
    names = [name for name, _ in _categorical(args) + _continuous(args) + _embeddings(args)]
    if args["perturbation_key"] is not None:
        names.append(args["perturbation_key"])
    elif args.get("control") is not None or args.get("perturbation_embeddings") is not None:
        raise ValueError("control and perturbation_embeddings describe the perturbation_key, which was not given.")
    if MEASURED in names:
        raise ValueError(f"{MEASURED!r} is reserved for what was measured (measured_genes). Rename the column.")
    if LIBRARY_SIZE in names:
        raise ValueError(
            f"{LIBRARY_SIZE!r} is reserved for the UMI total of a cell, which the model computes itself. Leave it out, "
            "or rename the column if it means something else."
        )
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{twice} are named more than once; each column can be one condition key only.")
