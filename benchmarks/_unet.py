"""A small U-Net denoiser: images are counts of shape ``(n_images, n_channels, height, width)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sccountsdiff.conditioning import Condition, ConditionEncoder, Key
from sccountsdiff.nets import Denoiser
from sccountsdiff.process import PoissonPosterior

GROUPS, HEADS = 8, 4


@final
class _ResidualBlock(nn.Module):
    """Two convolutions, the second shifted and scaled by the context of the image."""

    def __init__(self, n_in: int, n_out: int, n_context: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.GroupNorm(GROUPS, n_in), nn.SiLU(), nn.Conv2d(n_in, n_out, 3, padding=1))
        self.modulation = nn.Linear(n_context, 2 * n_out)
        self.norm = nn.GroupNorm(GROUPS, n_out)
        self.second = nn.Sequential(nn.SiLU(), nn.Dropout(dropout), nn.Conv2d(n_out, n_out, 3, padding=1))
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        shift, scale = self.modulation(context)[..., None, None].chunk(2, 1)
        inner = self.norm(self.first(h)) * (1 + scale) + shift
        return self.shortcut(h) + self.second(inner)


@final
class _SelfAttention(nn.Module):
    """Attention between the pixels of the coarsest level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        tokens = self.norm(h).flatten(2).mT
        attended = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return h + attended.mT.unflatten(2, h.shape[2:])


@final
class UNet(Denoiser):
    r"""U-Net over counts that have a largest value, such as pixels.

    Of each pixel at most ``max_count - x_t`` molecules are missing, and the network says which part of these:
    :math:`m = (x_{\max} - x_t)\,\mathrm{sigmoid}(u)`. Drawn by rounding (:class:`~sccountsdiff.process.BinomialBirths`),
    no pixel can leave its range. Input as in the paper, :math:`(x_t - \alpha\,x_{\max} / 2) / x_{\max}`, and survival
    as a channel of its own.

    Parameters
    ----------
    n_channels
        Colours of an image.
    max_count
        Largest value of a pixel.
    key
        The condition: class or attributes.
    widths
        Channels of each level; each halves height and width.
    n_blocks
        Residual blocks of each level.
    dropout, condition_dropout
        Dropout in the blocks, and chance that the condition is hidden in training.
    """

    def __init__(
        self,
        n_channels: int,
        max_count: float,
        key: Key,
        widths: Sequence[int] = (32, 64),
        n_blocks: int = 1,
        dropout: float = 0.1,
        condition_dropout: float = 0.1,
    ) -> None:
        super().__init__((key,), condition_dropout)
        self.max_count = max_count
        n_context = 4 * widths[0]
        self.survival = nn.Sequential(nn.Linear(3, n_context), nn.SiLU(), nn.Linear(n_context, n_context))
        self.conditions = ConditionEncoder(self.keys, n_context)
        self.first = nn.Conv2d(2 * n_channels, widths[0], 3, padding=1)

        def blocks(n_in: int, width: int) -> nn.ModuleList:
            sizes = [n_in, *[width] * n_blocks]
            return nn.ModuleList(
                _ResidualBlock(a, b, n_context, dropout) for a, b in zip(sizes, sizes[1:], strict=False)
            )

        entering = [widths[0], *widths[:-1]]
        leaving = [*widths[1:], widths[-1]]
        self.down = nn.ModuleList(blocks(before, width) for before, width in zip(entering, widths, strict=True))
        self.middle = _ResidualBlock(widths[-1], widths[-1], n_context, dropout)
        self.attention = _SelfAttention(widths[-1])
        self.up = nn.ModuleList(blocks(below + width, width) for below, width in zip(leaving, widths, strict=True))
        self.last = nn.Sequential(
            nn.GroupNorm(GROUPS, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], n_channels, 3, padding=1)
        )

    def _descend(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> tuple[list[Tensor], Tensor]:
        """Features of each level, finest first, and the context."""
        alpha = alpha.expand_as(x_t)
        level = alpha.flatten(1).mean(1, keepdim=True)
        depth = torch.cat([level, (level + 1e-3).log(), (1 - level + 1e-3).log()], -1)
        context = F.silu(self.survival(depth) + self.conditions(condition, len(x_t)).sum(1))
        h = self.first(torch.cat([x_t / self.max_count - alpha / 2, alpha], 1))
        levels = []
        for number, blocks in enumerate(self.down):
            h = h if number == 0 else F.avg_pool2d(h, 2)
            for block in blocks:
                h = block(h, context)
            levels.append(h)
        return levels, context

    def _middle(self, h: Tensor, context: Tensor) -> Tensor:
        return self.attention(self.middle(h, context))

    def embed(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> Tensor:
        """Features of the images: means over the coarsest level."""
        levels, context = self._descend(x_t, alpha, condition)
        return self._middle(levels[-1], context).mean((2, 3))

    def forward(self, x_t: Tensor, alpha: Tensor, condition: Condition) -> PoissonPosterior:
        """Posterior over the missing counts of each pixel."""
        levels, context = self._descend(x_t, alpha, condition)
        h = self._middle(levels[-1], context)
        for features, blocks in zip(reversed(levels), reversed(self.up), strict=True):
            h = torch.cat([F.interpolate(h, size=features.shape[2:], mode="nearest"), features], 1)
            for block in blocks:
                h = block(h, context)
        missing = (self.max_count - x_t).clamp_min(0) * torch.sigmoid(self.last(h))
        return PoissonPosterior(missing / (1 - alpha).clamp_min(1e-3), alpha)
