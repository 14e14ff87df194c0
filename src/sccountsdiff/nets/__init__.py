"""Denoisers: networks that state what is missing, given what survived."""

from sccountsdiff.nets._denoiser import DENOISERS, Denoiser
from sccountsdiff.nets._gene_mlp import GeneMLP
from sccountsdiff.nets._gene_transformer import GeneTransformer
from sccountsdiff.nets._heads import HEADS, ConjugateHead, Head, PoissonHead, SizedSoftmax, SoftplusHead

__all__ = [
    "DENOISERS",
    "HEADS",
    "ConjugateHead",
    "Denoiser",
    "GeneMLP",
    "GeneTransformer",
    "Head",
    "PoissonHead",
    "SizedSoftmax",
    "SoftplusHead",
]
