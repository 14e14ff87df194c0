"""Denoisers: networks that state what is missing, given what survived."""

from sccountsdiff.nets._attention import ATTENTIONS, Attention, FullAttention, LatentAttention
from sccountsdiff.nets._covariation import Covariation
from sccountsdiff.nets._denoiser import DENOISERS, Denoiser, HeadedDenoiser
from sccountsdiff.nets._gene_laws import Entries, GeneLaws, best_laws
from sccountsdiff.nets._gene_mlp import GeneMLP
from sccountsdiff.nets._gene_transformer import GeneTransformer
from sccountsdiff.nets._heads import (
    FAST,
    HEADS,
    ConjugateHead,
    DispersedHead,
    Head,
    PoissonHead,
    SharesHead,
    SizedSoftmax,
    SoftplusHead,
)
from sccountsdiff.nets._inputs import INPUTS, CountInput, LogInput, ResidualInput
from sccountsdiff.nets._library import GivenTotals, Library, LibraryPerGroup, OneLibrary, make_library
from sccountsdiff.nets._mixture_head import MixtureHead
from sccountsdiff.nets._offsets import GeneOffsets
from sccountsdiff.nets._statistics import CellStatistics
from sccountsdiff.nets._token_head import TokenHead

__all__ = [
    "ATTENTIONS",
    "DENOISERS",
    "FAST",
    "HEADS",
    "INPUTS",
    "Attention",
    "CellStatistics",
    "ConjugateHead",
    "CountInput",
    "Covariation",
    "Denoiser",
    "DispersedHead",
    "Entries",
    "FullAttention",
    "GeneLaws",
    "GeneMLP",
    "GeneOffsets",
    "GeneTransformer",
    "GivenTotals",
    "Head",
    "HeadedDenoiser",
    "LatentAttention",
    "Library",
    "LibraryPerGroup",
    "LogInput",
    "MixtureHead",
    "OneLibrary",
    "PoissonHead",
    "ResidualInput",
    "SharesHead",
    "SizedSoftmax",
    "SoftplusHead",
    "TokenHead",
    "best_laws",
    "make_library",
]
