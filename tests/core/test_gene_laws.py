"""Laws of genes in two states, apart from the network."""

from __future__ import annotations

import math

import pytest
import torch

from sccountsdiff.nets import FAST, Entries, GeneLaws, GeneMLP, best_laws
from sccountsdiff.process import Thinning

N_GENES = 6


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = GeneMLP(N_GENES, head="mixture", n_hidden=8, library_mean=40.0).eval()
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    net.head.scaled_log_growth.data.zero_()
    return net


def law(theta: float, level: float = 1.0, part: float = 1e-4) -> GeneLaws:
    """One gene."""
    values = (math.log(theta), math.log(level), math.log(part), 0.0, 0.0, 0.0)
    return GeneLaws(*(torch.tensor([value]) for value in values))


def entries(x_0: torch.Tensor, mu: float, seed: int = 1) -> Entries:
    """Cells of one gene, thinned at random, of which a network expects the same."""
    torch.manual_seed(seed)
    alpha = torch.rand(len(x_0), 1)
    x_t = Thinning().corrupt(x_0, alpha)
    return Entries(torch.full_like(x_0, mu), x_t, alpha, x_0 - x_t, (1 / (1 - alpha)).expand_as(x_0))


def two_levels(n: int, part: float, low: float, high: float, seed: int = 0) -> torch.Tensor:
    """UMI counts of a gene that is low in a part of the cells."""
    torch.manual_seed(seed)
    is_low = torch.rand(n, 1) < part
    return torch.poisson(torch.where(is_low, low, high * torch._standard_gamma(torch.full((n, 1), 9.0)) / 9))


@pytest.mark.parametrize("varies", [False, True])
def test_the_loss_is_that_of_the_head(net, varies):
    if varies:
        net.vary_dispersions()
        net.head.scaled_log_growth.data = torch.randn(N_GENES) / FAST
    x_0 = torch.poisson(torch.full((50, N_GENES), 6.0))
    alpha = torch.rand(50, 1)
    x_t, weight = Thinning().corrupt(x_0, alpha), torch.rand(50, N_GENES)
    seen = Entries(net.expected(x_t, alpha, {}), x_t, alpha, x_0 - x_t, weight)
    loss = Thinning().loss(net(x_t, alpha, {}), x_0, x_t) * weight
    torch.testing.assert_close(net.laws().loss(seen), loss.mean(0))
    genes = torch.tensor([4, 1])
    torch.testing.assert_close(net.laws().of(genes).loss(seen.of(genes)), loss.mean(0)[genes])


@pytest.mark.parametrize("part", [0.2, 0.5])
@pytest.mark.parametrize("ratio", [0.05, 0.2])
def test_a_switch_keeps_the_mean(net, part, ratio):
    mean = torch.tensor([0.1, 1.0, 3.0, 10.0, 50.0, 200.0])
    switched = net.laws().switched(mean, part, ratio)
    bulk = mean * switched.shift.exp()
    low = switched.log_level.exp() * bulk.sqrt()
    torch.testing.assert_close(low, ratio * bulk)
    odds = switched.log_odds.sigmoid()
    torch.testing.assert_close((1 - odds) * bulk + odds * low, mean)
    assert switched.log_theta.exp().min() >= 4.99


def test_two_levels_are_found():
    """From another part and another ratio, and the mean of both levels for what a network expects."""
    seen = entries(two_levels(4_000, 0.4, 0.3, 12.0), 0.6 * 12 + 0.4 * 0.3)
    start = law(0.6).switched(seen.mu.mean(0), 0.2, 0.2)
    found = start.fitted(seen, 4_000, 200)
    bulk = seen.mu[0] * found.shift.exp()
    assert found.log_odds.sigmoid().item() == pytest.approx(0.4, abs=0.05)
    assert bulk.item() == pytest.approx(12.0, rel=0.05)
    assert (found.log_level.exp() * bulk.sqrt()).item() == pytest.approx(0.3, abs=0.1)
    assert found.log_theta.exp().item() == pytest.approx(9.0, rel=0.35)
    assert found.loss(seen) < law(0.6).fitted(seen, 4_000, 200).loss(seen) - 0.05


def test_the_best_law_is_chosen_gene_by_gene():
    both = torch.cat([two_levels(2_000, 0.4, 0.3, 12.0), two_levels(2_000, 0.0, 0.3, 12.0)], 1)
    seen = entries(both, 10.0)
    one = GeneLaws(*(part.expand(2) for part in law(9.0)))
    two = one.switched(torch.full((2,), 7.3), 0.4, 0.03)
    best = best_laws([one, two], seen)
    torch.testing.assert_close(best.shift, torch.stack([two.shift[0], one.shift[1]]))
    torch.testing.assert_close(best.loss(seen), torch.minimum(one.loss(seen), two.loss(seen)))


def test_a_network_takes_over_the_laws_of_some_genes(net):
    genes = torch.tensor([2, 5])
    before, x_t, alpha = net.laws(), torch.zeros(1, N_GENES), torch.zeros(1, 1)
    expected = net.expected(x_t, alpha, {})
    net.switch(genes, before.switched(torch.full((N_GENES,), 5.0), 0.5, 0.1).of(genes))
    changed = torch.stack([now != then for now, then in zip(net.laws(), before, strict=True)][:4]).any(0)
    assert changed.nonzero().flatten().tolist() == [2, 5]
    ratio = (net.expected(x_t, alpha, {}) / expected).squeeze()
    torch.testing.assert_close(ratio[genes] / ratio[0], torch.full((2,), 1 / (1 - 0.5 + 0.5 * 0.1)))


def test_heads_without_two_states_have_no_such_laws():
    net = GeneMLP(N_GENES, head="conjugate")
    assert net.laws() is None
