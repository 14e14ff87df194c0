"""Draws in blocks: the right law, the same numbers on any number of cores, no block twice."""

from __future__ import annotations

import pytest
import scipy.stats as st
import torch
from oracles import chi_square_p

from sccountsdiff.process._random import _MOSTLY_ZERO, binomial, gamma, poisson

N = 3 * 2**15 + 7
DRAWS = {
    "poisson": (lambda generator: poisson(torch.full((N,), 0.3), generator), st.poisson(0.3)),
    "poisson-rare": (lambda generator: poisson(torch.full((N,), 0.05), generator), st.poisson(0.05)),
    "poisson-large": (lambda generator: poisson(torch.full((N,), 30.0), generator), st.poisson(30)),
    "binomial": (lambda generator: binomial(torch.full((N, 1), 9.0), torch.tensor(0.2), generator), st.binom(9, 0.2)),
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


def test_molecules_placed_by_superposition_are_independent_poisson_draws():
    mean = torch.tensor([0.0, 1e-3, 0.02, 0.3, 0.0]).repeat(20_000, 1)
    draws = poisson(mean, torch.Generator().manual_seed(2))
    assert float(mean.mean()) < _MOSTLY_ZERO
    for draw, rate in zip(draws.unbind(1), mean[0].tolist(), strict=True):
        assert chi_square_p(draw, st.poisson(rate)) > 1e-3 if rate else not draw.any()
    correlation = torch.corrcoef(draws[:, 2:4].T)[0, 1]
    assert abs(correlation) < 4 / len(draws) ** 0.5


def test_a_negative_mean_is_refused():
    with pytest.raises(RuntimeError, match="non-negative|lambda >= 0"):
        poisson(torch.tensor([0.01, -0.01]))


def test_no_molecules_at_all():
    assert not poisson(torch.zeros(7)).any()


def test_gamma_blocks_follow_the_law():
    draws = gamma(torch.full((N,), 0.7), torch.Generator().manual_seed(0))
    assert st.kstest(draws.numpy(), st.gamma(0.7).cdf).pvalue > 1e-3


@pytest.mark.parametrize("draw", [draw for draw, _ in DRAWS.values()], ids=DRAWS)
def test_blocks_do_not_depend_on_the_number_of_threads(draw, threads):
    threads(1)
    alone = draw(torch.Generator().manual_seed(3))
    threads(3)
    assert torch.equal(alone, draw(torch.Generator().manual_seed(3)))


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
