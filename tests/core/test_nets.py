"""Every denoiser with every head: one list, one set of promises."""

from __future__ import annotations

import math

import pytest
import torch

from sccountsdiff.conditioning import LIBRARY_SIZE, CategoricalKey, ContinuousKey, EmbeddingKey
from sccountsdiff.nets import (
    ATTENTIONS,
    DENOISERS,
    FAST,
    HEADS,
    INPUTS,
    GeneMLP,
    GeneTransformer,
    GivenTotals,
    OneLibrary,
)
from sccountsdiff.nets._inputs import GroupDropout
from sccountsdiff.nets._mixture_rate import mixture_rate
from sccountsdiff.objective import BoundWeighting, MixtureSurvival, Objective
from sccountsdiff.process import Absorbing, Thinning

N_GENES = 12
KEYS = (CategoricalKey("type", 3), ContinuousKey("dose", 1.0, 2.0), EmbeddingKey("drug", 4))
NETS = [pytest.param(d, h, id=f"{d}-{h}") for d in DENOISERS for h in HEADS]
PROCESSES = [pytest.param(process, id=type(process).__name__.lower()) for process in (Thinning(), Absorbing())]


def make(denoiser="mlp", head="conjugate", seed=0, **kwargs):
    """A small network with weights that do something."""
    torch.manual_seed(seed)
    net = DENOISERS[denoiser](N_GENES, KEYS, head=head, n_hidden=16, library_mean=60.0, **kwargs).eval()
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return net


