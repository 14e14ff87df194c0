"""Masking: exact identities of the process, its sampler and its bound, and the faults it must never have."""

from __future__ import annotations

import math
from itertools import product

import pytest
import scipy.stats as st
import torch
from oracles import TableOracle

from sccountsdiff.nets import GeneMLP
from sccountsdiff.objective import BoundWeighting, Objective, PaperWeighting, UniformSurvival, bound
from sccountsdiff.process import (
    BIRTHS,
    MASK,
    REVEALS,
    Absorbing,
    ConfidentReveal,
    CosineSchedule,
    IndependentReveal,
    LinearSchedule,
    PosteriorBirths,
    RandomReveal,
    Shown,
    Thinning,
    TokenPosterior,
    bridge,
)
from sccountsdiff.sampling import Known, NoAttrition, RescaledAttrition, Sampler, survival_grid


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def table(n_genes: int = 3, n_values: int = 3, seed: int = 0) -> TableOracle:
    """A law of small cells in which every gene tells of every other."""
    cells = torch.tensor(list(product(range(n_values), repeat=n_genes)), dtype=torch.float32)
    return TableOracle(cells, torch.rand(len(cells), generator=generator(seed)).pow(3).clamp_min(1e-3))


def twins(n_values: int = 4) -> TableOracle:
    """Two genes that are always equal."""
    return TableOracle(torch.arange(float(n_values)).repeat(2, 1).T, torch.ones(n_values))


def walk(oracle, n_steps, *, reveal=None, attrition=None, n=20_000, seed=0, **options):
    """Draw cells by the sampler under the linear schedule."""
    sampler = Sampler(Absorbing(reveal), oracle, PosteriorBirths(), attrition or NoAttrition())
    start = torch.zeros(n, oracle.cells.shape[1])
    return sampler.sample(start, {}, survival_grid(LinearSchedule(), n_steps), generator=generator(seed), **options)


def p_value(oracle: TableOracle, draws: torch.Tensor) -> float:
    """Chi-square P value of whole cells under the table."""
    expected = oracle.probability / oracle.probability.sum() * len(draws)
    observed = torch.bincount(oracle.index(draws), minlength=len(expected))
    keep = expected > 5
    return st.chisquare(observed[keep].numpy(), expected[keep].numpy(), sum_check=False).pvalue


def test_entries_survive_whole_or_not_at_all():
    x_0 = torch.poisson(torch.full((4000, 5), 6.0), generator=generator())
    alpha = torch.tensor([[0.0, 0.2, 0.5, 0.9, 1.0]])
    x_t = Absorbing().corrupt(x_0, alpha, generator())
    seen = ~x_t.isnan()
    assert torch.equal(x_t[seen], x_0[seen])
    torch.testing.assert_close(seen.float().mean(0), alpha[0], atol=0.03, rtol=0)
    further = ~Absorbing().renoise(x_t, alpha, alpha / 2, generator(1)).isnan()
    assert not (further & ~seen).any()
    torch.testing.assert_close(further.float().mean(0), alpha[0] / 2, atol=0.03, rtol=0)


def test_a_denoiser_is_shown_counts_and_which_entries_were_seen():
    counts, survival = Absorbing().shown(torch.tensor([[3.0, MASK, 0.0, 7.0]]), torch.tensor([[0.5, 0.5, 0.5, 0.0]]))
    assert torch.equal(counts, torch.tensor([[3.0, 0.0, 0.0, 0.0]]))
    assert torch.equal(survival, torch.tensor([[1.0, 0.0, 1.0, 0.0]]))


def test_the_reveal_probability_is_the_time_gone_over_the_time_left():
    t = torch.linspace(1.0, 0.1, 10)
    s = t - 0.1
    torch.testing.assert_close(bridge(1 - t, 1 - s, torch.zeros(())), (t - s) / t)


@pytest.mark.parametrize("reveal", REVEALS)
@pytest.mark.parametrize("attrition", [NoAttrition(), RescaledAttrition(0.3)])
def test_after_step_k_of_n_the_share_1_minus_k_over_n_is_masked(reveal, attrition):
    """The released DCM sampler reveals 99.995 % of the genes in the first of 100 steps, by the forward rate."""
    oracle, hidden = table(n_genes=5, n_values=2), []
    walk(
        oracle,
        20,
        reveal=REVEALS[reveal](),
        attrition=attrition,
        n=1000,
        callback=lambda step: hidden.append((1 - Absorbing().shown(step.x_t, step.alpha).survival).mean()),
    )
    torch.testing.assert_close(torch.stack(hidden), 1 - torch.arange(20) / 20, atol=0.02, rtol=0)


