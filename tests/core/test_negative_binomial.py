"""Negative-binomial draws and quantiles: those of the law, for rare, usual, wide and very uneven counts."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats as st
import torch
from oracles import chi_square_p

from sccountsdiff.process._negative_binomial import (
    cdf_negative_binomial,
    draw_negative_binomial,
    quantile_negative_binomial,
)

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
    found = quantile_negative_binomial(level, torch.ones(1, 1, len(LAWS)), mean.view(1, 1, -1), size)
    rounded = zip(mean.double().tolist(), size.double().tolist(), strict=True)
    assert found[0].tolist() == [law(m, s).ppf(level) for m, s in rounded]


@pytest.mark.parametrize("level", [0.025, 0.5, 0.9, 0.999])
def test_quantiles_of_mixtures_are_the_first_counts_that_reach_the_level(level):
    mean, size = (torch.tensor(values, dtype=torch.float64) for values in zip(*LAWS, strict=True))
    means = torch.stack([mean, 10 * mean]).unsqueeze(1)
    weights = torch.tensor([0.95, 0.05], dtype=torch.float64).view(2, 1, 1).expand_as(means)
    found = quantile_negative_binomial(level, weights, means, size)

    def below(count, k):
        parts = [(0.95, mean[k].item()), (0.05, 10 * mean[k].item())]
        return sum(weight * law(m, size[k].item()).cdf(count) for weight, m in parts)

    for k, count in enumerate(found[0].tolist()):
        assert below(count - 1, k) < level <= below(count, k) + 1e-12


def test_same_seed_same_draws():
    mean = torch.rand(300, 500, generator=generator(3)) * 5
    first, second, other = (draw_negative_binomial(mean, torch.tensor(0.8), generator(s)) for s in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("size", [1e-2, 0.3, 1.0, 7.5, 200.0, 1e5])
@pytest.mark.parametrize("mean", [1e-9, 1e-3, 0.4, 3.0, 60.0, 900.0, 2e4])
def test_distribution_functions_are_those_of_scipy(mean, size):
    count = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 7.0, 49.0, 50.0, 51.0, 800.0, 30_000.0], dtype=torch.float64)
    found = cdf_negative_binomial(count, torch.tensor([mean], dtype=torch.float64), torch.tensor([size]).double())
    np.testing.assert_allclose(found, st.nbinom(size, size / (size + mean)).cdf(count.floor()), atol=1e-9)


def test_distribution_functions_of_many_entries_broadcast():
    rng = np.random.default_rng(0)
    mean, size = rng.gamma(0.3, 5, (40, 30)), rng.gamma(1.0, 3, 30) + 1e-3
    count = rng.poisson(mean)
    found = cdf_negative_binomial(*(torch.tensor(values, dtype=torch.float32) for values in (count, mean, size)))
    assert found.shape == (40, 30)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, st.nbinom(size, size / (size + mean)).cdf(count), atol=2e-6)