def cells(n=5, seed=0):
    """Counts and their condition."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.poisson(5 * torch.rand(n, N_GENES, generator=generator), generator=generator)
    condition = {
        "type": torch.arange(n) % 3,
        "dose": torch.rand(n, generator=generator),
        "drug": torch.randn(n, 4, generator=generator),
        LIBRARY_SIZE: counts.sum(1),
    }
    return counts, condition


@pytest.mark.parametrize(("denoiser", "head"), NETS)
class TestEveryNet:
    def test_rates_are_positive_and_finite_everywhere(self, denoiser, head):
        counts, condition = cells()
        net = make(denoiser, head)
        for alpha in (torch.zeros(5, 1), torch.full((5, 1), 0.4), torch.rand(5, N_GENES), torch.ones(5, 1)):
            posterior = net(Thinning().corrupt(counts, alpha), alpha, condition)
            assert posterior.rate.shape == counts.shape
            assert torch.isfinite(posterior.rate).all()
            assert (posterior.rate > 0).all()

    def test_one_survival_per_cell_is_the_same_as_one_per_entry(self, denoiser, head):
        counts, condition = cells()
        net = make(denoiser, head)
        alpha = torch.rand(5, 1)
        narrow, wide = net(counts, alpha, condition).rate, net(counts, alpha.expand(-1, N_GENES), condition).rate
        torch.testing.assert_close(narrow, wide, rtol=1e-4, atol=1e-5)

    def test_cells_do_not_see_each_other(self, denoiser, head):
        counts, condition = cells()
        net, alpha = make(denoiser, head), torch.full((5, 1), 0.5)
        alone = net(counts[:1], alpha[:1], {k: v[:1] for k, v in condition.items()}).rate
        torch.testing.assert_close(net(counts, alpha, condition).rate[:1], alone, rtol=1e-4, atol=1e-5)

    def test_a_missing_key_is_the_same_as_null_values(self, denoiser, head):
        counts, condition = cells()
        net, alpha = make(denoiser, head), torch.full((5, 1), 0.5)
        null = {key.name: key.null(5, counts.device) for key in KEYS} | {LIBRARY_SIZE: torch.full((5,), math.nan)}
        torch.testing.assert_close(net(counts, alpha, {}).rate, net(counts, alpha, null).rate)
        given = net(counts, alpha, condition | {LIBRARY_SIZE: null[LIBRARY_SIZE]}).rate
        assert not torch.allclose(given, net(counts, alpha, {}).rate, rtol=1e-3)

    def test_every_parameter_learns_by_likelihood(self, denoiser, head):
        """Under masking, where the whole posterior is scored; thinning looks at its mean only."""
        counts, condition = cells(64)
        net = make(denoiser, head)
        Objective(Absorbing(), MixtureSurvival(), BoundWeighting()).loss(net, counts, condition).mean().backward()
        learned = {name: p.grad for name, p in net.named_parameters() if p.requires_grad}
        assert [name for name, grad in learned.items() if grad is None or not torch.isfinite(grad).all()] == []
        late = {name for name, p in net.named_parameters() if not p.requires_grad and not name.startswith("offsets")}
        assert late <= {"head.scaled_log_growth"}

    @pytest.mark.parametrize("process", PROCESSES)
    def test_every_process_trains_it_and_one_gene_or_one_cell_is_enough(self, denoiser, head, process):
        counts, condition = cells(64)
        objective = Objective(process, MixtureSurvival(), BoundWeighting())
        net, single = make(denoiser, head), DENOISERS[denoiser](1, head=head, n_hidden=16)
        objective.loss(net, counts, condition).mean().backward()
        objective.loss(single, counts[:1, :1], {}).mean().backward()
        assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
        assert net.conditions.null_tokens.grad.abs().sum() > 0

    def test_embedding_has_one_row_per_cell(self, denoiser, head):
        counts, condition = cells()
        assert make(denoiser, head).embed(counts, torch.ones(5, 1), condition).shape == (5, 16)

    def test_a_million_molecules_in_one_entry(self, denoiser, head):
        counts, condition = cells()
        counts[0, 0] = 1e6
        posterior = make(denoiser, head)(counts, torch.full((5, 1), 0.5), condition | {LIBRARY_SIZE: counts.sum(1)})
        assert torch.isfinite(posterior.rate).all()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_attention_trains_with_and_without_its_activations(name):
    counts, condition = cells(8)
    losses, gradients = [], []
    for checkpoint in (False, True):
        net = make("transformer", attention=name, checkpoint_activations=checkpoint, dropout=0.0).train()
        objective = Objective(Thinning(), MixtureSurvival(), BoundWeighting())
        loss = objective.loss(net, counts, condition, generator=torch.Generator().manual_seed(0)).mean()
        loss.backward()
        losses.append(loss.item())
        gradients.append(net.gene_embedding.grad)
    assert losses[0] == losses[1]
    torch.testing.assert_close(*gradients)


def test_attention_in_half_precision():
    counts, condition = cells()
    net = make("transformer", "tokens", attention="latent")
    with torch.autocast("cpu", torch.bfloat16):
        rate = net(counts, torch.full((5, 1), 0.0), condition).rate
    assert rate.dtype == torch.float32
    torch.testing.assert_close(rate, net(counts, torch.full((5, 1), 0.0), condition).rate, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_trains(name):
    counts, condition = cells(32)
    net = make(input=name)
    Objective(Thinning(), MixtureSurvival(), BoundWeighting()).loss(net, counts, condition).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.input.parameters())


def test_the_conjugate_head_is_the_gamma_poisson_posterior():
    net = make(head="conjugate")
    counts, condition = cells()
    alpha = torch.rand(5, N_GENES)
    unsized = {k: v for k, v in condition.items() if k != LIBRARY_SIZE}
    posterior = net(counts, alpha, unsized)
    head = net.head
    mu = head.sized(net.logits(counts, alpha, unsized), counts, alpha, None)
    torch.testing.assert_close(posterior.rate, (head.theta + counts) / (head.theta / mu + alpha))
    torch.testing.assert_close(posterior.shape, head.theta + counts)


def test_the_mixture_head_is_the_posterior_of_a_mixture_of_gamma_laws():
    """Bayes' rule on a fine grid of rates."""
    net = make(head="mixture")
    counts, condition = cells(2)
    counts[0, 0] = 60.0  # an outlier
    alpha = torch.rand(2, N_GENES)
    unsized = {k: v for k, v in condition.items() if k != LIBRARY_SIZE}
    posterior, head = net(counts, alpha, unsized), net.head
    mu = head.sized(net.logits(counts, alpha, unsized), counts, alpha, None)
    rate = torch.logspace(-40, 4, 6_000, dtype=torch.float64).view(-1, 1, 1)
    nu = head.log_level.exp() * mu.sqrt()
    law = torch.distributions.Gamma(head.theta.double(), (head.theta / torch.stack([mu, nu]).unsqueeze(1)).double())
    odds = torch.stack([torch.zeros(N_GENES), head.log_odds]).log_softmax(0).view(2, 1, 1, -1)
    prior = torch.logsumexp(law.log_prob(rate) + odds, 0)
    weight = (prior + torch.distributions.Poisson(alpha * rate).log_prob(counts) + rate.log()).softmax(0)
    mean = (weight * rate).sum(0)
    torch.testing.assert_close(posterior.rate.double(), mean, rtol=2e-3, atol=1e-4)
    variance = (weight * rate**2).sum(0) - mean**2
    torch.testing.assert_close(posterior.rate_variance.double(), variance, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("n_survivals", [1, N_GENES])
@pytest.mark.parametrize("varies", [False, True])
def test_the_mean_rate_of_the_mixture_has_the_right_derivative(n_survivals, varies):
    torch.manual_seed(0)
    shapes = (4, N_GENES), (4, N_GENES) if varies else (N_GENES,)
    mu, theta = (6 * torch.rand(shape, dtype=torch.float64) + 0.3 for shape in shapes)
    log_level, log_odds = torch.randn(2, N_GENES, dtype=torch.float64)
    counts, alpha = torch.poisson(mu), torch.rand(4, n_survivals, dtype=torch.float64)
    numbers = [values.requires_grad_() for values in (mu, theta, log_level, log_odds)]
    assert torch.autograd.gradcheck(lambda mu, *of_gene: mixture_rate(mu, counts, alpha, *of_gene), numbers)


@pytest.mark.parametrize("head", ["conjugate", "mixture"])
def test_a_dispersion_grows_by_its_factor_with_every_tenfold(head):
    net = make(head=head)
    counts, condition = cells()
    alpha = torch.rand(5, N_GENES)
    before = net(counts, alpha, condition).rate
    assert net.head.dispersion(counts) is not None
    assert net.head.dispersion(counts).shape == (N_GENES,)
    net.vary_dispersions()
    net.head.scaled_log_growth.data.zero_()
    torch.testing.assert_close(net(counts, alpha, condition).rate, before)
    net.head.scaled_log_growth.data.fill_(math.log(3.0) / FAST)
    mean = net.head.log_mean.exp()
    for tens, factor in ((0, 1.0), (1, 3.0), (-1, 1 / 3), (5, 9.0), (-5, 1 / 9)):  # a hundredfold at most
        torch.testing.assert_close(net.head.dispersion(mean * 10.0**tens), net.head.theta * factor, rtol=1e-3, atol=0)
    assert not torch.allclose(net(counts, alpha, condition).rate, before)


@pytest.mark.parametrize("head", ["conjugate", "mixture"])
def test_a_raised_posterior_has_the_dispersion_of_what_is_expected_then(head):
    net = make(head=head)
    net.vary_dispersions()
    net.head.scaled_log_growth.data = torch.randn(N_GENES) / FAST
    counts, condition = cells()
    alpha, ratio = torch.rand(5, N_GENES), 4 * torch.rand(5, N_GENES) + 0.1
    posterior, nothing = net(counts, alpha, condition), torch.zeros(5, N_GENES)
    same = posterior.raised(torch.ones(5, N_GENES))
    torch.testing.assert_close(same.rate, posterior.rate)
    torch.testing.assert_close(same.rate_variance, posterior.rate_variance)
    # Of a cell of which nothing is seen, all that is known is what is expected of it.
    unseen = {name: value for name, value in condition.items() if name != LIBRARY_SIZE}
    before = net(nothing, nothing, unseen)
    theta = [net.head.dispersion(net.expected(nothing, nothing, unseen) * factor) for factor in (1, ratio)]
    laws = [law.shape if head == "conjugate" else law.states.shape for law in (before, before.raised(ratio))]
    torch.testing.assert_close(laws, theta)
    if head == "conjugate":
        torch.testing.assert_close(before.raised(ratio).rate, before.rate * ratio)
        found = (net(counts, alpha, unseen), net(counts, alpha, unseen).raised(ratio))
        mu = net.expected(counts, alpha, unseen)
        power = (net.head.dispersion(mu) / net.head.dispersion(mu * ratio)).sqrt()
        torch.testing.assert_close(found[1].rate / (mu * ratio), (found[0].rate / mu) ** power)
        torch.testing.assert_close(found[1].shape, found[0].shape / power**2)
    else:
        high = [law.states.means[1] for law in (before, before.raised(ratio))]
        torch.testing.assert_close(high[1], high[0] * ratio.sqrt())


def test_files_tell_whether_dispersions_vary():
    net, other = make(head="mixture"), make(head="mixture")
    net.vary_dispersions()
    net.head.scaled_log_growth.data.normal_()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.head.log_growth, net.head.log_growth)
    plain = make(head="mixture")
    state = {n: value for n, value in plain.state_dict().items() if not n.endswith(("log_mean", "log_growth"))}
    earlier = make(head="mixture")
    earlier.load_state_dict(state)
    assert other.head.varies
    assert not earlier.head.varies


