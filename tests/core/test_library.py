"""Library sizes: of a cell, of a part of its genes, and of each group of its features."""

from __future__ import annotations

import math

import pytest
import torch

from sccountsdiff.conditioning import LIBRARY_SIZE, MEASURED
from sccountsdiff.nets import (
    DENOISERS,
    HEADS,
    CellStatistics,
    GivenTotals,
    LibraryPerGroup,
    OneLibrary,
    SizedSoftmax,
    make_library,
)
from sccountsdiff.objective import BoundWeighting, MixtureSurvival, Objective, bound
from sccountsdiff.process import Thinning

N_GENES = 12
GROUPS = (8, 4)


def counts(n=5, seed=0):
    """Deep RNA, shallow protein."""
    generator = torch.Generator().manual_seed(seed)
    mean = torch.cat([torch.full((n, 8), 9.0), torch.full((n, 4), 2.0)], -1)
    return torch.poisson(mean, generator=generator)


def net(denoiser="mlp", head="conjugate", **kwargs):
    """A small network with weights that do something."""
    torch.manual_seed(0)
    options = {"library_mean": (72.0, 8.0), "n_features": GROUPS} | kwargs
    network = DENOISERS[denoiser](N_GENES, head=head, n_hidden=16, **options).eval()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return network


def test_a_group_of_everything_is_the_library_of_the_cell():
    one, grouped = OneLibrary(60.0), LibraryPerGroup([60.0], [N_GENES])
    x, alpha, logits = counts(), torch.rand(5, N_GENES), torch.randn(5, N_GENES)
    for question in ("total", "average", "least"):
        torch.testing.assert_close(getattr(one, question)(x), getattr(grouped, question)(x))
    torch.testing.assert_close(one.weighted(x, alpha), grouped.weighted(x, alpha))
    torch.testing.assert_close(one.softmax(logits), grouped.softmax(logits))
    torch.testing.assert_close(one.log_share(N_GENES, x.mean(0)), grouped.log_share(N_GENES, x.mean(0)))
    given = GivenTotals(x.sum(-1, keepdim=True))
    torch.testing.assert_close(one.match(x, x * alpha, alpha, given), grouped.match(x, x * alpha, alpha, given))
    torch.testing.assert_close(one.seen_share(alpha[:, :1], logits), grouped.seen_share(alpha[:, :1], logits))


def test_groups_do_not_see_each_other():
    library = LibraryPerGroup([72.0, 8.0], GROUPS)
    x = counts()
    changed = torch.cat([x[:, :8], 50 + x[:, 8:]], -1)
    alpha = torch.rand(5, N_GENES)
    given = GivenTotals(library.total(x))
    first = library.match(x, alpha * x, alpha, given)[:, :8]
    assert torch.equal(first, library.match(changed, alpha * x, alpha, given)[:, :8])
    assert torch.equal(library.softmax(x)[:, :8], library.softmax(changed)[:, :8])
    torch.testing.assert_close(library.softmax(x).split(GROUPS, -1)[1].sum(-1), torch.ones(5))
    assert torch.equal(library.spread(torch.tensor([[1.0, 2.0]])), torch.tensor([[1.0] * 8 + [2.0] * 4]))


@pytest.mark.parametrize(("mean", "groups"), [((1.0,), (3, 4)), ((1.0, 2.0), (3, 0)), ((), ())])
def test_groups_need_a_mean_and_a_feature_each(mean, groups):
    with pytest.raises(ValueError, match="at least one feature"):
        make_library(mean, groups)


@pytest.mark.parametrize("denoiser", DENOISERS)
@pytest.mark.parametrize("head", HEADS)
def test_every_net_trains_on_groups(denoiser, head):
    x = counts(32)
    network = net(denoiser, head)
    condition = {LIBRARY_SIZE: network.library.total(x)}
    Objective(Thinning(), MixtureSurvival(), BoundWeighting()).loss(network, x, condition).mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_a_group_without_a_measured_feature_keeps_its_rates():
    rate, measured = torch.rand(5, N_GENES, requires_grad=True), torch.arange(N_GENES) < 8
    library = make_library((30.0, 30.0), GROUPS)
    given = GivenTotals(torch.tensor([[30.0, math.nan]]).expand(5, -1), measured.expand(5, -1))
    matched = library.match(rate, torch.zeros(5, N_GENES), torch.zeros(5, 1), given)
    assert torch.equal(matched[:, 8:], rate[:, 8:])
    matched.sum().backward()
    assert torch.isfinite(rate.grad).all()


