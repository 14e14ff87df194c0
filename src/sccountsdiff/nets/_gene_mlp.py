"""GeneMLP: the default denoiser, a residual network on whole cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from sccountsdiff.conditioning import Condition, ConditionEncoder, Key
from sccountsdiff.nets._denoiser import DENOISERS, HeadedDenoiser, check_shape
from sccountsdiff.nets._heads import HEADS
from sccountsdiff.nets._inputs import INPUTS, GroupDropout
from sccountsdiff.nets._library import make_library
from sccountsdiff.nets._statistics import CellStatistics


@final
class _ModulatedBlock(nn.Module):
    """Residual block whose normalisation is shifted, scaled and gated by the cell's context."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 3 * width)
        self.body = nn.Sequential(
            nn.Linear(width, 2 * width), nn.SiLU(), GroupDropout(dropout), nn.Linear(2 * width, width)
        )
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(context).chunk(3, -1)
        return h + (1 + gate) * self.body(self.norm(h) * (1 + scale) + shift)


def _default_dropout(n_genes: int) -> float:
    """Less in narrow panels, where each gene says much of a cell."""
    return 0.2 * min(1.0, math.sqrt(n_genes / 500))


@DENOISERS.register("mlp")
@final
class GeneMLP(HeadedDenoiser):
    """Residual multilayer perceptron over all genes of a cell.

    Counts and per-entry survival are projected to a narrow hidden layer, which residual blocks transform under adaptive
    layer normalisation by the cell's context (survival, molecules seen, library size, condition tokens). Cost is linear
    in the number of genes.

    Parameters
    ----------
    n_genes
        Number of genes.
    keys
        Condition keys.
    head
        ``"mixture"`` (default), ``"conjugate"``, ``"poisson"``, ``"softplus"`` or ``"tokens"``.
    input
        ``"residual"`` (default: residuals from the average profile) or ``"log"`` (log counts and survival).
    n_hidden
        Width of the hidden layer.
    n_layers
        Number of residual blocks.
    dropout
        Dropout of input entries and in the blocks; None is 0.2 from 500 genes on and falls with the root of their number
        below that, to 0.09 at 100.
    condition_dropout
        Chance that a condition key is hidden in training.
    gene_mean
        Mean UMI count of each gene in the training cells ``(n_genes,)``: where the shares of expression start.
    gene_dispersion
        Dispersion of each gene in the training cells ``(n_genes,)``: where that of the head starts; None is 1.
    library_mean
        Mean library size of the training cells in UMI counts, for each group of features.
    n_features
        Number of features of each group that has a library size of its own (a modality), one group after the other;
        None is one group.
    """

    def __init__(
        self,
        n_genes: int,
        keys: Sequence[Key] = (),
        head: str = "mixture",
        input: str = "residual",
        n_hidden: int = 128,
        n_layers: int = 2,
        dropout: float | None = None,
        condition_dropout: float = 0.2,
        gene_mean: Tensor | None = None,
        gene_dispersion: Tensor | None = None,
        library_mean: float | Sequence[float] = 1000.0,
        n_features: Sequence[int] | None = None,
    ) -> None:
        super().__init__(n_genes, tuple(keys), condition_dropout)
        dropout = _default_dropout(n_genes) if dropout is None else dropout
        check_shape(n_hidden, n_layers, dropout)
        self.library = make_library(library_mean, n_features)
        log_share = self.library.log_share(n_genes, gene_mean)
        self.input = INPUTS[input](log_share, self.library, n_hidden, dropout)
        self.statistics = CellStatistics(self.library, n_hidden)
        self.conditions = ConditionEncoder(self.keys, n_hidden)
        self.blocks = nn.ModuleList(_ModulatedBlock(n_hidden, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(n_hidden)
        self.head = HEADS[head](n_genes, self.library, gene_dispersion, log_share)
        self.to_logits = nn.Linear(n_hidden, self.head.n_outputs * n_genes)
        nn.init.normal_(self.to_logits.weight, std=0.1 / math.sqrt(n_hidden))
        with torch.no_grad():
            self.to_logits.bias[:n_genes] = log_share

    def embed(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Features of the cells ``(n_cells, n_hidden)``: the last hidden layer, of which the logits are linear."""
        context = self.statistics(x_t, alpha, self.library.given(condition))
        context = nn.functional.silu(context + self.conditions(condition, x_t.sum(-1)).sum(1))
        h = self.input(x_t, alpha)
        for block in self.blocks:
            h = block(h, context)
        return self.norm(h)

    def logits(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Logits of the shares of expression, and what else the head asks for."""
        return self.offsets(self.to_logits(self.embed(x_t, alpha, condition)), condition)
