"""Survival patterns, weightings, and the bound: exact where an oracle denoises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from oracles import NegativeBinomialOracle, PoissonOracle

from sccountsdiff.nets import GeneMLP
from sccountsdiff.objective import (
    PATTERNS,
    WEIGHTINGS,
    BoundWeighting,
    Corrupted,
    EntrywiseSurvival,
    MixtureSurvival,
    Objective,
    PaperWeighting,
    ScheduledSurvival,
    Taught,
    UniformSurvival,
    bound,
)
from sccountsdiff.process import SCHEDULES, Shown, Thinning


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "oracle", [PoissonOracle(3.0), NegativeBinomialOracle(3.0, 0.7), NegativeBinomialOracle(0.2, 5.0)]
)
def test_the_bound_is_the_exact_log_likelihood_for_an_oracle(oracle):
    """With the true posterior mean the bound is an equality, count by count."""
    counts = torch.tensor([0.0, 1.0, 4.0, 9.0])
    estimates = bound(
        oracle, Thinning(), counts.repeat_interleave(3000).view(-1, 1), {}, n_samples=16, generator=generator()
    )
    per_count = estimates.mean(0).view(4, 3000)
    error = per_count.std(1) / 3000**0.5
    exact = -torch.tensor(oracle.law.logpmf(counts.numpy()), dtype=torch.float32)
    # Survival stops at .999 (MIN_DEAD), which costs a little where almost everything was seen.
    assert ((per_count.mean(1) - exact).abs() < 4 * error + 5e-3).all()


def test_a_wrong_denoiser_pays_exactly_its_divergence():
    counts = torch.poisson(torch.full((20_000, 1), 3.0), generator=generator(1))
    right, wrong = (bound(PoissonOracle(r), Thinning(), counts, {}, generator=generator()).mean() for r in (3.0, 4.0))
    divergence = 4.0 - 3.0 - 3.0 * torch.log(torch.tensor(4.0 / 3.0))
    assert (wrong - right).item() == pytest.approx(divergence.item(), abs=0.03)


def test_unmeasured_entries_do_not_count():
    counts = torch.tensor([[2.0, 5.0]]).expand(200, 2)
    observed = torch.tensor([[True, False]]).expand(200, 2)
    both = bound(PoissonOracle(3.0), Thinning(), counts, {}, observed, generator=generator())
    changed = bound(
        PoissonOracle(3.0), Thinning(), counts * torch.tensor([1.0, 9.0]), {}, observed, generator=generator()
    )
    torch.testing.assert_close(both, changed)
    assert both.mean().item() == pytest.approx(-PoissonOracle(3.0).law.logpmf(2), abs=0.05)


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_draw_survivals(name):
    alpha, importance = PATTERNS[name]().draw(64, 50, generator())
    assert alpha.shape[0] == 64
    assert alpha.shape[1] in (1, 50)
    assert importance.shape == (64, 1)
    assert ((alpha >= 0) & (alpha <= 1)).all()
    again = PATTERNS[name]().draw(64, 50, generator())
    assert torch.equal(alpha, again.alpha)


def test_uniform_survival_is_stratified_with_an_emphasis_on_small_survivals():
    plain = UniformSurvival(log_fraction=0.0).draw(1000, 5, generator()).alpha.squeeze().sort().values
    assert ((plain - torch.arange(1000) / 1000).abs() < 2e-3).all()
    alpha = UniformSurvival(log_fraction=0.4, floor=0.003).draw(10_000, 5, generator()).alpha
    # 40 % log-uniform on (.003, 1): a share log(.03 / .003) / log(1 / .003) of them lies below .03, as do 3 % of the rest.
    expected = 0.4 * 2.3026 / 5.8091 + 0.6 * 0.03
    assert (alpha < 0.03).float().mean().item() == pytest.approx(expected, abs=0.005)


def test_entrywise_survival_shows_entries_in_full_or_hides_them():
    alpha = EntrywiseSurvival().draw(400, 100, generator()).alpha
    seen = (alpha == 1).float().mean(1)
    assert 0.4 < seen.mean() < 0.6
    assert seen.min() < 0.1
    assert seen.max() > 0.9
    hidden_levels = torch.where(alpha < 1, alpha, torch.nan).nanmean(1)
    assert (hidden_levels.nan_to_num(0) == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_a_mixture_holds_its_share_of_entrywise_cells():
    pattern = MixtureSurvival(0.35)
    constant = [(pattern.draw(10, 40, generator(s)).alpha.std(1) == 0).sum().item() for s in range(300)]
    assert sum(constant) / 3000 == pytest.approx(0.65, abs=0.03)


@pytest.mark.parametrize("name", SCHEDULES)
def test_any_schedule_with_its_importance_gives_the_same_loss(name):
    """Uniform time under any schedule, weighted by -p'(t), is uniform survival: why a schedule does not matter here."""
    counts = torch.full((40_000, 1), 3.0)
    losses = {
        pattern: Objective(Thinning(), pattern, PaperWeighting()).loss(
            PoissonOracle(2.0), counts, {}, generator=generator()
        )
        for pattern in (ScheduledSurvival(SCHEDULES[name]()), UniformSurvival(log_fraction=0.0))
    }
    scheduled, uniform = losses.values()
    assert abs(scheduled.mean() - uniform.mean()) < 4 * scheduled.std() / 200 + 0.02