def test_each_group_obeys_its_own_library_size():
    x, network = counts(), net()
    for given in ([500.0, 3.0], [20.0, 400.0], [math.nan, 400.0]):
        library = torch.tensor([given]).expand(5, -1)
        rate = network(torch.zeros_like(x), torch.zeros(5, 1), {LIBRARY_SIZE: library}).rate
        totals = network.library.total(rate)
        known = ~library.isnan()
        torch.testing.assert_close(totals[known], library[known], rtol=0.02, atol=0.2)


def test_a_library_size_of_some_genes_is_a_sight_of_them():
    """As if they had been seen in full: the other genes follow from their shares."""
    sized = SizedSoftmax(OneLibrary(100.0))
    logits = torch.randn(1, N_GENES)
    share = logits.softmax(-1)
    measured = torch.arange(N_GENES)[None] < 6
    given = GivenTotals(torch.tensor([[5000.0]]), measured)
    mu = sized(logits, torch.zeros(1, N_GENES), torch.zeros(1, 1), given)
    seen = torch.where(measured, 5000 / 6, 0.0)
    torch.testing.assert_close(mu, sized(logits, seen, measured.float(), None))
    torch.testing.assert_close(mu / mu.sum(), share)
    whole = GivenTotals(torch.tensor([[5000.0]]), torch.ones_like(measured))
    assert sized(logits, torch.zeros(1, N_GENES), torch.zeros(1, 1), whole).sum().item() == pytest.approx(5000)


def test_only_measured_genes_make_up_for_missing_molecules():
    library = OneLibrary(100.0)
    rate, measured = torch.full((1, N_GENES), 10.0), torch.arange(N_GENES)[None] < 6
    matched = library.match(
        rate, torch.zeros(1, N_GENES), torch.zeros(1, 1), GivenTotals(torch.tensor([[60.0]]), measured)
    )
    torch.testing.assert_close(matched, rate)


def test_the_condition_carries_both_keys_to_the_bound():
    x, network = counts(), net()
    measured = torch.ones(5, N_GENES, dtype=torch.bool)
    measured[:, 9:] = False
    x = x * measured
    condition = {LIBRARY_SIZE: network.library.total(x), MEASURED: measured}
    generator = torch.Generator().manual_seed(0)
    assert torch.isfinite(bound(network, Thinning(), x, condition, measured, 2, generator)).all()


def test_statistics_tell_unknown_sizes_and_what_was_seen():
    statistics = CellStatistics(LibraryPerGroup([72.0, 8.0], GROUPS), 16)
    x = counts()
    alpha = torch.cat([torch.ones(5, 8), torch.zeros(5, 4)], -1)
    library = torch.tensor([[72.0, math.nan]]).expand(5, -1)
    mean_alpha, least, _, _, size, unknown = statistics.summary(x * alpha, alpha, GivenTotals(library)).unbind(1)
    for value in (mean_alpha, least):
        assert torch.equal(value, torch.tensor([[1.0, 0.0]]).expand(5, -1))
    torch.testing.assert_close(size, torch.zeros(5, 2))
    assert torch.equal(unknown, torch.tensor([[0.0, 1.0]]).expand(5, -1))
    assert torch.equal(statistics.summary(x, alpha, None).unbind(1)[-1], torch.ones(5, 2))


def test_the_size_of_a_hidden_group_is_for_the_network_to_tell():
    """A shift of its logits moves the size that is expected, and no share."""
    sized = SizedSoftmax(LibraryPerGroup([72.0, 8.0], GROUPS))
    x, alpha = counts(), torch.cat([torch.ones(5, 8), torch.zeros(5, 4)], -1)
    share = sized.library.log_share(N_GENES, x.mean(0)).expand(5, -1)
    shift = torch.cat([torch.zeros(8), torch.full((4,), math.log(3.0))])
    plain, shifted = (sized(logits, x * alpha, alpha, None).split(GROUPS, -1) for logits in (share, share + shift))
    torch.testing.assert_close(plain[1].sum(-1), torch.full((5,), 8.0))
    torch.testing.assert_close(shifted[1], 3 * plain[1])
    torch.testing.assert_close(shifted[0], plain[0])
    given = GivenTotals(torch.full((5, 2), 30.0))
    torch.testing.assert_close(sized(share + shift, x, alpha, given), sized(share, x, alpha, given))
