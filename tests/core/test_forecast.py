"""Forecasts of conditions that were never measured, and the transport of cells to a profile."""

from __future__ import annotations

import math

import pytest
import scipy.stats as st
import torch
from oracles import chi_square_p

from sccountsdiff.conditioning import (
    CombinationKey,
    ConditionEncoder,
    ContrastGuidance,
    Forecast,
    Kriging,
    Profiles,
    Scales,
)
from sccountsdiff.process import GammaPoissonPosterior, PoissonPosterior
from sccountsdiff.sampling import Transport, fit_transport, log1p_cp10k

SCALES = Scales(2.0, 0.5, 0.5)


def profiles(mean, context, members, n_cells=100.0, spread=1e-6, **kwargs):
    mean, members = torch.as_tensor(mean).double(), torch.as_tensor(members).double()
    cells = torch.full((len(mean),), n_cells).double()
    return Profiles(
        mean, cells, torch.full(mean.shape[1:], spread).double(), torch.as_tensor(context), members, **kwargs
    )


def grid_of_contexts(n_contexts=5, n_genes=40, own=0.0, seed=0):
    """Contexts x (control, perturbed): additive up to ``own``."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.rand(n_contexts, n_genes, generator=generator) * 3
    effect = torch.randn(n_genes, generator=generator).clamp_min(-1)
    perturbed = base + effect + own * torch.randn(n_contexts, n_genes, generator=generator) + 1
    mean = torch.stack([base + 1, perturbed], 1).reshape(-1, n_genes)
    return mean, torch.arange(n_contexts).repeat_interleave(2), torch.tensor([0.0, 1.0]).repeat(n_contexts)[:, None]


def test_a_missing_combination_of_additive_effects_is_found():
    mean, context, members = grid_of_contexts()
    kept = torch.arange(len(mean)) != 3
    forecast = Forecast(profiles(mean[kept], context[kept], members[kept])).predict(1, torch.ones(1).double())
    change, truth = forecast - mean[2], mean[3] - mean[2]
    assert torch.corrcoef(torch.stack([change, truth]))[0, 1] > 0.97


def test_a_measured_condition_with_many_cells_is_returned_as_it_is():
    mean, context, members = grid_of_contexts(own=0.5)
    forecast = Forecast(profiles(mean, context, members), SCALES).predict(1, torch.ones(1).double())
    torch.testing.assert_close(forecast, mean[3].double().clamp_min(0), atol=1e-3, rtol=0)


def test_scales_that_do_as_well_are_averaged():
    known = profiles(*grid_of_contexts(8, own=0.5), spread=1.0)
    forecast, asked = Forecast(known), (2, torch.ones(1).double())
    assert 1 < len(forecast.scales) <= 8
    alone = torch.stack([Forecast(known, scales).predict(*asked) for scales in forecast.scales])
    torch.testing.assert_close(forecast.predict(*asked), alone.mean(0))
    errors = [float(Forecast(known, scales).krigings[0].left_out()[1::2].square().sum()) for scales in forecast.scales]
    assert errors == sorted(errors)
    assert errors[-1] < 1.1 * errors[0]
    one_context = profiles(torch.rand(4, 5), [0] * 4, [[0, 0], [1, 0], [0, 1], [1, 1]])
    assert Forecast(one_context).scales == [Scales(1.0, 1.0, 0.0)]


def test_perturbations_given_together_add_up():
    a, b, control = torch.tensor([1.0, 0, 0, 2]), torch.tensor([0, 0, 1.5, 1.0]), torch.full((4,), 1.0)
    mean = torch.stack([control, control + a, control + b])
    known = profiles(mean, [0, 0, 0], [[0, 0], [1, 0], [0, 1]])
    both = Forecast(known, SCALES._replace(main=1e4)).predict(0, torch.ones(2).double())
    torch.testing.assert_close(both, (control + a + b).double(), atol=1e-2, rtol=0)


def test_similar_perturbations_lend_their_effect_to_one_without_cells():
    control, effect = torch.ones(3), torch.tensor([2.0, 0.0, -0.5])
    mean = torch.stack([control, control + effect, control])
    similarity = torch.tensor([[1.0, 0.0, 0.9], [0.0, 1.0, 0.0], [0.9, 0.0, 1.0]]).double()
    known = profiles(mean, [0, 0, 0], [[0, 0, 0], [1, 0, 0], [0, 1, 0]], similarity=similarity)
    unseen = Forecast(known, SCALES).predict(0, torch.tensor([0, 0, 1.0]).double())
    assert unseen[0] > 2.0
    assert unseen[2] < 1.0


def kriged(covariance, n_cells, mean, noise, ratio, towards):
    """Universal kriging with one ratio by the textbook: a system of equations with a Lagrange multiplier."""
    system = torch.ones(len(mean) + 1, len(mean) + 1).double()
    system[:-1, :-1], system[-1, -1] = ratio * noise * covariance + torch.diag(noise / n_cells), 0
    return torch.linalg.solve(system, torch.cat([ratio * noise * towards, torch.ones(1).double()]))[:-1] @ mean


def field(n_genes, ratio, seed=0, n=12):
    """Means of genes that vary between conditions by ``ratio`` times as much as between cells, and what is behind them."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.rand(n, 2, generator=generator).double()
    covariance = torch.exp(-2 * torch.cdist(at, at))
    n_cells = torch.randint(5, 60, (n,), generator=generator).double()
    spread = torch.rand(n_genes, generator=generator).double() + 0.5
    drawn = torch.linalg.cholesky(covariance) @ torch.randn(n, n_genes, generator=generator).double()
    truth = 2 + (ratio * spread).sqrt() * drawn
    noise = (spread / n_cells[:, None]).sqrt() * torch.randn(n, n_genes, generator=generator).double()
    return covariance, n_cells, truth + noise, spread, truth


