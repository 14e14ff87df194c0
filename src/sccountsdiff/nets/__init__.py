"""Denoisers: networks that state what is missing, given what survived."""

from sccountsdiff.nets._denoiser import DENOISERS, Denoiser
from sccountsdiff.nets._gene_mlp import GeneMLP
from sccountsdiff.nets._gene_transformer import GeneTransformer
from sccountsdiff.nets._heads import HEADS, ConjugateHead, Head, PoissonHead, SizedSoftmax, SoftplusHead, match_library
from sccountsdiff.nets._inputs import INPUTS, CountInput, LogInput, ResidualInput

__all__ = [
    "DENOISERS",
    "HEADS",
    "INPUTS",
    "ConjugateHead",
    "CountInput",
    "Denoiser",
    "GeneMLP",
    "GeneTransformer",
    "Head",
    "LogInput",
    "PoissonHead",
    "ResidualInput",
    "SizedSoftmax",
    "SoftplusHead",
    "match_library",
]
