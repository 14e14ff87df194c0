"""Everything that scvi-tools keeps private or moves between releases, in one place.

Python 3.11 resolves scvi-tools 1.4.2, later Pythons 1.5: features are looked for, versions are not compared.
"""

from __future__ import annotations

import rich.pretty  # noqa: F401  scvi-tools 1.4 prints registries through rich.pretty without importing it
from scvi.data._constants import (
    _FIELD_REGISTRIES_KEY,
    _MODEL_NAME_KEY,
    _SCVI_UUID_KEY,
    _SETUP_ARGS_KEY,
    _STATE_REGISTRY_KEY,
)
from scvi.data._download import _download as download
from scvi.model._utils import parse_device_args
from scvi.model.base import BaseModelClass
from scvi.utils._docstrings import devices_dsp

FIELD_REGISTRIES_KEY = _FIELD_REGISTRIES_KEY
MODEL_NAME_KEY = _MODEL_NAME_KEY
SCVI_UUID_KEY = _SCVI_UUID_KEY
SETUP_ARGS_KEY = _SETUP_ARGS_KEY
STATE_REGISTRY_KEY = _STATE_REGISTRY_KEY
#: Whether scvi-tools can stream collections of annbatch.
HAS_ANNBATCH = hasattr(BaseModelClass, "setup_annbatch")

__all__ = [
    "FIELD_REGISTRIES_KEY",
    "HAS_ANNBATCH",
    "MODEL_NAME_KEY",
    "SCVI_UUID_KEY",
    "SETUP_ARGS_KEY",
    "STATE_REGISTRY_KEY",
    "devices_dsp",
    "download",
    "parse_device_args",
]
