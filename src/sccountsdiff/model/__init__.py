"""The scvi-tools shell around the engine: :class:`CountsDiff` and :class:`DCM`."""

from sccountsdiff.model._callbacks import SaveAveraged
from sccountsdiff.model._countsdiff import CountsDiff
from sccountsdiff.model._dcm import DCM
from sccountsdiff.model._destination import Dask, Destination, Merge, Shard
from sccountsdiff.model._files import UntrustedFileError
from sccountsdiff.model._inference import BoundEstimate
from sccountsdiff.model._method import METHODS, Direct, Method, RePaint
from sccountsdiff.model._order import BlockShuffled, Shuffled
from sccountsdiff.model._read import CellsRead, read_cells
from sccountsdiff.model._reference import constructor_arguments
from sccountsdiff.model._train import default_max_epochs

__all__ = [
    "DCM",
    "METHODS",
    "BlockShuffled",
    "BoundEstimate",
    "CellsRead",
    "CountsDiff",
    "Dask",
    "Destination",
    "Direct",
    "Merge",
    "Method",
    "RePaint",
    "SaveAveraged",
    "Shard",
    "Shuffled",
    "UntrustedFileError",
    "constructor_arguments",
    "default_max_epochs",
    "read_cells",
]
