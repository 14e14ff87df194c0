"""Thinning, its bridge, schedules, and the closed forms of the posteriors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats as st
import torch

from sccountsdiff.process import (
    SCHEDULES,
    GammaMixturePosterior,
    GammaPoissonPosterior,
    GeometricSchedule,
    PoissonPosterior,
    Registry,
    States,
    Thinning,
    TokenPosterior,
    UnknownNameError,
    UserSchedule,
    bridge,
    check_schedule,
    max_death,
)
from sccountsdiff.process._special import incomplete_beta


def geometric_tokens(rate, alpha, n_explicit=6):
    """A geometric law as tokens: six explicit counts, and a tail that carries on exactly."""
    log_ratio = (rate / (1 + rate)).log().unsqueeze(-1)
    explicit = torch.arange(n_explicit) * log_ratio - torch.log1p(rate).unsqueeze(-1)
    return TokenPosterior(torch.cat([explicit, n_explicit * log_ratio], -1), rate, torch.tensor(1.0), alpha)


#: Mean in each state over the mean of all, and how often the state is.
RATES, OFTEN = torch.tensor([0.5, 5.5]), torch.tensor([0.9, 0.1])


def with_outliers(rate, alpha):
    """Nine of ten at half the rate, the others at eleven times that; states are given at another scale."""
    states, weights = ((values.view(2, 1, 1) * torch.ones_like(rate)) for values in (3 * RATES, OFTEN))
    return GammaMixturePosterior(
        rate, lambda ratio: States(states if ratio is None else states * ratio, weights, torch.tensor(1.7)), alpha
    )


class OutlierLaw:
    """The law of :func:`with_outliers`, from scipy."""

    def __init__(self, mean):
        self.laws = [st.nbinom(1.7, 1.7 / (1.7 + mean * state)) for state in RATES.tolist()]

    def _mixed(self, values):
        return sum(share * value for share, value in zip(OFTEN.tolist(), values, strict=True))

    def mean(self):
        return self._mixed([law.mean() for law in self.laws])

    def var(self):
        return self._mixed([law.var() + law.mean() ** 2 for law in self.laws]) - self.mean() ** 2

    def pmf(self, count):
        return self._mixed([law.pmf(count) for law in self.laws])

    def logpmf(self, count):
        return scipy.special.logsumexp([law.logpmf(count) for law in self.laws], b=OFTEN.tolist())

    def cdf(self, count):
        return self._mixed([law.cdf(count) for law in self.laws])

    def ppf(self, level):
        return np.searchsorted(self.cdf(np.arange(10_000)), level)


#: Maker from rate and survival, law of the missing molecules from their mean, survivals at which it has a closed form.
POSTERIORS = [
    pytest.param(
        lambda rate, alpha: GammaPoissonPosterior(rate, torch.tensor(1.7), alpha),
        lambda mean: st.nbinom(1.7, 1.7 / (1.7 + mean)),
        0.25,
        id="gamma",
    ),
    pytest.param(with_outliers, OutlierLaw, 0.25, id="mixture"),
    pytest.param(PoissonPosterior, lambda mean: st.poisson(mean), 0.25, id="poisson"),
    pytest.param(geometric_tokens, lambda mean: st.nbinom(1.0, 1 / (1 + mean)), 0.0, id="tokens"),
]


@pytest.mark.parametrize(("maker", "law", "alpha"), POSTERIORS)
def test_where_a_multiple_is_expected_the_relative_spread_stays(maker, law, alpha):
    """Unless a law knows better."""
    posterior = maker(torch.tensor([[0.5, 3.0, 8.0]]), torch.tensor([[alpha]]))
    raised = posterior.raised(torch.tensor([[2.0, 1.0, 0.5]]))
    torch.testing.assert_close(raised.rate, torch.tensor([[1.0, 3.0, 4.0]]), rtol=1e-3, atol=0)
    relative = (law.rate_variance.sqrt() / law.rate for law in (posterior, raised))
    if alpha:
        torch.testing.assert_close(*relative, rtol=1e-3, atol=0)


@pytest.mark.parametrize(("maker", "law", "alpha"), POSTERIORS)
def test_what_was_raised_or_chosen_can_be_raised(maker, law, alpha):
    posterior, other = (maker(torch.full((1, 2), rate), torch.tensor([[alpha]])) for rate in (4.0, 1.0))
    ratio = torch.tensor([[2.0, 0.5]])
    twice = posterior.raised(ratio).raised(ratio)
    torch.testing.assert_close(twice.rate, posterior.rate * ratio**2, rtol=1e-3, atol=0)
    chosen = posterior.where(torch.tensor([[True, False]]), other).raised(ratio)
    torch.testing.assert_close(chosen.rate, torch.tensor([[8.0, 0.5]]), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_fall_from_one_to_zero_and_know_their_derivative(name):
    schedule = SCHEDULES[name]()
    check_schedule(schedule)
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    numeric = (schedule.survival(t + 1e-6) - schedule.survival(t - 1e-6)) / 2e-6
    torch.testing.assert_close(schedule.derivative(t), numeric, rtol=1e-4, atol=1e-6)


def test_a_users_schedule_gets_its_derivative_from_autograd():
    schedule = UserSchedule(lambda t: (1 - t) ** 2)
    t = torch.linspace(0, 1, 11)
    torch.testing.assert_close(schedule.derivative(t), -2 * (1 - t))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda t: t, "at t = 0"),
        (lambda t: 1 - t / 2, "at t = 1"),
        (lambda t: 1 - t + 0.2 * torch.sin(2 * math.pi * t), "rises"),
        (lambda t: (1 - t) * float("nan"), "finite"),
        (lambda t: torch.where(t > 0.5, -0.005 + 0 * t, 1 - t), "outside"),
    ],
)
def test_what_is_no_schedule_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        UserSchedule(function)


def test_a_registry_lists_its_names():
    with pytest.raises(UnknownNameError, match="survival schedule 'cosin'.*blackout, cosine"):
        SCHEDULES["cosin"]
    registry: Registry = Registry("thing")
    registry.register("a")(int)
    with pytest.raises(ValueError, match="taken"):
        registry.register("a")(float)


def test_thinning_is_binomial_per_entry_and_composes():
    generator = torch.Generator().manual_seed(0)
    x_0 = torch.full((4000, 2), 12.0)
    alpha_s, alpha_t = torch.tensor([[0.8, 0.3]]), torch.tensor([[0.4, 0.06]])
    x_s = Thinning().corrupt(x_0, alpha_s, generator)
    x_t = Thinning().renoise(x_s, alpha_s, alpha_t, generator)
    for state, alpha in ((x_s, alpha_s), (x_t, alpha_t)):
        for gene in range(2):
            expected = 4000 * st.binom(12, alpha[0, gene].item()).pmf(np.arange(13))
            keep = expected > 5
            observed = np.bincount(state[:, gene].long().numpy(), minlength=13)
            assert st.chisquare(observed[keep], expected[keep], sum_check=False).pvalue > 1e-3


def test_a_walk_through_thinning_starts_with_about_one_molecule():
    assert Thinning().schedule(2000.0).survival(torch.tensor(1.0)).item() == pytest.approx(1 / 2000)
    assert Thinning().schedule(3.0).survival(torch.tensor(1.0)).item() == pytest.approx(0.01)


def test_thinning_at_the_ends():
    x_0 = torch.poisson(torch.full((5, 7), 3.0))
    assert torch.equal(Thinning().corrupt(x_0, torch.ones(5, 1)), x_0)
    assert torch.equal(Thinning().corrupt(x_0, torch.zeros(5, 1)), torch.zeros(5, 7))


def test_thinning_a_million_molecules_stays_exact():
    draws = Thinning().corrupt(torch.full((2000, 1), 1e6), torch.tensor(0.3), torch.Generator().manual_seed(0))
    assert torch.equal(draws, draws.round())
    assert abs(draws.mean().item() - 3e5) < 4 * math.sqrt(2.1e5 / 2000)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_bridge_keeps_the_marginal(fraction):
    alpha_t, alpha_s = torch.tensor([0.0, 0.1, 0.5, 0.98, 1.0]), torch.tensor([0.05, 0.4, 0.5, 1.0, 1.0])
    death = fraction * max_death(alpha_t, alpha_s)
    birth = bridge(alpha_t, alpha_s, death)
    torch.testing.assert_close(alpha_t * (1 - death) + (1 - alpha_t) * birth, alpha_s)
    assert ((birth >= 0) & (birth <= 1) & (death >= 0) & (death <= 1)).all()


@pytest.mark.parametrize(("make", "law", "alpha"), POSTERIORS)
def test_posteriors_match_scipy(make, law, alpha):
    rate = torch.tensor([[0.02, 0.8, 5.0, 300.0]])
    posterior = make(rate, torch.tensor([[alpha]]))
    reference = [law((1 - alpha) * r) for r in rate[0].tolist()]
    assert posterior.mean[0].tolist() == pytest.approx([r.mean() for r in reference], rel=1e-5)
    assert posterior.variance[0].tolist() == pytest.approx([r.var() for r in reference], rel=1e-4)
    for count in (0, 1, 4, 250):
        missing = torch.full_like(rate, count)
        assert posterior.log_prob(missing)[0].tolist() == pytest.approx([r.logpmf(count) for r in reference], rel=1e-3)
        assert posterior.cdf(missing)[0].tolist() == pytest.approx([r.cdf(count) for r in reference], abs=1e-5)
    for level in (0.025, 0.5, 0.975):
        assert posterior.quantile(level)[0].tolist() == [r.ppf(level) for r in reference]
    assert (posterior.cdf(torch.full_like(rate, -1)) == 0).all()


@pytest.mark.parametrize(("make", "law", "alpha"), POSTERIORS)
@pytest.mark.parametrize("fraction", [0.3, 1.0])
def test_posterior_draws_are_thinned_missing_molecules(make, law, alpha, fraction):
    posterior = make(torch.full((20_000, 1), 4.0), torch.tensor(0.2))
    draws = posterior.draw(torch.Generator().manual_seed(1), fraction=fraction)
    reference = law(0.8 * 4.0 * fraction)
    expected = 20_000 * reference.pmf(np.arange(40))
    observed = np.bincount(draws.long().view(-1).numpy(), minlength=40)[:40]
    keep = expected > 10
    assert st.chisquare(observed[keep], expected[keep], sum_check=False).pvalue > 1e-3


@pytest.mark.parametrize(("make", "law", "alpha"), POSTERIORS)
def test_the_loss_is_least_at_the_true_mean(make, law, alpha):
    missing = torch.tensor([[0.0, 1.0, 6.0]])
    alpha = torch.tensor(0.5)
    best = make(missing / 0.5 + 1e-9, alpha).nll(missing).sum()
    for factor in (0.7, 1.4):
        assert make(factor * missing / 0.5 + 1e-3, alpha).nll(missing).sum() > best


@pytest.mark.parametrize(("make", "law", "alpha"), POSTERIORS)
def test_another_rate_and_guidance_towards_the_same_change_nothing_else(make, law, alpha):
    rate = torch.tensor([[0.3, 4.0, 40.0]])
    posterior = make(rate, torch.tensor(0.0))
    for factor in (0.5, 1.0, 1.8):
        torch.testing.assert_close(posterior.with_rate(factor * rate).rate, factor * rate, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(posterior.tilt(posterior, posterior, 3.0).rate, rate, rtol=1e-4, atol=1e-4)
    assert (posterior.tilt(make(2 * rate, torch.tensor(0.0)), posterior, 0.5).rate > rate).all()


@pytest.mark.parametrize(("make", "law", "alpha"), POSTERIORS)
def test_one_posterior_here_and_another_there(make, law, alpha):
    low, high = (make(torch.full((1, 2), rate), torch.tensor(0.0)) for rate in (1.0, 9.0))
    mixed = low.where(torch.tensor([[True, False]]), high)
    torch.testing.assert_close(mixed.rate, torch.tensor([[1.0, 9.0]]))
    torch.testing.assert_close(mixed.variance, torch.stack([low.variance[0, 0], high.variance[0, 1]]).unsqueeze(0))


def test_a_quantile_level_outside_zero_to_one_is_refused():
    with pytest.raises(ValueError, match="strictly between 0 and 1, got 1.2"):
        PoissonPosterior(torch.ones(1, 1), torch.tensor(0.0)).quantile(1.2)


def test_tilting_multiplies_rates_and_keeps_the_shape():
    null, given = (GammaPoissonPosterior(torch.tensor([[r]]), torch.tensor(3.0), torch.tensor(0.5)) for r in (2.0, 6.0))
    tilted = null.tilt(given, null, 2.0)
    assert tilted.rate.item() == pytest.approx(18.0)
    assert tilted.shape.item() == 3.0


def test_incomplete_beta_matches_scipy():
    generator = np.random.default_rng(0)
    a, b, x = 10 ** generator.uniform(-2, 4, 500), 10 ** generator.uniform(-2, 6, 500), generator.random(500)
    ours = incomplete_beta(torch.tensor(a), torch.tensor(b), torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours, scipy.special.betainc(a, b, x), atol=1e-9)


def test_a_geometric_schedule_must_end_near_zero():
    with pytest.raises(ValueError, match="alpha_min"):
        GeometricSchedule(0.5)


def test_a_glimpse_shows_what_survives_on_average():
    counts, survival = torch.tensor([[20.0, 0.0, 40.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    seen = Thinning().glimpse(counts, survival)
    torch.testing.assert_close(seen[0], torch.tensor([[1.0, 0.0, 2.0]]))
    torch.testing.assert_close(seen[1], torch.tensor([[0.05, 0.05, 0.0]]))
