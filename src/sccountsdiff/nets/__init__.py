"""Denoisers: networks that state what is missing, given what survived."""

from sccountsdiff.nets._attention import ATTENTIONS, Attention, FullAttention, LatentAttention
from sccountsdiff.nets._denoiser import DENOISERS, Denoiser
from sccountsdiff.nets._gene_mlp import GeneMLP
from sccountsdiff.nets._gene_transformer import GeneTransformer
from sccountsdiff.nets._heads import HEADS, ConjugateHead, Head, PoissonHead, SizedSoftmax, SoftplusHead, match_library
from sccountsdiff.nets._inputs import INPUTS, CountInput, LogInput, ResidualInput
from sccountsdiff.nets._token_head import TokenHead

__all__ = [
    "ATTENTIONS",
    "DENOISERS",
    "HEADS",
    "INPUTS",
    "Attention",
    "ConjugateHead",
    "CountInput",
    "Denoiser",
    "FullAttention",
    "GeneMLP",
    "GeneTransformer",
    "Head",
    "LatentAttention",
    "LogInput",
    "PoissonHead",
    "ResidualInput",
    "SizedSoftmax",
    "SoftplusHead",
    "TokenHead",
    "match_library",
]
