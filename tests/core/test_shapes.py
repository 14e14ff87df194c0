"""Counts of any trailing shape: images give what the same counts in rows give, draw for draw."""

from __future__ import annotations

import pytest
import torch
from oracles import NegativeBinomialOracle

from sccountsdiff.objective import PATTERNS, BoundWeighting, Objective, bound
from sccountsdiff.process import BIRTHS, Absorbing, GeometricSchedule, LinearSchedule, PosteriorBirths, Thinning
from sccountsdiff.sampling import Known, NoAttrition, RePaintSampler, RescaledAttrition, Sampler, Thinned, survival_grid

N, SHAPE = 40, (1, 8, 8)
ORACLE = NegativeBinomialOracle(3.0, 0.7)
PROCESSES = [Thinning(), Absorbing()]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.poisson(torch.full((N, *SHAPE), 3.0), generator=generator(1))


@pytest.fixture
def seen():
    return torch.rand(N, *SHAPE, generator=generator(2)) < 0.6


def both_ways(compute, *tensors):
    """Results of image-shaped tensors, and of the same in rows."""
    return compute(*tensors), compute(*(tensor.flatten(1) for tensor in tensors))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_loss_of_images(process, pattern, images, seen):
    objective = Objective(process, PATTERNS[pattern](), BoundWeighting())

    def loss(counts, observed):
        return objective.loss(ORACLE, counts, {}, observed, generator())

    in_images, in_rows = both_ways(loss, images, seen)
    assert in_images.shape == (N,)
    torch.testing.assert_close(in_images, in_rows)


@pytest.mark.parametrize("process", PROCESSES)
def test_bound_of_images(process, images, seen):
    def nats(counts, observed):
        return bound(ORACLE, process, counts, {}, observed, n_samples=4, generator=generator())

    in_images, in_rows = both_ways(nats, images, seen)
    assert in_images.shape == (4, N)
    torch.testing.assert_close(in_images, in_rows)


@pytest.mark.parametrize(
    "sampler",
    [
        *(Sampler(Thinning(), ORACLE, births(), RescaledAttrition(0.3)) for births in BIRTHS.values()),
        Sampler(Absorbing(), ORACLE, PosteriorBirths(), RescaledAttrition(0.3)),
    ],
)
def test_walks_of_images(sampler, images, seen):
    grid = survival_grid(LinearSchedule(), 6)

    def walk(start, counts, mask):
        known = Known(counts, mask)
        return torch.cat(
            [
                sampler.sample(start, {}, grid, generator=generator()).flatten(1),
                sampler.sample(start, {}, grid, known, generator()).flatten(1),
            ]
        )

    in_images, in_rows = both_ways(walk, torch.zeros_like(images), images, seen)
    assert torch.equal(in_images, in_rows)
    assert torch.equal(in_images[N:][seen.flatten(1)], images[seen])


def test_completion_and_repainting_of_images(images, seen):
    sampler = Sampler(Thinning(), ORACLE, attrition=NoAttrition())
    grid = survival_grid(GeometricSchedule(), 6)
    repaint = RePaintSampler(sampler, n_resample=2, jump=3)

    def complete(counts, survival):
        thinned = Thinned(counts, survival)
        return sampler.sample(counts, {}, grid, thinned, generator()).flatten(1)

    def fill(counts, mask):
        return repaint.sample(Known(counts, mask), {}, grid, generator()).flatten(1)

    for compute, given in ((complete, 0.3 + 0.5 * seen), (fill, seen)):
        in_images, in_rows = both_ways(compute, images, given)
        assert torch.equal(in_images, in_rows)