@pytest.mark.parametrize("head", ["poisson", "softplus", "tokens"])
def test_heads_without_dispersions_have_none_to_vary(head):
    net = make(head=head)
    counts, condition = cells()
    before = net(counts, torch.ones(5, 1), condition).rate
    net.vary_dispersions()
    assert net.late_scaled_logs() == []
    torch.testing.assert_close(net(counts, torch.ones(5, 1), condition).rate, before)


@pytest.mark.parametrize(("n_genes", "dropout"), [(20, 0.04), (125, 0.1), (500, 0.2), (2_000, 0.2)])
def test_narrow_panels_have_less_dropout(n_genes, dropout):
    layers = [layer for layer in GeneMLP(n_genes).modules() if isinstance(layer, GroupDropout)]
    assert len(layers) == 3
    assert [layer.p for layer in layers] == pytest.approx([dropout] * 3)


def test_weights_of_other_outliers_are_refused():
    net = make(head="mixture")
    weights = net.state_dict()
    weights["head.scaled_log_factor"] = weights.pop("head.scaled_log_level")
    with pytest.raises(ValueError, match="saved by an earlier version.*Train it again"):
        net.load_state_dict(weights)


def test_the_mean_rate_of_the_mixture_is_that_of_its_states():
    net = make(head="mixture")
    counts, _ = cells()
    posterior = net(counts, torch.rand(5, N_GENES), {})
    mean = net.head.expected(net.logits(counts, posterior.alpha, {}), counts, posterior.alpha, None)
    states = net.head.states(mean, counts, posterior.alpha)
    torch.testing.assert_close(posterior.rate, states.shape * (states.weights * states.means).sum(0))