def test_one_entry_at_a_time_is_exact():
    """Three genes in three steps of random order: no two are drawn blindly of each other."""
    oracle = table()
    assert p_value(oracle, walk(oracle, 3, reveal=RandomReveal(), n=6000)) > 1e-3


def test_independent_reveals_are_exact_up_to_entries_that_share_a_step():
    oracle = table()
    draws = walk(oracle, 60, reveal=IndependentReveal(), n=6000)
    share = torch.bincount(oracle.index(draws), minlength=27) / 6000
    # Three pairs share a step with chance 1 / 60 each; sampling noise adds half of sqrt(2 / pi * 27 / 6000).
    assert (share - oracle.probability / oracle.probability.sum()).abs().sum() / 2 < 3 / 60 + 0.03
    assert p_value(oracle, walk(oracle, 1, n=6000)) < 1e-6


@pytest.mark.parametrize("attrition", [NoAttrition(), RescaledAttrition(0.5), RescaledAttrition(1.0)])
@pytest.mark.parametrize("n_steps", [1, 4, 30])
def test_marginals_are_exact_at_any_number_of_steps(n_steps, attrition):
    """For one gene there is nothing to get wrong: not the number of steps, not the remasking."""
    oracle = TableOracle(torch.arange(5.0).unsqueeze(1), torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05]))
    assert p_value(oracle, walk(oracle, n_steps, attrition=attrition)) > 1e-3


def test_equal_genes_stay_equal_at_20_steps():
    """The released sampler reveals both in its first step and draws them independently: correlation 0."""
    draws = walk(twins(), 20)
    assert torch.corrcoef(draws.T)[0, 1] > 0.9
    # Both are drawn blindly only if they come in the same step: 1 time in 20, and 3 in 4 of these differ.
    assert (draws[:, 0] != draws[:, 1]).float().mean().item() == pytest.approx(0.75 / 20, abs=0.005)
    blind = walk(twins(), 1)
    assert abs(torch.corrcoef(blind.T)[0, 1]) < 0.05


def test_the_bound_of_an_oracle_is_the_exact_log_likelihood():
    oracle = table()
    exact = -(oracle.probability / oracle.probability.sum()).log()
    cells = oracle.cells.repeat_interleave(400, 0)
    estimates = bound(oracle, Absorbing(), cells, {}, n_samples=16, generator=generator()).mean(0).view(27, 400)
    error = estimates.std(1) / 400**0.5
    assert ((estimates.mean(1) - exact).abs() < 4 * error + 1e-3).all()


def test_the_bound_of_independent_genes_has_no_noise_at_all():
    """The control variate is then the loss itself."""
    oracle = table(n_genes=1)
    estimates = bound(oracle, Absorbing(), oracle.cells, {}, n_samples=4, generator=generator())
    torch.testing.assert_close(estimates, -(oracle.probability / oracle.probability.sum()).log().expand(4, -1))


def test_the_nelbo_weight_is_one_over_t_and_the_papers_is_one():
    oracle, cells = table(), table().draw(40_000, generator())
    nelbo, paper = (
        Objective(Absorbing(), UniformSurvival(log_fraction=0.0), weighting).loss(
            oracle, cells, {}, generator=generator(1)
        )
        for weighting in (BoundWeighting(), PaperWeighting())
    )
    probability = oracle.probability / oracle.probability.sum()
    entropy = -(probability * probability.log()).sum()
    assert nelbo.mean().item() == pytest.approx(entropy.item(), abs=5 * nelbo.std().item() / 200)
    # Without the weight an entry counts by how often it is masked: half the time, and mostly beside other masks.
    assert 0.4 * entropy < paper.mean() < 0.75 * entropy


