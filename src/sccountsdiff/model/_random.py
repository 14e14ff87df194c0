"""Randomness of the sampling methods: a generator of their own, seeded once."""

from __future__ import annotations

import numpy as np
import torch


def seeded(seed: int | None) -> int:
    """The seed itself; for None a number drawn from torch's global generator, which ``scvi.settings.seed`` sets."""
    return int(torch.randint(2**31 - 1, ())) if seed is None else int(seed)


def generators(seed: int | None, device: torch.device) -> tuple[torch.Generator, np.random.Generator]:
    """Generators for tensors on ``device`` and for arrays."""
    number = seeded(seed)
    return torch.Generator(device).manual_seed(number), np.random.default_rng(number)


def chunk_generator(seed: int, chunk: int, device: torch.device, purpose: int = 0) -> torch.Generator:
    """Generator of one chunk of cells: the same whichever chunks were computed before, and in which process."""
    state = np.random.SeedSequence([seed % 2**64, chunk, purpose]).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state[0] >> np.uint64(1)))
