"""Negative-binomial draws and quantiles: those of the law, for rare, usual, wide and very uneven counts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st
import torch
from oracles import chi_square_p

from sccountsdiff.process._negative_binomial import draw_negative_binomial, quantile_negative_binomial

LAWS = [(0.003, 0.5), (0.3, 1.5), (4.0, 0.2), (4.0, 1e5), (60.0, 40.0), (0.5, 0.01), (400.0, 3.0), (15.0, 0.05)]


def law(mean, size):
    return st.nbinom(size, size / (size + mean))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("mean", "size"), LAWS)
def test_draws_follow_the_law(mean, size):
    draws = draw_negative_binomial(torch.full((60_000, 1), mean), torch.tensor(size), generator())
    assert draws.dtype == torch.float32
    assert torch.equal(draws, draws.round())
    assert chi_square_p(draws, law(mean, size)) > 1e-3
    assert draws.mean().item() == pytest.approx(mean, abs=5 * law(mean, size).std() / 60_000**0.5)


def test_entries_with_laws_of_their_own_are_drawn_apart():
    mean, size = (torch.tensor(values).repeat(20_000, 1) for values in zip(*LAWS, strict=True))
    draws = draw_negative_binomial(mean, size, generator(1))
    for k, (m, s) in enumerate(LAWS):
        assert chi_square_p(draws[:, k], law(m, s)) > 1e-3
    correlation = np.corrcoef(draws[:, [1, 2, 4, 6]].T.numpy())
    assert np.abs(correlation - np.eye(4)).max() < 4 / 20_000**0.5


def test_very_rare_counts_keep_their_frequency():
    """The uniform numbers of float32 are steps of 6e-8: counts rarer than some steps must not be lost or doubled."""
    mean = 2e-6
    draws = draw_negative_binomial(torch.full((4_000_000, 5), mean), torch.tensor(1.0), generator(2))
    assert abs(draws.sum().item() - 40) < 4 * 40**0.5
    assert draws.max() == 1


def test_nothing_is_drawn_of_nothing():
    assert (draw_negative_binomial(torch.zeros(1000, 10), torch.tensor(0.3), generator()) == 0).all()


@pytest.mark.parametrize("level", [1e-6, 0.025, 0.5, 0.975, 1 - 1e-6])
def test_quantiles_match_scipy(level):
    mean, size = (torch.tensor(values) for values in zip(*LAWS, strict=True))
    found = quantile_negative_binomial(torch.tensor(level, dtype=torch.float64), mean, size)
    rounded = zip(mean.double().tolist(), size.double().tolist(), strict=True)
    assert found.tolist() == [law(m, s).ppf(level) for m, s in rounded]


def test_same_seed_same_draws():
    mean = torch.rand(300, 500, generator=generator(3)) * 5
    first, second, other = (draw_negative_binomial(mean, torch.tensor(0.8), generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