def test_kriging_and_its_left_out_residuals_are_those_of_the_textbook():
    covariance, n_cells, mean, spread, _ = field(5, torch.tensor([0.0, 0.01, 0.1, 1.0, 10.0]))
    kriging, towards = Kriging(covariance, n_cells, mean, spread), 0.3 * covariance[2] + 0.2
    others = torch.arange(len(mean)) != 3
    for gene, ratio in enumerate(kriging.ratio):
        told = covariance, n_cells, mean[:, gene]
        expected = kriged(*told, spread[gene], ratio, towards)
        torch.testing.assert_close(kriging.predict(towards)[gene], expected, atol=1e-8, rtol=1e-8)
        without = covariance[others][:, others], n_cells[others], mean[others, gene]
        expected = mean[3, gene] - kriged(*without, spread[gene], ratio, covariance[3, others])
        torch.testing.assert_close(kriging.left_out()[3, gene], expected, atol=1e-8, rtol=1e-8)


def test_each_gene_is_trusted_as_far_as_it_varies_between_conditions():
    covariance, n_cells, mean, spread, truth = field(900, torch.tensor([0.0, 0.03, 3.0]).repeat_interleave(300))
    kriging = Kriging(covariance, n_cells, mean, spread)
    still, slow, fast = kriging.ratio.log().reshape(3, -1).mean(1).exp().tolist()
    assert still < slow < 0.1 < 1 < fast < 10

    def error(predicted):
        return ((torch.stack(predicted) - truth).square() / spread).mean()

    own = error([kriging.predict(row) for row in covariance])
    for common in torch.logspace(-4, 2, 13).double():
        assert own < 0.85 * error([kriged(covariance, n_cells, mean, 1.0, common, row) for row in covariance])


def test_genes_that_never_vary_are_forecast_as_they_are():
    covariance, n_cells, mean, spread, _ = field(4, torch.tensor([0.0, 0.1, 1.0, 1.0]))
    mean[:, 0], spread[0] = 0, 0
    kriging = Kriging(covariance, n_cells, mean, spread)
    assert kriging.predict(covariance[0])[0] == 0
    assert kriging.predict(covariance[0]).isfinite().all()
    assert (kriging.left_out()[:, 0] == 0).all()


def test_noise_between_cells_shortens_no_distance_below_zero_and_lost_controls_are_far():
    mean, context, members = grid_of_contexts(3)
    known = profiles(mean[[0, 1, 2, 3, 5]], context[[0, 1, 2, 3, 5]], members[[0, 1, 2, 3, 5]])
    distance = known.context_distance()
    assert (distance >= 0).all()
    assert (distance.diagonal() == 0).all()
    assert distance[2, 0] == distance[2, 1] == distance[0, 1]


