"""A baseline: Gaussian diffusion (DDPM) on log counts, rounded back to integers."""

from __future__ import annotations

import math

import torch
from _core import descend
from torch import Tensor, nn

N_LEVELS = 200
WIDTH = 64


class _Block(nn.Module):
    """Residual layer, shifted and scaled by time."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.modulation = nn.Linear(WIDTH, 2 * WIDTH)
        self.body = nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.SiLU(), nn.Linear(2 * WIDTH, WIDTH))

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        shift, scale = self.modulation(time).chunk(2, -1)
        return h + self.body(self.norm(h) * (1 + scale) + shift)


class GaussianDiffusion(nn.Module):
    """DDPM with a cosine schedule that predicts the noise in standardised ``log1p`` counts.

    As wide and deep as the networks it is compared with. Reverse steps draw from the posterior of DDPM (Ho et al. 2020,
    eq. 6-7) with clean values kept in the range of the data; samples are rounded to the nearest count.
    """

    def __init__(self, counts: Tensor) -> None:
        super().__init__()
        logs = torch.log1p(counts)
        self.mean, self.std = logs.mean(0), logs.std(0)
        standardised = (logs - self.mean) / self.std
        self.low, self.high = standardised.amin(0), standardised.amax(0)
        t = torch.arange(N_LEVELS + 1) / N_LEVELS
        self.signal = (torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2).clamp(1e-4, 0.9999)
        self.frequency = torch.exp(torch.linspace(0, math.log(1000), WIDTH // 2))
        self.first = nn.Linear(counts.shape[1], WIDTH)
        self.time = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU())
        self.blocks = nn.ModuleList(_Block() for _ in range(2))
        self.last = nn.Linear(WIDTH, counts.shape[1])

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        """Return the noise in ``z`` ``(n, n_dims)`` at noise levels ``(n,)``."""
        angle = (level[:, None] / N_LEVELS) * self.frequency
        time = self.time(torch.cat([angle.sin(), angle.cos()], -1))
        h = self.first(z)
        for block in self.blocks:
            h = block(h, time)
        return self.last(h)

    def loss(self, counts: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean squared error of the noise at random levels."""
        clean = (torch.log1p(counts) - self.mean) / self.std
        level = torch.randint(1, N_LEVELS + 1, (len(counts),), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        signal = self.signal[level, None]
        return (self(signal.sqrt() * clean + (1 - signal).sqrt() * noise, level) - noise).square().mean()

    @torch.no_grad()
    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Return counts ``(n, n_dims)``."""
        z = torch.randn(n, len(self.mean), generator=generator)
        for level in range(N_LEVELS, 0, -1):
            now, after = self.signal[level], self.signal[level - 1]
            noise = self(z, torch.full((n,), level))
            clean = ((z - (1 - now).sqrt() * noise) / now.sqrt()).clamp(self.low, self.high)
            kept = now / after
            mean = (after.sqrt() * (1 - kept) * clean + kept.sqrt() * (1 - after) * z) / (1 - now)
            spread = ((1 - after) / (1 - now) * (1 - kept)).sqrt()
            z = mean + (spread * torch.randn(z.shape, generator=generator) if level > 1 else 0)
        return torch.expm1(z * self.std + self.mean).clamp_min(0).round()


def gaussian(counts: Tensor, n_steps: int, seed: int) -> GaussianDiffusion:
    """Train on counts ``(n, n_dims)``."""
    model = GaussianDiffusion(counts)
    return descend(model, lambda rows, generator: model.loss(counts[rows], generator), len(counts), n_steps, seed)
