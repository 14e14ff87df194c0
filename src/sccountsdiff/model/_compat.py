"""Everything that scvi-tools keeps private or moves between releases, in one place.

Python 3.11 resolves scvi-tools 1.4.2, later Pythons 1.5: features are looked for, versions are not compared.
"""

from __future__ import annotations

import rich.pretty  # noqa: F401  scvi-tools 1.4 prints registries through rich.pretty without importing it
from scvi.data._constants import _FIELD_REGISTRIES_KEY, _SCVI_UUID_KEY, _SETUP_ARGS_KEY, _STATE_REGISTRY_KEY
from scvi.data._download import _download as download
from scvi.utils._docstrings import devices_dsp

FIELD_REGISTRIES_KEY = _FIELD_REGISTRIES_KEY
SCVI_UUID_KEY = _SCVI_UUID_KEY
SETUP_ARGS_KEY = _SETUP_ARGS_KEY
STATE_REGISTRY_KEY = _STATE_REGISTRY_KEY

__all__ = ["FIELD_REGISTRIES_KEY", "SCVI_UUID_KEY", "SETUP_ARGS_KEY", "STATE_REGISTRY_KEY", "devices_dsp", "download"]