@pytest.mark.parametrize("survival", [0.0, 0.5, 1.0])
def test_rates_add_up_to_the_library_size(survival):
    """Where as many molecules were seen as survival lets expect; what is missing beyond that is made up for."""
    rate, x_t = torch.rand(3, 6) * 40, torch.full((3, 6), survival * 50.0)
    library, alpha = torch.tensor([300.0, math.nan, 3.0]), torch.full((3, 1), survival)
    matched = OneLibrary(60).match(rate, x_t, alpha, GivenTotals(library.unsqueeze(-1)))
    torch.testing.assert_close(matched[0], 300 * rate[0] / rate[0].sum())
    assert torch.equal(matched[1], rate[1])
    assert (matched[2] > 0).all()
    fewer = OneLibrary(60).match(rate, x_t - 5 * survival, alpha, GivenTotals(library.unsqueeze(-1)))
    assert fewer[0].sum() >= 300


@pytest.mark.parametrize("dropout", [-0.1, 1.0])
def test_condition_dropout_outside_zero_to_one_is_refused(dropout):
    with pytest.raises(ValueError, match="condition_dropout"):
        make(condition_dropout=dropout)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="n_heads must divide"):
        GeneTransformer(4, n_hidden=10, n_heads=4)


@pytest.mark.parametrize(("n_hidden", "n_heads"), [(64, 4), (128, 8)])
def test_the_papers_transformer_sizes_are_reachable(n_hidden, n_heads):
    net = GeneTransformer(20, n_hidden=n_hidden, n_heads=n_heads, n_layers=3)
    assert net(torch.zeros(2, 20), torch.zeros(2, 1), {}).rate.shape == (2, 20)
