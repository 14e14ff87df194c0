"""Model files that hold data only, and a look into a file before anything of it is trusted."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scvi import settings
from scvi.model.base import BaseModelClass

from sccountsdiff.model._compat import download
from sccountsdiff.model._population import Population, as_arrays, as_tensors

#: Name of the file that scvi-tools writes.
FILE_NAME = "model.pt"
#: What a model file may hold beside numbers, text and containers: arrays, and the record of the training cells.
_HARMLESS = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefdOSU"},
    np.array(0).__reduce__()[0],  # arrays are built by this function, wherever NumPy keeps it
    np.float64(0).__reduce__()[0],
    OrderedDict,
    bytes,
    Population,
]


#: Attributes that hold a number for each cell.
_INDICES = ("train_indices_", "validation_indices_", "test_indices_")


class UntrustedFileError(ValueError):
    """A model file that could run code when it is loaded."""


class FilesMixin(BaseModelClass):
    """Saving and loading without code: a model file from anywhere can be opened."""

    @classmethod
    def load(
        cls,
        dir_path: str | os.PathLike[str],
        adata: Any = None,
        *args: Any,
        prefix: str | None = None,
        backup_url: str | None = None,
        trusted: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load a model that :meth:`save` wrote.

        Parameters
        ----------
        dir_path
            Directory of the model.
        adata
            Data with the genes of the training data; ``None`` is the data saved along, False none at all.
        *args
            Passed on to :meth:`scvi.model.base.BaseModelClass.load`: accelerator and device.
        prefix
            Prefix of the file names.
        backup_url
            Where to get the file if it is not in the directory.
        trusted
            Load a file even if it could run code. Files that this package wrote cannot.
        **kwargs
            Passed on to :meth:`scvi.model.base.BaseModelClass.load`.

        Returns
        -------
        The model.

        Raises
        ------
        UntrustedFileError
            If the file could run code, and ``trusted`` is False.
        ValueError
            If the file is missing or damaged, or was written by a different class.
        """
        check_model_file(_path_of(dir_path, prefix), backup_url, trusted)
        # The options of scvi-tools stand at other places in other releases: by name they mean the same in all.
        named = dict(zip(("accelerator", "device"), args, strict=False))
        model = super().load(dir_path, adata, prefix=prefix, backup_url=backup_url, **named, **kwargs)
        model.history_ = unpacked(model.history_)
        for name in _INDICES:
            setattr(model, name, as_arrays(getattr(model, name)))
        return model

    @staticmethod
    def load_registry(dir_path: str | os.PathLike[str], prefix: str | None = None) -> dict[str, Any]:
        """Registry of a saved model; see :meth:`scvi.model.base.BaseModelClass.load_registry`."""
        check_model_file(_path_of(dir_path, prefix))
        return BaseModelClass.load_registry(dir_path, prefix)

    def _get_user_attributes(self) -> list[tuple[str, Any]]:
        """What is saved beside the weights, in a form that is data only."""
        forms = {"history_": packed, "registry_": packed} | dict.fromkeys(_INDICES, as_tensors)
        attributes = super()._get_user_attributes()
        return [(name, forms[name](value) if name in forms else value) for name, value in attributes]


def check_model_file(path: Path, backup_url: str | None = None, trusted: bool = False) -> None:
    """Make sure that a model file is whole, and that loading it cannot run code.

    Parameters
    ----------
    path
        The file; nothing is said of one that does not exist.
    backup_url
        Where to get the file from if it does not exist.
    trusted
        Whether to warn only of a file that could run code.

    Raises
    ------
    UntrustedFileError
        If loading the file could run code, unless it is ``trusted``.
    ValueError
        If the file is damaged.
    """
    if backup_url is not None:
        download(backup_url, str(path.parent), path.name)
    if not path.exists():
        return
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trusted:
            named = re.search(r"GLOBAL (\S+)", str(error))
            raise UntrustedFileError(
                f"{path} holds more than weights and data{f': {named[1]}' if named else ''}. It could run code when "
                "loaded. If you know who wrote it, pass trusted=True."
            ) from error
        warnings.warn(
            f"{path} could run code and is loaded all the same (trusted=True). Save the model again to get a file "
            "that cannot.",
            UserWarning,
            stacklevel=settings.warnings_stacklevel,
        )
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        size = path.stat().st_size
        if backup_url is not None:  # or the next download would take it for complete
            path.unlink()
        remedy = "Copy it again, or save the model again" if backup_url is None else "It was removed: load once more"
        raise ValueError(
            f"{path} is damaged ({size} bytes): a copy, download or save was cut short. {remedy}. "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        ) from error


def packed(value: Any) -> Any:
    """Nested mappings as plain dictionaries, tables as columns of arrays."""
    if isinstance(value, pd.DataFrame):
        return {"epoch": value.index.to_numpy(), "columns": {name: value[name].to_numpy(float) for name in value}}
    return {key: packed(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value


def unpacked(history: Any) -> Any:
    """The history as tables again."""
    if not isinstance(history, Mapping):
        return history
    return {
        name: pd.DataFrame(table["columns"], index=pd.Index(table["epoch"], name="epoch"))
        if isinstance(table, Mapping)
        else table
        for name, table in history.items()
    }


def _path_of(dir_path: str | os.PathLike[str], prefix: str | None) -> Path:
    return Path(dir_path) / f"{prefix or ''}{FILE_NAME}"
