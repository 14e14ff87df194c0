"""From a registry to what training has to rehearse: the blocks of features that some cells lack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scvi import REGISTRY_KEYS

from sccountsdiff.model._compat import FIELD_REGISTRIES_KEY, STATE_REGISTRY_KEY
from sccountsdiff.model._fields import CountsField
from sccountsdiff.model._measured import MeasuredByBatch
from sccountsdiff.model._modalities import modalities_of
from sccountsdiff.model._setup import ConditionSource
from sccountsdiff.objective import BlockRehearsal, Rehearsal, Rehearsals


def rehearsal_of(registry: dict[str, Any], sources: Sequence[ConditionSource]) -> Rehearsal:
    """Rehearsal of the genes that each batch lacks, under the name of that batch, and of whole modalities.

    Parameters
    ----------
    registry
        Registry of the training data.
    sources
        Condition keys of the model.
    """
    return Rehearsals([*_panels(registry, sources), *_modalities(registry)])


def _panels(registry: dict[str, Any], sources: Sequence[ConditionSource]) -> list[Rehearsal]:
    state = registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY][CountsField.MEASURED_KEY]
    panels = state.get(MeasuredByBatch.name)
    if panels is None:
        return []
    lacking = ~np.asarray(panels["genes"])
    partial = lacking.any(1)
    if not partial.any():
        return []
    (batch,) = (source for source in sources if source.registry_key == REGISTRY_KEYS.BATCH_KEY)
    labels = {batch.name: torch.as_tensor(_codes(batch, np.asarray(panels["batches"])[partial]))}
    return [BlockRehearsal(torch.as_tensor(lacking[partial]), labels)]


def _modalities(registry: dict[str, Any]) -> list[Rehearsal]:
    modalities = modalities_of(registry)
    if modalities is None or len(modalities.names) < 2:
        return []
    blocks = np.repeat(np.eye(len(modalities.names), dtype=bool), modalities.n_features, axis=1)
    return [BlockRehearsal(torch.as_tensor(blocks))]


def _codes(batch: ConditionSource, names: NDArray[Any]) -> NDArray[np.int64]:
    known = [str(category) for category in batch.categories]
    return np.array([known.index(str(name)) for name in names], dtype=np.int64)
