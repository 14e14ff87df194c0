"""Many noisy numbers, shrunk as far as all of them say."""

from __future__ import annotations

import pytest
import torch

from sccountsdiff.model._shrinkage import shrunken

SPREADS = (0.01, 0.05, 0.2, 0.8)


def noisy(true: torch.Tensor, error: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Estimates and their variances."""
    noise = error * torch.randn(len(true), generator=torch.Generator().manual_seed(seed))
    return true + noise, torch.full_like(true, error**2)


def test_one_law_shrinks_as_a_normal_prior_does():
    estimate, variance = torch.tensor([0.3, -0.2]), torch.tensor([0.04, 0.01])
    expected = estimate * 0.05**2 / (0.05**2 + variance)
    torch.testing.assert_close(shrunken(estimate, variance, (0.05,)), expected)


def test_noise_is_taken_for_noise():
    estimate, variance = noisy(torch.zeros(2_000), 0.3)
    assert shrunken(estimate, variance, SPREADS).square().mean() < 0.05**2


def test_what_stands_out_of_the_noise_is_kept():
    """A few large numbers among many small ones: a normal law with the spread of all would halve both."""
    true = torch.zeros(2_000)
    true[:40] = 1.0
    estimate, variance = noisy(true, 0.15)
    found = shrunken(estimate, variance, SPREADS)
    assert found[:40].mean().item() == pytest.approx(1.0, abs=0.1)
    assert found[40:].square().mean() < 0.03**2
    normal = estimate * true.var() / (true.var() + variance)
    assert (found - true).square().mean() < 0.5 * (normal - true).square().mean()


@pytest.mark.parametrize("spread", [0.05, 0.2, 0.8])
def test_the_prior_is_found(spread):
    """Nearly as good as if the spread were known."""
    true = spread * torch.randn(4_000, generator=torch.Generator().manual_seed(1))
    estimate, variance = noisy(true, 0.1)
    found = shrunken(estimate, variance, SPREADS)
    best = estimate * spread**2 / (spread**2 + variance)
    assert (found - true).square().mean() < 1.15 * (best - true).square().mean()


def test_a_number_of_which_nothing_is_known_is_small():
    estimate, variance = noisy(torch.zeros(500), 0.1)
    estimate[0], variance[0] = 5.0, 1e12
    assert abs(shrunken(estimate, variance, SPREADS)[0]) < 1e-6
