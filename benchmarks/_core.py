"""Training and sampling with the core alone: counts of any shape, no AnnData and no scvi-tools."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sccountsdiff.conditioning import Condition
from sccountsdiff.nets import Denoiser
from sccountsdiff.objective import Objective

EMA_DECAY = 0.995


def average_weights(average: Tensor, current: Tensor, n_averaged: Tensor) -> Tensor:
    """Return the next average: short at first, or a short training would end with weights of its beginning."""
    return average.lerp(current, max(1 - EMA_DECAY, 9 / (10 + float(n_averaged))))


def descend(
    network: nn.Module,
    loss_of: Callable[[Tensor, torch.Generator], Tensor],
    n_rows: int,
    n_steps: int,
    seed: int,
    batch_size: int = 256,
) -> nn.Module:
    """Minimise ``loss_of(rows, generator)`` over random minibatches; return the network with averaged weights.

    AdamW under a one-cycle learning rate, the same for every family that is compared.
    """
    device = next(network.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=n_steps)
    average = AveragedModel(network, avg_fn=average_weights)
    network.train()
    for _ in range(n_steps):
        rows = torch.randint(n_rows, (batch_size,), generator=generator, device=device)
        optimizer.zero_grad()
        loss_of(rows, generator).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        average.update_parameters(network)
    return average.module.eval()


def fit(
    denoiser: Denoiser,
    objective: Objective,
    counts: Tensor,
    condition: Condition,
    n_steps: int,
    seed: int,
    batch_size: int = 256,
) -> Denoiser:
    """Train a denoiser on counts ``(n, ...)`` and their condition."""

    def loss_of(rows: Tensor, generator: torch.Generator) -> Tensor:
        given = {name: value[rows] for name, value in condition.items()}
        x_0 = counts[rows].float()
        return objective.loss(denoiser, x_0, given, generator=generator).mean() / x_0[0].numel()

    return descend(denoiser, loss_of, len(counts), n_steps, seed, batch_size)