def test_how_good_a_forecast_is_falls_with_effects_that_contexts_do_not_share():
    shared = Forecast(profiles(*grid_of_contexts(8))).held_out_pearson
    private = Forecast(profiles(*grid_of_contexts(8, own=2.0))).held_out_pearson
    assert shared > 0.95 > private
    alone = profiles(*(part[1::2] for part in grid_of_contexts(4)))
    assert math.isnan(Forecast(alone, SCALES).held_out_pearson)


def test_moved_mixed_poisson_counts_have_the_moved_law():
    n, mu, theta, ratio = 20_000, 4.0, 2.0, 2.5
    generator = torch.Generator().manual_seed(0)
    rate = torch.as_tensor(st.gamma(theta, scale=mu / theta).rvs((n, 1), random_state=0)).float()
    x_0 = torch.poisson(rate, generator=generator)
    shape = theta + x_0
    fresh = GammaPoissonPosterior(shape / (theta / mu + 1), shape, torch.zeros(n, 1))
    for factor in (ratio, 1 / ratio):
        library = (min(factor, 1) * x_0 + max(factor - 1, 0) * fresh.rate).sum(-1)
        moved = Transport(torch.zeros(1)).draw(x_0, fresh, library, generator)
        assert chi_square_p(moved, st.nbinom(theta, theta / (theta + mu * factor))) > 1e-3


def test_raised_genes_have_the_dispersion_of_their_new_mean():
    """A gene that varies widely where it is low, and narrowly where it is high."""
    n, mu, ratio = 20_000, 0.5, 20.0

    def theta(mean):
        return 0.5 * mean

    def raised(ratio):
        power = ratio**-0.5
        return ratio * (mean / mu) ** (power - 1), power**-2

    generator = torch.Generator().manual_seed(0)
    rate = torch.as_tensor(st.gamma(theta(mu), scale=1 / 0.5).rvs((n, 1), random_state=0)).float()
    x_0 = torch.poisson(rate, generator=generator)
    shape = theta(mu) + x_0
    mean = shape / (theta(mu) / mu + 1)
    fresh = GammaPoissonPosterior(mean, shape, torch.zeros(n, 1), raised)
    # All cells by the same ratio: their library sizes are what it makes of them.
    at_ratio = torch.full((n, 1), ratio)
    library = (x_0 + (1 - 1 / at_ratio) * fresh.raised(at_ratio).rate).sum(-1)
    moved = Transport(torch.full((1,), math.log(ratio))).draw(x_0, fresh, library, generator)
    wanted = st.nbinom(theta(mu * ratio), theta(mu * ratio) / (theta(mu * ratio) + mu * ratio))
    kept = st.nbinom(theta(mu), theta(mu) / (theta(mu) + mu * ratio))
    assert moved.mean().item() == pytest.approx(mu * ratio, rel=0.25)
    relative = (moved.std() / moved.mean()).item()
    assert relative == pytest.approx(wanted.std() / wanted.mean(), rel=0.25)
    assert relative < 0.4 * kept.std() / kept.mean()


def test_a_transport_reaches_its_profile_and_keeps_what_it_need_not_move():
    generator = torch.Generator().manual_seed(0)
    rate = torch.rand(2000, 20, generator=generator) * 20 + 1
    x_0 = torch.poisson(rate, generator=generator)
    library = x_0.sum(-1)
    fresh = PoissonPosterior(rate, torch.zeros(2000, 1))
    wanted = log1p_cp10k(x_0).mean(0)
    wanted[0], wanted[1] = wanted[0] + 0.7, wanted[1] - 0.7
    transport = fit_transport(x_0, fresh, library, wanted, generator=generator)
    moved = transport.draw(x_0, fresh, library, generator)
    # Shares add up to one: what the two genes gain and lose, the others share.
    torch.testing.assert_close(log1p_cp10k(moved).mean(0), wanted, atol=0.08, rtol=0)
    assert moved.sum(-1).mean().item() == pytest.approx(library.mean().item(), rel=0.01)
    assert (moved[:, 2:] == x_0[:, 2:]).float().mean() > 0.5


