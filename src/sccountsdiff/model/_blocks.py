"""From a registry to what training has to rehearse: the blocks of genes that some cells lack."""

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
from sccountsdiff.model._setup import ConditionSource
from sccountsdiff.objective import BlockRehearsal, NoRehearsal, Rehearsal


def rehearsal_of(registry: dict[str, Any], sources: Sequence[ConditionSource]) -> Rehearsal:
    """Rehearsal of the genes that each batch lacks, under the name of that batch.

    Parameters
    ----------
    registry
        Registry of the training data.
    sources
        Condition keys of the model.
    """
    state = registry[FIELD_REGISTRIES_KEY][REGISTRY_KEYS.X_KEY][STATE_REGISTRY_KEY][CountsField.MEASURED_KEY]
    panels = state.get(MeasuredByBatch.name)
    if panels is None:
        return NoRehearsal()
    lacking = ~np.asarray(panels["genes"])
    partial = lacking.any(1)
    if not partial.any():
        return NoRehearsal()
    (batch,) = (source for source in sources if source.registry_key == REGISTRY_KEYS.BATCH_KEY)
    labels = {batch.name: torch.as_tensor(_codes(batch, np.asarray(panels["batches"])[partial]))}
    return BlockRehearsal(torch.as_tensor(lacking[partial]), labels)


def _codes(batch: ConditionSource, names: NDArray[Any]) -> NDArray[np.int64]:
    known = [str(category) for category in batch.categories]
    return np.array([known.index(str(name)) for name in names], dtype=np.int64)
