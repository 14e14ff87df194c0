"""Conditions: what is known of a cell besides its counts, and how hard to insist on it.

A *condition* maps names of keys to one value per cell: integer codes for a categorical key, floats for a continuous
one, vectors for an embedding. A null value (code -1, NaN) or an absent key means "not given": the network then sees a
learned null vector, which is what a model trained with condition dropout has learned to marginalise over.

Guidance is an object that wraps a denoiser into another denoiser; samplers do not know of it.

Two keys are reserved: ``"library_size"``, the UMI total of the cell, read by denoisers that scale their rates to it, and
``"measured"``, the entries that it counts.
"""

from sccountsdiff.conditioning._combination import CombinationKey
from sccountsdiff.conditioning._encoder import ConditionEncoder, condition_encoders, drop_condition
from sccountsdiff.conditioning._forecast import Forecast, Scales
from sccountsdiff.conditioning._guidance import (
    ClassifierFreeGuidance,
    CompositionalGuidance,
    ConditionalDenoiser,
    ContrastGuidance,
    Guidance,
)
from sccountsdiff.conditioning._keys import (
    LIBRARY_SIZE,
    MEASURED,
    CategoricalKey,
    Condition,
    ContinuousKey,
    EmbeddingKey,
    Key,
    LevelKey,
)
from sccountsdiff.conditioning._kriging import Kriging
from sccountsdiff.conditioning._profiles import Profiles
from sccountsdiff.conditioning._table import LevelTable

__all__ = [
    "LIBRARY_SIZE",
    "MEASURED",
    "CategoricalKey",
    "ClassifierFreeGuidance",
    "CombinationKey",
    "CompositionalGuidance",
    "Condition",
    "ConditionEncoder",
    "ConditionalDenoiser",
    "ContinuousKey",
    "ContrastGuidance",
    "EmbeddingKey",
    "Forecast",
    "Guidance",
    "Key",
    "Kriging",
    "LevelKey",
    "LevelTable",
    "Profiles",
    "Scales",
    "condition_encoders",
    "drop_condition",
]
