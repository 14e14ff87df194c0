"""What a model is made of, wherever it comes from: a model at hand, a folder, the content of a model file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import singledispatch
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from scvi.model.base import BaseModelClass
from torch import Tensor

from sccountsdiff.model._compat import MODEL_NAME_KEY, SETUP_ARGS_KEY
from sccountsdiff.model._files import FILE_NAME, check_model_file
from sccountsdiff.model._population import Population
from sccountsdiff.model._setup import ConditionSource, condition_sources

#: Content of a model file, as ``torch.load`` reads it.
_ATTRIBUTES, _WEIGHTS = "attr_dict", "model_state_dict"


@dataclass(frozen=True)
class Reference:
    """A trained model without its data.

    Attributes
    ----------
    attributes
        What the model keeps beside its weights.
    weights
        State of its module.
    """

    attributes: Mapping[str, Any]
    weights: Mapping[str, Tensor]

    @property
    def registry(self) -> dict[str, Any]:
        """What it was set up with, and what it saw then."""
        return self.attributes["registry_"]

    @property
    def class_name(self) -> str:
        """Class of the model."""
        return self.registry[MODEL_NAME_KEY]

    @property
    def setup(self) -> dict[str, Any]:
        """Arguments of ``setup_anndata``."""
        return self.registry[SETUP_ARGS_KEY]

    @property
    def constructor(self) -> dict[str, Any]:
        """Arguments of the constructor, but for the data."""
        return constructor_arguments(self.attributes["init_params_"])

    @property
    def sources(self) -> tuple[ConditionSource, ...]:
        """Its condition keys."""
        return condition_sources(self.registry)

    @property
    def is_trained(self) -> bool:
        """Whether it was trained."""
        return self.attributes["is_trained_"]

    @property
    def population(self) -> Population | None:
        """The cells it was trained on, as it remembers them."""
        return self.attributes["population_"]


def constructor_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that a model was made with, but for the data.

    Parameters
    ----------
    given
        The ``init_params_`` of the model: named arguments, and groups of further ones.

    Returns
    -------
    Name -> value.
    """
    more = {name: value for group in given["kwargs"].values() for name, value in group.items()}
    return {**given["non_kwargs"], **more}


def reference_of(model_class: type[BaseModelClass], given: Any) -> Reference:
    """A trained model, from what a user passes as reference.

    Parameters
    ----------
    model_class
        Class of the model that is to be made of it.
    given
        A model, the folder it was saved to, or the content of its file.

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it is a model of another class, or not trained.
    """
    reference = _read(given)
    if reference.class_name != model_class.__name__:
        raise ValueError(
            f"The reference is a {reference.class_name}. Call {reference.class_name}.load_query_data, not "
            f"{model_class.__name__}.load_query_data."
        )
    if not reference.is_trained:
        raise ValueError("The reference is not trained: its weights are random. Call reference_model.train() first.")
    return reference


@singledispatch
def _read(given: Any) -> Reference:
    raise TypeError(
        f"reference_model must be a model, the folder it was saved to, or the content of its file, got "
        f"{type(given).__name__}."
    )


@_read.register
def _(given: BaseModelClass) -> Reference:
    weights = {name: value.detach().cpu().clone() for name, value in given.module.state_dict().items()}
    return Reference(dict(given._get_user_attributes()), weights)


@_read.register(str)
@_read.register(PathLike)
def _(given: str | PathLike[str]) -> Reference:
    path = Path(given) / FILE_NAME
    if not path.exists():
        raise ValueError(f"{path} does not exist. Pass the folder that model.save(folder) wrote.")
    check_model_file(path)
    return _read(torch.load(path, map_location="cpu", weights_only=False))  # checked: it holds data only


@_read.register(Mapping)
def _(given: Mapping[str, Any]) -> Reference:
    lost = [key for key in (_ATTRIBUTES, _WEIGHTS) if key not in given]
    if lost:
        raise ValueError(f"The content of a model file has no {' and no '.join(map(repr, lost))}; pass the folder.")
    weights = {name: value.cpu() for name, value in given[_WEIGHTS].items() if isinstance(value, Tensor)}
    return Reference(given[_ATTRIBUTES], weights)
