"""How the tokens of a cell exchange information: all with all, or through a few summaries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sccountsdiff.process import Registry

ATTENTIONS: Registry[Attention] = Registry("attention")


@final
class MultiHead(nn.Module):
    """Multi-head attention of some tokens to others, through PyTorch's fused kernels (FlashAttention on a GPU).

    Parameters
    ----------
    width
        Width of a token.
    n_heads
        Number of heads; must divide the width.
    dropout
        Dropout of attention weights in training.
    """

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.to_query = nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, tokens: Tensor, context: Tensor) -> Tensor:
        """What ``tokens`` ``(n_cells, n_tokens, width)`` read from ``context`` ``(n_cells, n_context, width)``."""
        query = self.to_query(tokens).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
        key_value = self.to_key_value(context).unflatten(-1, (2, self.n_heads, -1))
        key, value = key_value.permute(2, 0, 3, 1, 4).unbind()
        read = F.scaled_dot_product_attention(query, key, value, dropout_p=self.dropout if self.training else 0.0)
        return self.to_out(read.transpose(1, 2).flatten(2))


class Attention(nn.Module, ABC):
    """Exchange of information between the tokens of a cell.

    Parameters
    ----------
    width
        Width of a token.
    n_heads
        Number of heads; must divide the width.
    dropout
        Dropout of attention weights in training.
    """

    @abstractmethod
    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """What each token learns from the others, ``(n_cells, n_tokens, width)``."""


@ATTENTIONS.register("full")
@final
class FullAttention(Attention):
    """Every token reads every token: the papers' choice. Time is quadratic in the number of genes, memory linear."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__(width, n_heads, dropout)
        self.read = MultiHead(width, n_heads, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Self-attention."""
        return self.read(tokens, tokens)


@ATTENTIONS.register("latent")
@final
class LatentAttention(Attention):
    """Learned summaries read all tokens, and all tokens read the summaries: time linear in the number of genes.

    References
    ----------
    Set Transformer (Lee et al. 2019), induced set attention.
    """

    #: Number of summaries.
    N_LATENTS = 64

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__(width, n_heads, dropout)
        self.latents = nn.Parameter(torch.randn(self.N_LATENTS, width) * 0.02)
        self.gather = MultiHead(width, n_heads, dropout)
        self.norm = nn.LayerNorm(width)
        self.spread = MultiHead(width, n_heads, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attention by way of the summaries."""
        latents = self.latents.expand(len(tokens), -1, -1)
        return self.spread(tokens, self.norm(latents + self.gather(latents, tokens)))