PAIR = CombinationKey("perturbation", 4)


@pytest.mark.parametrize("members", [set(), {2}, {0, 3}, {0, 1, 2, 3}])
def test_codes_of_sets_are_their_members(members):
    row = PAIR.members(torch.tensor([PAIR.encode(members)]))[0]
    assert set(row.nonzero().flatten().tolist()) == members


def test_a_set_is_embedded_as_the_sum_of_its_members():
    encoder = ConditionEncoder([PAIR], 8)
    codes = torch.tensor([PAIR.encode({1}), PAIR.encode({3}), PAIR.encode({1, 3}), -1])
    tokens = encoder({"perturbation": codes}, torch.ones(4))[:, 0]
    torch.testing.assert_close(tokens[2], tokens[0] + tokens[1])
    assert torch.equal(tokens[3], encoder.null_tokens[0])


def test_given_vectors_embed_levels_alike_that_are_alike():
    vectors = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [1.0, 0, 0]])
    key = CombinationKey("perturbation", 3, vectors)
    tokens = ConditionEncoder([key], 8)({"perturbation": torch.tensor([1, 2, 3])}, torch.ones(3))[:, 0]
    torch.testing.assert_close(tokens[0], tokens[2])
    assert not torch.allclose(tokens[0], tokens[1])


def test_too_many_members_are_refused():
    key = CombinationKey("perturbation", 100_000)
    assert key.max_size == 3
    with pytest.raises(ValueError, match="4 values of 'perturbation' together; at most 3"):
        key.encode({1, 2, 3, 4})


class ProductDenoiser:
    """Rates that multiply over type and perturbation; the null of a key has factor 1."""

    keys = (CombinationKey("type", 2), PAIR)
    condition_dropout = 0.2

    def __call__(self, x_t, alpha, given):
        rate = torch.full_like(x_t, 2.0)
        for name, factor in (("type", 3.0), ("perturbation", 5.0)):
            rate = rate * factor ** given[name].to(rate)[:, None] if name in given else rate
        return PoissonPosterior(rate, alpha)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_a_contrast_adds_the_effect_to_the_control_of_the_context(scale):
    given = {"type": torch.tensor([1]), "perturbation": torch.tensor([4])}
    denoiser = ContrastGuidance("perturbation", 1, scale).wrap(ProductDenoiser())
    rate = denoiser(torch.zeros(1, 1), torch.zeros(1, 1), given).rate
    assert rate.item() == pytest.approx(2 * 3 * 5 * 5 ** (3 * scale), rel=1e-5)


def test_a_contrast_needs_its_key_and_a_null():
    with pytest.raises(ValueError, match="'drug', which is no condition key"):
        ContrastGuidance("drug", 0).wrap(ProductDenoiser())
    with pytest.raises(ValueError, match="between 0"):
        ContrastGuidance("perturbation", 0, -1.0)
    deaf = ProductDenoiser()
    deaf.condition_dropout = 0.0
    with pytest.raises(ValueError, match="condition_dropout > 0"):
        ContrastGuidance("perturbation", 0).wrap(deaf)


@pytest.mark.parametrize("depth", [120, 1500])
def test_a_transport_reaches_profiles_of_shallow_and_deep_cells(depth):
    generator = torch.Generator().manual_seed(0)
    n_cells, n_genes = 1000, 100
    share = torch.rand(n_genes, generator=generator) ** 4
    wanted = share * torch.exp(0.7 * torch.randn(n_genes, generator=generator))
    rate, target = (depth * one / one.sum() for one in (share, wanted))
    x_0 = torch.poisson(rate.expand(n_cells, -1), generator=generator)
    profile = log1p_cp10k(torch.poisson(target.expand(n_cells, -1), generator=generator)).mean(0)
    fresh = PoissonPosterior(rate.expand(n_cells, -1), torch.zeros(n_cells, 1))
    transport = fit_transport(x_0, fresh, x_0.sum(-1), profile, generator=generator)
    moved = log1p_cp10k(transport.draw(x_0, fresh, x_0.sum(-1), generator)).mean(0)
    assert (moved - profile).square().mean().sqrt() < 0.08
    assert (log1p_cp10k(x_0).mean(0) - profile).square().mean().sqrt() > 0.4