def test_unmeasured_entries_do_not_count():
    oracle = table()
    observed = torch.tensor([True, True, False]).expand(27, 3)
    losses = [
        bound(oracle, Absorbing(), cells, {}, observed, n_samples=8, generator=generator())
        for cells in (oracle.cells, oracle.cells * torch.tensor([1.0, 1.0, 0.0]))
    ]
    torch.testing.assert_close(*losses)


def test_known_entries_are_kept():
    oracle = twins()
    values = torch.full((500, 2), 2.0)
    mask = torch.tensor([True, False]).expand(500, 2)
    draws = walk(oracle, 5, n=500, known=Known(values.masked_fill(~mask, math.nan), mask))
    assert (draws == 2).all()


@pytest.mark.parametrize("top", [3, 15, 16, 1_000_000])
def test_the_largest_count_is_no_mask(top):
    """In the released DCM code MASK has the id of the largest count, so that a cell that holds it looks masked."""
    counts = torch.tensor([[float(top), 0.0]])
    shown = Absorbing().shown(Absorbing().corrupt(counts, torch.ones(1, 1)), torch.full((1, 1), 0.5))
    assert torch.equal(shown.counts, counts)
    assert torch.equal(shown.survival, torch.ones(1, 2))
    torch.manual_seed(0)
    net = GeneMLP(2, head="tokens").eval()
    hidden = Absorbing().shown(torch.tensor([[MASK, 0.0]]), torch.full((1, 1), 0.5))
    assert not torch.allclose(net.embed(*shown, {}), net.embed(*hidden, {}))


def test_mask_is_neither_drawn_nor_clamped_into_the_largest_count():
    """The released code keeps a MASK class in the output and clamps its draws into the top bin."""
    torch.manual_seed(0)
    posterior = GeneMLP(4, head="tokens").eval()(torch.zeros(2000, 4), torch.zeros(2000, 1), {})
    assert posterior.log_tokens.shape[-1] == posterior.n_explicit + 1
    draws = posterior.draw(generator())
    assert not draws.isnan().any()
    top = draws == posterior.n_explicit - 1
    expected = posterior.tokens[..., posterior.n_explicit - 1].mean()
    assert top.float().mean().item() == pytest.approx(expected.item(), abs=0.01)


