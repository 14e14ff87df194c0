"""Rates drawn for all genes together: what varies with what, how far, and what stays as it was."""

from __future__ import annotations

import pytest
import torch
from oracles import PoissonOracle

from sccountsdiff.nets import Covariation, LibraryPerGroup, OneLibrary
from sccountsdiff.process import GeometricSchedule, PoissonPosterior, Thinning
from sccountsdiff.sampling import CovaryingRates, Factors, Sampler, survival_grid

N_GENES, SD = 40, 0.4
SIGN = torch.tensor([1.0, -1.0]).repeat(N_GENES // 2)


def one_programme(sd: float = SD, n_genes: int = N_GENES) -> Covariation:
    """Half of the genes go up when the other half goes down, as much at all survivals."""
    covariation = Covariation(n_genes)
    n = covariation.directions.shape[1]
    directions, covariances = torch.zeros(n_genes, n), torch.zeros(len(covariation.levels()), n, n)
    directions[:, 0], covariances[:, 0, 0] = SIGN[:n_genes], sd**2
    covariation.put(directions, covariances)
    return covariation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_varies_at_first():
    covariation = Covariation(5)
    assert not covariation.known
    assert not any(True for _ in covariation.parameters()), "no gradient reaches it"
    assert not covariation.loadings(torch.tensor(0.1)).any()


def test_weights_from_before_there_was_any_have_none():
    covariation = one_programme()
    covariation.load_state_dict({})
    assert not covariation.known


def test_loadings_give_the_covariance_at_its_levels():
    covariation, noise = Covariation(30), generator()
    n = covariation.directions.shape[1]
    levels = covariation.levels()
    roots = 0.1 * torch.randn(len(levels), n, n, generator=noise)
    directions, covariances = 0.1 * torch.randn(30, n, generator=noise), roots @ roots.mT
    covariation.put(directions, covariances)
    assert covariation.known
    for level, covariance in zip(levels, covariances, strict=True):
        loadings = covariation.loadings(torch.tensor(level))
        torch.testing.assert_close(loadings @ loadings.T, directions @ covariance @ directions.T, atol=1e-4, rtol=1e-3)


def test_loadings_change_gradually_between_levels_and_not_beyond_the_last():
    covariation = Covariation(3)
    levels, n = covariation.levels(), covariation.directions.shape[1]
    assert levels[0] == 0
    assert levels == sorted(levels)
    covariances = torch.eye(n) * torch.arange(len(levels), 0, -1).view(-1, 1, 1)
    covariation.put(0.01 * torch.ones(3, n), covariances)
    spread = [covariation.loadings(torch.tensor(alpha)).norm().item() for alpha in torch.linspace(0, 1, 200).tolist()]
    assert all(now <= before + 1e-6 for before, now in zip(spread, spread[1:], strict=False))
    last = covariation.loadings(torch.tensor(levels[-1]))
    torch.testing.assert_close(covariation.loadings(torch.tensor(1.0)), last)


def test_no_rate_varies_more_widely_than_by_a_factor_of_e():
    loadings = one_programme(sd=3.0).loadings(torch.tensor(0.0))
    torch.testing.assert_close(loadings.norm(dim=1), torch.ones(N_GENES))


@pytest.mark.parametrize("library", [OneLibrary(400.0), LibraryPerGroup([150.0, 250.0], [16, 24])])
def test_drawn_rates_keep_means_and_totals_and_vary_together(library):
    rate = torch.linspace(2, 20, N_GENES // 2).repeat_interleave(2).expand(20_000, -1)
    posterior = PoissonPosterior(rate, torch.tensor(0.1))
    drawn, _ = CovaryingRates(one_programme(), library).draw(posterior, torch.tensor(0.1), None, generator())
    torch.testing.assert_close(library.total(drawn.rate), library.total(rate))
    torch.testing.assert_close(drawn.rate.mean(0), rate[0], rtol=0.03, atol=0)
    logs = (drawn.rate / rate).log()
    found = torch.corrcoef(logs.T)[:2, :2]
    assert found[0, 1] < -0.8
    difference = (logs[:, ::2] - logs[:, 1::2])[:, 0] / 2
    assert difference.std().item() == pytest.approx(SD, rel=0.03)


def test_factors_are_forgotten_as_survival_rises():
    posterior = PoissonPosterior(torch.ones(50_000, 2), torch.tensor(0.1))
    rates = CovaryingRates(one_programme(n_genes=2), OneLibrary(1.0))
    noise = generator()
    _, first = rates.draw(posterior, torch.tensor(0.1), None, noise)
    _, second = rates.draw(posterior, torch.tensor(0.2), first, noise)
    assert isinstance(second, Factors)
    assert second.alpha == torch.tensor(0.2)
    torch.testing.assert_close(second.normal.var(0), torch.ones(2), atol=0.03, rtol=0)
    together = (first.normal * second.normal).mean(0)
    torch.testing.assert_close(together, torch.full((2,), 0.125), atol=0.02, rtol=0)
    _, third = rates.draw(posterior, torch.tensor(0.1), Factors(torch.tensor(0.0), first.normal), noise)
    assert (first.normal * third.normal).mean().abs() < 0.02, "empty cells have nothing to remember"


def test_without_a_memory_factors_are_drawn_anew():
    covariation = one_programme(n_genes=2)
    before, now = torch.tensor(0.1), torch.tensor(0.2)
    assert covariation.correlation(before, now) == pytest.approx(0.125)
    assert covariation.correlation(torch.tensor(0.0), now) == 0
    covariation.memory.fill_(0.5)
    assert covariation.correlation(before, now) == 0.5
    covariation.memory.zero_()
    assert covariation.correlation(before, now) == 0
    assert one_programme().memory == 0.25
    covariation.load_state_dict({name: v for name, v in covariation.state_dict().items() if name != "memory"})
    assert covariation.memory == 0.25, "of files from before it was fitted"


def walk(covarying: CovaryingRates | None, n_steps: int, seed: int = 0) -> torch.Tensor:
    """Cells by a denoiser that knows the mean of each gene and nothing else."""
    sampler = Sampler(Thinning(), PoissonOracle(10.0), covarying=covarying)
    grid = survival_grid(GeometricSchedule(1e-3), n_steps)
    return sampler.sample(torch.zeros(4000, N_GENES), {}, grid, generator=generator(seed))


@pytest.mark.parametrize("n_steps", [1, 4, 20, 100])
def test_genes_of_a_programme_come_out_related_in_any_number_of_steps(n_steps):
    """In one step the law of counts is exact: Poisson around log-normal rates, scaled to the total of the cell."""
    related = CovaryingRates(one_programme(), OneLibrary(10.0 * N_GENES))
    score = (walk(related, n_steps) @ SIGN) / N_GENES
    alone = (walk(None, n_steps) @ SIGN) / N_GENES
    poisson = 10 / N_GENES
    assert alone.var().item() == pytest.approx(poisson, rel=0.1)
    if n_steps == 1:
        rates = 10 * (SD * torch.randn(100_000, generator=generator())).tanh()
        assert score.var().item() == pytest.approx(poisson + rates.var().item(), rel=0.1)
    assert score.var() > 10 * alone.var()


def test_a_seed_gives_the_same_cells_and_leaves_the_global_state_alone():
    related = CovaryingRates(one_programme(), OneLibrary(10.0 * N_GENES))
    before = torch.get_rng_state()
    first = walk(related, 4, seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, walk(related, 4, seed=7))
    assert not torch.equal(first, walk(related, 4, seed=8))
