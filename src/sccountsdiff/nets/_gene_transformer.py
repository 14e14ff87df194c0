"""GeneTransformer: one token per gene, as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sccountsdiff.conditioning import Condition, ConditionEncoder, Key
from sccountsdiff.nets._attention import ATTENTIONS
from sccountsdiff.nets._denoiser import DENOISERS, HeadedDenoiser, check_shape
from sccountsdiff.nets._heads import HEADS
from sccountsdiff.nets._library import make_library
from sccountsdiff.nets._statistics import CellStatistics


@final
class _Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    def __init__(self, width: int, n_heads: int, dropout: float, attention: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = ATTENTIONS[attention](width, n_heads, dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * width, width),
        )

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attention(self.norm(h))
        return h + self.feed_forward(h)


@DENOISERS.register("transformer")
@final
class GeneTransformer(HeadedDenoiser):
    """Transformer with one token per gene, one per condition key and one for the cell.

    A gene's token is its embedding plus projections of its log count and survival. With ``attention="full"`` time is
    quadratic in the number of genes; ``"latent"`` makes it linear, for up to all genes of a genome. Memory is linear in
    the fused kernels of a GPU; ``checkpoint_activations`` takes about half of that of training away.

    The sizes of the CountsDiff paper are ``n_hidden=64, n_heads=4, n_layers=3`` (fetus) and ``n_hidden=128,
    n_heads=8, n_layers=3`` (heart), those of DCM ``n_hidden=256, n_heads=8, n_layers=8``. It differs from both networks
    by pre-normalisation, a learned null per key, per-entry survival as input and the head; genes have no order.

    Parameters
    ----------
    n_genes
        Number of genes.
    keys
        Condition keys.
    head
        ``"mixture"`` (default), ``"conjugate"``, ``"poisson"``, ``"softplus"`` or ``"tokens"``.
    n_hidden
        Width of a token.
    n_layers
        Number of blocks.
    n_heads
        Number of attention heads; must divide ``n_hidden``.
    dropout
        Dropout in attention and feed-forward layers.
    condition_dropout
        Chance that a condition key is hidden in training.
    attention
        ``"full"`` (default) or ``"latent"``.
    checkpoint_activations
        Whether to compute activations again in the backward pass instead of keeping them: slower, and less memory.
    gene_mean
        Mean UMI count of each gene in the training cells ``(n_genes,)``: where the shares of expression start.
    gene_dispersion
        Dispersion of each gene in the training cells ``(n_genes,)``: where that of the head starts; None is 1.
    library_mean
        Mean library size of the training cells in UMI counts, for each group of features.
    n_features
        Number of features of each group that has a library size of its own (a modality), one group after the other;
        None is one group.

    References
    ----------
    CountsDiff (arXiv 2604.03779), appendix D; DCM (Bhattacharya et al. 2026), table 4.
    """

    def __init__(
        self,
        n_genes: int,
        keys: Sequence[Key] = (),
        head: str = "mixture",
        n_hidden: int = 64,
        n_layers: int = 3,
        n_heads: int = 4,
        dropout: float = 0.1,
        condition_dropout: float = 0.2,
        attention: str = "full",
        checkpoint_activations: bool = False,
        gene_mean: Tensor | None = None,
        gene_dispersion: Tensor | None = None,
        library_mean: float | Sequence[float] = 1000.0,
        n_features: Sequence[int] | None = None,
    ) -> None:
        super().__init__(n_genes, tuple(keys), condition_dropout)
        check_shape(n_hidden, n_layers, dropout)
        if n_hidden % n_heads:
            raise ValueError(f"n_heads must divide n_hidden, got {n_heads} heads for a width of {n_hidden}.")
        self.library = make_library(library_mean, n_features)
        self.gene_embedding = nn.Parameter(torch.randn(n_genes, n_hidden) * 0.02)
        self.entry_projection = nn.Linear(2, n_hidden)
        self.statistics = CellStatistics(self.library, n_hidden)
        self.conditions = ConditionEncoder(self.keys, n_hidden)
        self.blocks = nn.ModuleList(_Block(n_hidden, n_heads, dropout, attention) for _ in range(n_layers))
        self.checkpoint_activations = checkpoint_activations
        self.norm = nn.LayerNorm(n_hidden)
        log_share = self.library.log_share(n_genes, gene_mean)
        self.head = HEADS[head](n_genes, self.library, gene_dispersion, log_share)
        self.to_logit = nn.Linear(n_hidden, self.head.n_outputs)
        self.gene_bias = nn.Parameter(log_share)
        nn.init.normal_(self.to_logit.weight, std=0.02)

    @property
    def numbers_per_entry(self) -> int:
        """Those of the head, and a feed-forward layer of a block beside its input."""
        return super().numbers_per_entry + 8 * self.gene_embedding.shape[1]

    def _tokens(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Last hidden layer: the cell's token first, then condition tokens, then genes."""
        entries = torch.stack([torch.log1p(x_t), alpha.expand_as(x_t)], -1)
        genes = self.gene_embedding + self.entry_projection(entries)
        cell = self.statistics(x_t, alpha, self.library.given(condition)).unsqueeze(1)
        h = torch.cat([cell, self.conditions(condition, x_t.sum(-1)), genes], 1)
        for block in self.blocks:
            if self.training and self.checkpoint_activations:
                h = checkpoint(block, h, use_reentrant=False)
            else:
                h = block(h)
        return self.norm(h)

    def embed(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Features of the cells ``(n_cells, n_hidden)``: the last hidden layer of the cell's token."""
        return self._tokens(x_t, alpha, condition)[:, 0]

    def logits(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Logits of the shares of expression, and what else the head asks for."""
        genes = self._tokens(x_t, alpha, condition)[:, -x_t.shape[-1] :]
        first, *others = self.to_logit(genes).unbind(-1)
        return self.offsets(torch.cat([first + self.gene_bias, *others], -1), condition)
