"""Cells of which a part was seen: completed exactly by oracles, and by RePaint as far as it resamples."""

from __future__ import annotations

import pytest
import scipy.stats as st
import torch
from oracles import NegativeBinomialOracle, PointMassOracle, PoissonOracle, SharedRateOracle, chi_square_p

from sccountsdiff.process import BinomialBirths, CosineSchedule, GeometricSchedule, PosteriorBirths, Thinning
from sccountsdiff.sampling import Known, RePaintSampler, RescaledAttrition, Sampler, Thinned, survival_grid

GRID = survival_grid(GeometricSchedule(0.01), 6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def complete(oracle, seen, alpha, *, seed=0, grid=GRID):
    sampler = Sampler(Thinning(), oracle, PosteriorBirths())
    return sampler.sample(torch.zeros_like(seen), {}, grid, Thinned(seen, alpha), generator(seed))


@pytest.mark.parametrize("survival", [0.02, 0.25, 0.9])
@pytest.mark.parametrize("n_steps", [1, 7])
def test_thinned_cells_are_completed_to_the_law(survival, n_steps):
    oracle = NegativeBinomialOracle(3.0, 0.7)
    clean = torch.as_tensor(oracle.law.rvs(20_000, random_state=1), dtype=torch.float32).view(-1, 1)
    alpha = torch.tensor([[survival]])
    seen = Thinning().corrupt(clean, alpha, generator(1))
    grid = survival_grid(GeometricSchedule(0.01), n_steps)
    recovered = complete(oracle, seen, alpha.expand(len(seen), 1), grid=grid)
    assert (recovered >= seen).all()
    assert chi_square_p(recovered - seen, _law_of_missing(oracle, survival)) > 1e-3
    assert chi_square_p(recovered, oracle.law) > 1e-3


def _law_of_missing(oracle, survival):
    lost = oracle.mu * (1 - survival)
    return st.nbinom(oracle.theta, oracle.theta / (oracle.theta + lost))


def test_cells_seen_at_survivals_of_their_own_are_completed_together():
    """Each cell has its own depth; given what is seen, what is missing follows the conjugate law of that cell."""
    oracle, survivals = NegativeBinomialOracle(4.0, 1.5), (0.1, 0.5)
    seen = torch.full((20_000, 1), 2.0)
    alpha = torch.tensor(survivals).repeat(10_000).unsqueeze(1)
    missing = complete(oracle, seen, alpha) - seen
    for survival in survivals:
        posterior = oracle(torch.tensor([[2.0]]), torch.tensor([[survival]]), {})
        law = st.nbinom(3.5, 3.5 / (3.5 + posterior.mean.item()))
        assert chi_square_p(missing[alpha == survival], law) > 1e-3


def test_many_small_steps_draw_genes_together():
    """Genes that share a rate vary together; one step draws them independently given what was seen."""
    oracle, seen = SharedRateOracle(5.0, 2.0), torch.zeros(5000, 20)
    hidden = torch.zeros(5000, 1)
    fine = survival_grid(GeometricSchedule(0.005), 60)
    total = complete(oracle, seen, hidden, grid=fine).sum(1)
    exact = st.nbinom(2.0, 2.0 / (2.0 + 100.0))
    assert total.var().item() == pytest.approx(exact.var(), rel=0.15)
    at_once = complete(oracle, seen, hidden, grid=torch.tensor([0.0, 1.0])).sum(1)
    assert at_once.var() < 0.2 * exact.var()


def test_known_is_thinned_with_survivals_zero_and_one():
    values = torch.arange(12.0).view(3, 4)
    mask = torch.tensor([True, False, True, False]).expand(3, 4)
    sampler = Sampler(Thinning(), NegativeBinomialOracle(3.0, 0.7), PosteriorBirths())
    draws = [
        sampler.sample(torch.zeros(3, 4), {}, GRID, evidence, generator())
        for evidence in (Known(values, mask), Thinned(torch.where(mask, values, 0), mask.float()))
    ]
    assert torch.equal(*draws)
    assert torch.equal(draws[0][mask], values[mask])


def repaint(oracle, known, *, seed=0, n_steps=19, attrition=0.0, births=None, **options):
    sampler = Sampler(Thinning(), oracle, births or PosteriorBirths(), RescaledAttrition(attrition))
    grid = survival_grid(CosineSchedule(), n_steps)
    return RePaintSampler(sampler, **options).sample(known, {}, grid, generator(seed))


@pytest.mark.parametrize("options", [{}, {"n_resample": 2, "jump": 3}, {"n_resample": 1, "attrition": 0.02}])
def test_repaint_keeps_known_entries_and_draws_the_others_from_the_law(options):
    mask = torch.tensor([True, False]).expand(8000, 2)
    values = torch.where(mask, 7.0, torch.nan)
    draws = repaint(PoissonOracle(4.0), Known(values, mask), **options)
    assert (draws[:, 0] == 7).all()
    assert chi_square_p(draws[:, 1], PoissonOracle(4.0).law) > 1e-3


def test_repaint_hits_a_point_mass_exactly():
    mask = torch.tensor([True, False, False]).expand(50, 3)
    draws = repaint(PointMassOracle(7), Known(torch.full((50, 3), 7.0), mask), births=BinomialBirths(), attrition=0.02)
    assert (draws == 7).all()


def test_repaint_shows_the_denoiser_one_survival_only():
    """That is what sets it apart from :class:`Thinned`: the network is never told which entries are known."""
    shapes = set()

    class Watched(PoissonOracle):
        def __call__(self, x_t, alpha, condition):
            shapes.add((tuple(alpha.shape), bool((alpha < 1).all())))
            return super().__call__(x_t, alpha, condition)

    repaint(Watched(4.0), Known(torch.ones(5, 3), torch.ones(5, 3, dtype=torch.bool)))
    assert shapes == {((5, 1), True)}


def test_resampling_brings_repaint_closer_to_the_exact_conditional():
    """A gene of 40 molecules seen, one hidden that shares its rate: its conditional mean is known exactly."""
    oracle = SharedRateOracle(5.0, 2.0)
    mask = torch.tensor([True, False]).expand(3000, 2)
    known = Known(torch.full((3000, 2), 40.0), mask)
    exact = oracle(torch.tensor([[40.0, 0.0]]), torch.tensor([[1.0, 0.0]]), {}).rate[0, 1].item()
    settings = {"paper": {}, "resampled": {"n_resample": 10, "jump": 1}}
    error = {name: exact - repaint(oracle, known, **options)[:, 1].mean().item() for name, options in settings.items()}
    assert error["paper"] > 1.0
    assert abs(error["resampled"]) < 0.5 * error["paper"]
    whole = complete(oracle, torch.where(mask, 40.0, 0.0), mask.float())[:, 1].mean().item()
    assert whole == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("name", ["n_resample", "jump"])
def test_repaint_refuses_counts_below_one(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        RePaintSampler(Sampler(Thinning(), PoissonOracle(1.0)), **{name: 0})