def test_a_teacher_that_knows_the_truth_tells_the_same_with_less_noise():
    """The mean of what is expected of whole cells, given what is left of them, is what is expected given that."""
    truth, student = NegativeBinomialOracle(3.0, 0.7), NegativeBinomialOracle(2.0, 2.0)
    counts = torch.tensor(truth.law.rvs((40_000, 1), random_state=1), dtype=torch.float32)
    plain = Objective(Thinning(), UniformSurvival(log_fraction=0.0), BoundWeighting())
    own, told = (
        objective.loss(student, counts, {}, generator=generator())
        for objective in (plain, replace(plain, weigh=Taught(truth, share=1.0)))
    )
    gap = own - told  # the same thinnings
    assert gap.mean().abs() < 4 * gap.std() / 200
    assert told.std() < 0.8 * own.std()


def test_a_teacher_is_not_shown_what_was_not_measured():
    torch.manual_seed(0)
    counts, taught = torch.poisson(torch.full((64, 6), 4.0)), Taught(GeneMLP(6).eval(), share=0.5)
    seen = torch.ones(64, 6)
    seen[:, 2] = 0
    x_t = Thinning().corrupt(counts, 0.5 * seen)
    losses = [
        taught(Thinning(), PoissonOracle(3.0), {}, Corrupted(x_0, x_t, Shown(x_t, 0.5 * seen), seen, seen))
        for x_0 in (counts, counts.where(seen > 0, 7.0))
    ]
    torch.testing.assert_close(*losses)


def test_weightings():
    alpha = torch.tensor([0.0, 0.5, 0.9])
    torch.testing.assert_close(BoundWeighting().weight(alpha), torch.tensor([1.0, 2.0, 10.0]))
    torch.testing.assert_close(PaperWeighting().weight(alpha), torch.ones(3))
    for name in WEIGHTINGS:
        assert torch.isfinite(WEIGHTINGS[name]().weight(torch.tensor([0.0, 1.0]))).all()


def test_hidden_entries_are_never_read_in_training():
    torch.manual_seed(0)
    net = GeneMLP(6).eval()
    counts = torch.poisson(torch.full((32, 6), 4.0))
    observed = torch.ones(32, 6, dtype=torch.bool)
    observed[:, 2] = False
    objective = Objective(Thinning(), MixtureSurvival(), BoundWeighting())
    first = objective.loss(net, counts.where(observed, 0.0), {}, observed, generator())
    assert first.shape == (32,)
    assert torch.isfinite(first).all()
    gradient = torch.autograd.grad(first.sum(), net.to_logits.bias)[0]
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformSurvival(log_fraction=1.2), "log_fraction"),
        (lambda: UniformSurvival(floor=0.0), "floor"),
        (lambda: MixtureSurvival(1.0), "entrywise_fraction"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
