"""The same laws on a GPU: draws, a walk with an oracle, and no waiting for the device within it."""

from __future__ import annotations

import pytest
import scipy.stats as st
import torch
from oracles import NegativeBinomialOracle, chi_square_p

from sccountsdiff.nets import Covariation, OneLibrary
from sccountsdiff.process import PoissonBirths, PosteriorBirths, Thinning
from sccountsdiff.process._random import binomial, gamma, poisson
from sccountsdiff.sampling import CovaryingRates, RescaledAttrition, Sampler, survival_grid

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

N, CUDA = 200_000, torch.device("cuda")
DRAWS = {
    "poisson": (lambda g: poisson(torch.full((N,), 0.3, device=CUDA), g), st.poisson(0.3)),
    "poisson-rare": (lambda g: poisson(torch.full((N,), 0.01, device=CUDA), g), st.poisson(0.01)),
    "poisson-large": (lambda g: poisson(torch.full((N,), 300.0, device=CUDA), g), st.poisson(300)),
    "binomial": (
        lambda g: binomial(torch.full((N, 1), 9.0, device=CUDA), torch.tensor(0.2, device=CUDA), g),
        st.binom(9, 0.2),
    ),
    "binomial-large": (
        lambda g: binomial(torch.full((N,), 6000.0, device=CUDA), torch.tensor(0.01, device=CUDA), g),
        st.binom(6000, 0.01),
    ),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator(CUDA).manual_seed(seed)


@pytest.mark.parametrize(("draw", "law"), DRAWS.values(), ids=DRAWS)
def test_draws_follow_the_law(draw, law):
    draws = draw(generator(0))
    assert draws.device.type == "cuda"
    assert chi_square_p(draws.cpu(), law) > 1e-3
    assert torch.equal(draws, draw(generator(0)))
    assert not torch.equal(draws, draw(generator(1)))


@pytest.mark.parametrize("shape", [0.1, 5.0])
def test_gammas_follow_the_law(shape):
    draws = gamma(torch.full((N,), shape, device=CUDA), generator(0)).cpu().double().numpy()
    assert st.kstest(draws[:20_000], st.gamma(shape).cdf).pvalue > 1e-3


@pytest.mark.parametrize("attrition", [0.0, 0.5])
def test_a_walk_ends_in_the_law_of_its_oracle(attrition):
    oracle = NegativeBinomialOracle(3.0, 0.7)
    sampler = Sampler(Thinning(), oracle, PosteriorBirths(), RescaledAttrition(attrition))
    grid = survival_grid(Thinning().schedule(3.0), 20)
    cells = sampler.sample(torch.zeros(2000, 50, device=CUDA), {}, grid, generator=generator(3))
    assert chi_square_p(cells.cpu(), oracle.law) > 1e-3


def test_a_walk_does_not_wait_for_the_device():
    n_genes, x_t = 50, torch.zeros(200, 50, device=CUDA)
    covarying = CovaryingRates(Covariation(n_genes).to(CUDA), OneLibrary(1.0))
    sampler = Sampler(Thinning(), NegativeBinomialOracle(3.0, 0.7), PoissonBirths(), covarying=covarying)
    grid = survival_grid(Thinning().schedule(3.0), 20).to(CUDA)
    torch.cuda.set_sync_debug_mode("error")
    try:
        cells = sampler.sample(x_t, {}, grid, generator=generator(0))
        with pytest.raises(RuntimeError, match="synchronizing"):
            cells.sum().item()  # a wait would not go unnoticed
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert cells.mean().item() == pytest.approx(3.0, rel=0.1)