def test_large_counts_stay_exact_in_expectation():
    """A tail fitted by likelihood has the mean of the data, in memory that does not know the largest count."""
    counts = torch.tensor(st.nbinom(0.5, 0.01).rvs(4000, random_state=0), dtype=torch.float32).view(-1, 1)
    logits = torch.zeros(17, requires_grad=True)
    log_mean, log_size = (torch.zeros(1, requires_grad=True) for _ in range(2))

    def posterior() -> TokenPosterior:
        return TokenPosterior(
            logits.expand(4000, 1, -1), log_mean.exp().expand(4000, 1), log_size.exp(), torch.zeros(1, 1)
        )

    optimiser = torch.optim.LBFGS([logits, log_mean, log_size], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = -posterior().log_prob(counts).mean()
        loss.backward()
        return loss

    optimiser.step(closure)
    assert counts.max() > 200
    assert posterior().rate[0, 0].item() == pytest.approx(counts.mean().item(), rel=2e-3)


def test_births_say_how_a_revealed_count_is_drawn():
    """No option is accepted and ignored: a Poisson draw of the mean is another law than the tokens."""
    oracle = TableOracle(torch.tensor([[0.0], [4.0]]), torch.ones(2))
    spread = {
        name: Sampler(Absorbing(), oracle, BIRTHS[name]())
        .sample(torch.zeros(4000, 1), {}, survival_grid(LinearSchedule(), 1), generator=generator())
        .var()
        .item()
        for name in BIRTHS
    }
    unsaid = Sampler(Absorbing(), oracle).sample(
        torch.zeros(4000, 1), {}, survival_grid(LinearSchedule(), 1), generator=generator()
    )
    assert unsaid.var().item() == spread["posterior"]
    assert spread == pytest.approx({"posterior": 4.0, "poisson": 2.0, "binomial": 0.0}, abs=0.15)


def test_confident_reveals_come_first():
    posterior = TokenPosterior(
        torch.tensor([[[5.0, 0.0], [0.0, 0.0], [2.0, 0.0]]]), torch.ones(1, 3), torch.tensor(1.0), torch.zeros(1, 1)
    )
    birth = torch.full((1, 3), 1 / 3)
    first = ConfidentReveal(temperature=0.0).choose(torch.zeros(1, 3), posterior, birth, generator())
    assert torch.equal(first, torch.tensor([[True, False, False]]))
    seen_already = ConfidentReveal().choose(torch.zeros(1, 3), posterior, torch.tensor([[0.0, 1.0, 0.0]]), generator())
    assert torch.equal(seen_already, torch.tensor([[False, True, False]]))
    with pytest.raises(ValueError, match="temperature must be at least 0"):
        ConfidentReveal(-1.0)


def test_a_partly_seen_entry_has_no_token():
    posterior = TokenPosterior(torch.zeros(1, 2, 3), torch.ones(1, 2), torch.tensor(1.0), torch.tensor([[0.3, 1.0]]))
    with pytest.raises(ValueError, match="seen or hidden whole, but an entry has survival 0.3"):
        posterior.log_prob(torch.zeros(1, 2))


def test_tokens_have_no_rate_to_draw():
    with pytest.raises(NotImplementedError, match="law of counts"):
        TokenPosterior(torch.zeros(1, 2, 3), torch.ones(1, 2), torch.tensor(1.0), torch.tensor(0.0)).draw_rate()


def test_nothing_is_missing_of_an_entry_that_was_seen():
    posterior = TokenPosterior(torch.zeros(1, 2, 3), torch.ones(1, 2), torch.tensor(1.0), torch.tensor([[1.0, 0.0]]))
    assert posterior.mean[0].tolist() == [0.0, posterior.rate[0, 1].item()]
    assert posterior.log_prob(torch.zeros(1, 2))[0, 0] == 0
    assert posterior.cdf(torch.zeros(1, 2))[0, 0] == 1
    assert posterior.draw(generator())[0, 0] == 0


def test_a_seen_entry_is_predicted_from_the_others():
    """Its own count must not speak for itself: of two equal genes each tells the other, of one gene none does."""
    pair = Absorbing().remeasure(twins(), Shown(torch.tensor([[2.0, 2.0]]), torch.ones(1, 1)), {})
    assert pair.rate[0].tolist() == pytest.approx([2.0, 2.0])
    alone = TableOracle(torch.arange(5.0).unsqueeze(1), torch.ones(5))
    prior = Absorbing().remeasure(alone, Shown(torch.tensor([[4.0]]), torch.ones(1, 1)), {})
    assert prior.rate.item() == pytest.approx(2.0)


def test_only_what_is_wanted_is_predicted_again():
    passes = []

    def counting(x_t, alpha, condition):
        passes.append(alpha)
        return table(12, 2)(x_t, alpha, condition)

    seen = Shown(torch.zeros(2, 12), torch.tensor([1.0] * 11 + [0.0]).expand(2, -1))
    wanted = torch.zeros(2, 12, dtype=torch.bool)
    posterior = Absorbing().remeasure(counting, seen, {}, wanted)
    assert len(passes) == 1
    assert posterior.rate[0, 11] > 0
    wanted[:, 3] = True
    Absorbing().remeasure(counting, seen, {}, wanted)
    assert len(passes) == 3
    assert (passes[2][:, 3] == 0).all()


def test_a_walk_begins_from_cells_of_the_size_wanted():
    x_0 = torch.full((500, 4), 3.0)
    begun = Absorbing().begin(x_0, 0.25, torch.ones(500, 1), generator())
    assert (~begun.isnan()).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert Absorbing().begin(x_0, 0.0, torch.full((500, 1), 9.0)).isnan().all()
    with pytest.raises(ValueError, match="whole, so that a walk cannot begin .* 2.5 times as large"):
        Absorbing().begin(x_0, 0.25, torch.full((500, 1), 2.5))
    thinned = Thinning().begin(x_0, 0.25, torch.full((500, 1), 2.0), generator())
    assert thinned.mean().item() == pytest.approx(1.5, abs=0.1)


def test_the_schedule_of_a_walk_is_the_one_that_was_chosen():
    assert Absorbing().schedule(1000.0).survival(torch.tensor(0.3)).item() == pytest.approx(0.7)
    assert Absorbing(schedule=CosineSchedule()).schedule(1.0).survival(torch.tensor(0.5)).item() == pytest.approx(0.5)
