"""Draws in blocks: the right law, the same numbers on any number of cores, no block twice."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import scipy.stats as st
import torch
from oracles import chi_square_p

from sccountsdiff.process import _random
from sccountsdiff.process._random import _BLOCK_SIZE, binomial, gamma, poisson

N = 3 * _BLOCK_SIZE + 7
DRAWS = {
    "poisson": (lambda generator: poisson(torch.full((N,), 0.3), generator), st.poisson(0.3)),
    "poisson-rare": (lambda generator: poisson(torch.full((N,), 0.05), generator), st.poisson(0.05)),
    "poisson-large": (lambda generator: poisson(torch.full((N,), 30.0), generator), st.poisson(30)),
    "binomial": (lambda generator: binomial(torch.full((N, 1), 9.0), torch.tensor(0.2), generator), st.binom(9, 0.2)),
    "binomial-large": (
        lambda generator: binomial(torch.full((N,), 60.0), torch.tensor(0.7), generator),
        st.binom(60, 0.7),
    ),
}


@pytest.fixture
def threads():
    """Set the number of threads for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(("draw", "law"), DRAWS.values(), ids=DRAWS)
def test_blocks_follow_the_law_and_differ(draw, law):
    draws = draw(torch.Generator().manual_seed(0))
    assert chi_square_p(draws, law) > 1e-3
    first, second, _ = draws.flatten().tensor_split(3)
    n = len(second)
    assert abs(torch.corrcoef(torch.stack([first[:n], second]))[0, 1]) < 4 / n**0.5


def test_neighbouring_poisson_draws_are_independent():
    mean = torch.tensor([0.0, 1e-3, 0.02, 0.3, 20.0, 0.0]).repeat(20_000, 1)
    draws = poisson(mean, torch.Generator().manual_seed(2))
    for draw, rate in zip(draws.unbind(1), mean[0].tolist(), strict=True):
        assert chi_square_p(draw, st.poisson(rate)) > 1e-3 if rate else not draw.any()
    correlations = torch.corrcoef(draws[:, 2:5].T).triu(1)
    assert correlations.abs().max() < 4 / len(draws) ** 0.5


def test_neighbouring_binomial_draws_are_independent():
    count, probability = torch.tensor([0.0, 1.0, 3.0, 30.0]).repeat(20_000, 1), torch.tensor([0.5, 0.1, 0.9, 0.4])
    draws = binomial(count, probability, torch.Generator().manual_seed(2))
    assert not draws[:, 0].any()
    for draw, n, p in zip(draws[:, 1:].unbind(1), (1, 3, 30), (0.1, 0.9, 0.4), strict=True):
        assert chi_square_p(draw, st.binom(n, p)) > 1e-3
    assert torch.corrcoef(draws[:, 1:].T).triu(1).abs().max() < 4 / len(draws) ** 0.5


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_none_or_all_survive(probability):
    count = torch.arange(50.0)
    assert torch.equal(binomial(count, torch.tensor(probability)), count * probability)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_draws_keep_the_type(dtype):
    assert (
        poisson(torch.ones(3, dtype=dtype)).dtype
        == binomial(torch.ones(3, dtype=dtype), torch.tensor(0.5)).dtype
        == dtype
    )


def test_double_precision_is_kept():
    count = torch.tensor([2.0**30 + 1], dtype=torch.float64)
    assert torch.equal(binomial(count, torch.tensor(1.0)), count)
    assert gamma(torch.full((1000,), 0.01, dtype=torch.float64), torch.Generator().manual_seed(0)).min() < 1e-50


def test_a_negative_mean_is_refused():
    for mean in (-0.01, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="mean of a Poisson draw must be a non-negative number"):
            poisson(torch.tensor([0.01, mean]))


def test_a_negative_count_is_refused():
    for count in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="count of a binomial draw must be a non-negative number"):
            binomial(torch.tensor([1.0, count]), torch.tensor(0.5))


def test_no_molecules_at_all():
    assert not poisson(torch.zeros(7)).any()


def test_gamma_blocks_follow_the_law():
    draws = gamma(torch.full((N,), 0.7), torch.Generator().manual_seed(0))
    assert st.kstest(draws.numpy(), st.gamma(0.7).cdf).pvalue > 1e-3


@pytest.mark.parametrize("draw", [draw for draw, _ in DRAWS.values()], ids=DRAWS)
def test_blocks_do_not_depend_on_the_number_of_threads(draw, threads, monkeypatch):
    threads(1)
    alone = draw(torch.Generator().manual_seed(3))
    threads(3)
    pools = Mock(wraps=_random.ThreadPoolExecutor)
    monkeypatch.setattr(_random, "ThreadPoolExecutor", pools)
    assert torch.equal(alone, draw(torch.Generator().manual_seed(3)))
    assert not pools.called, "a few draws are not worth several cores"
    monkeypatch.setattr(_random, "_SHARED_SIZE", N)
    assert torch.equal(alone, draw(torch.Generator().manual_seed(3)))
    assert pools.call_args.args == (3,)


@pytest.mark.parametrize("draw", [draw for draw, _ in DRAWS.values()], ids=DRAWS)
def test_only_the_given_generator_moves_on(draw):
    state, generator = torch.get_rng_state(), torch.Generator().manual_seed(1)
    first = draw(generator)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, draw(generator))


def test_without_a_generator_the_global_seed_rules():
    torch.manual_seed(5)
    first = poisson(torch.ones(N))
    torch.manual_seed(5)
    assert torch.equal(first, poisson(torch.ones(N)))
