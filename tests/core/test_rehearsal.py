"""Cells that measured everything play those that lack a block."""

from __future__ import annotations

import pytest
import torch

from sccountsdiff.conditioning import LIBRARY_SIZE, CategoricalKey
from sccountsdiff.nets import GeneMLP
from sccountsdiff.objective import (
    BlockRehearsal,
    BoundWeighting,
    MixtureSurvival,
    NoRehearsal,
    Objective,
    Scene,
    Survival,
    UniformSurvival,
)
from sccountsdiff.process import Thinning

N_CELLS, N_GENES = 4000, 6
BLOCKS = torch.tensor([[False, False, False, True, True, True], [True, False, False, False, False, False]])


@pytest.fixture
def scene():
    """One survival per cell, none of them 0 or 1."""
    alpha = torch.rand(N_CELLS, 1).clamp(0.01, 0.99)
    return Scene(Survival(alpha, torch.full_like(alpha, 2.0)), {"batch": torch.zeros(N_CELLS, dtype=torch.long)})


def play(rehearsal, scene, observed=None):
    """One rehearsal."""
    return rehearsal.play(scene, observed, N_GENES, torch.Generator().manual_seed(0))


def test_without_rehearsal_nothing_changes(scene):
    assert play(NoRehearsal(), scene) is scene


def test_a_part_of_the_cells_plays_with_a_whole_block_hidden(scene):
    labels = {"batch": torch.tensor([7, 8])}
    survival, condition = play(BlockRehearsal(BLOCKS, labels, fraction=0.25), scene)
    plays = condition["batch"] > 0
    assert plays.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert torch.equal(survival.alpha[~plays], scene.survival.alpha[~plays].expand(-1, N_GENES))
    assert torch.equal(survival.importance[:, 0], torch.where(plays, 1.0, 2.0))
    for label, block in zip(labels["batch"], BLOCKS, strict=True):
        alpha = survival.alpha[condition["batch"] == label]
        assert (alpha[:, ~block] == 1).all()
        assert (alpha[:, block] < 1).all()
        assert (alpha[:, block].amin(-1) == alpha[:, block].amax(-1)).all()
        assert (alpha[:, block][:, 0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_cells_that_lack_the_block_do_not_play_it(scene):
    observed = torch.ones(N_CELLS, N_GENES, dtype=torch.bool)
    observed[: N_CELLS // 2, 3:] = False
    _, condition = play(BlockRehearsal(BLOCKS[:1], {"batch": torch.tensor([7])}, fraction=0.5), scene, observed)
    assert (condition["batch"][: N_CELLS // 2] == 0).all()
    assert (condition["batch"][N_CELLS // 2 :] == 7).any()


def test_what_is_rehearsed_is_learned():
    """Genes that follow from the others, in cells of another batch: only rehearsal teaches the new batch."""
    torch.manual_seed(0)
    kind = torch.rand(400, 1) < 0.5
    mean = torch.where(kind, torch.tensor([8.0, 1, 1, 8, 1, 1]), torch.tensor([1.0, 8, 1, 1, 8, 1]))
    counts = torch.poisson(mean)
    batch = (torch.arange(400) % 2).long()
    observed = torch.ones(400, N_GENES, dtype=torch.bool)
    observed[batch == 1, 3:] = False
    seen = counts * observed
    condition = {"batch": batch, LIBRARY_SIZE: seen.sum(-1).masked_fill(batch == 1, torch.nan)}
    errors = []
    for rehearsal in (NoRehearsal(), BlockRehearsal(BLOCKS[:1], {"batch": torch.tensor([1])}, fraction=0.3)):
        torch.manual_seed(1)
        net = GeneMLP(N_GENES, [CategoricalKey("batch", 2)], n_hidden=32, gene_mean=counts.mean(0), library_mean=20.0)
        objective = Objective(Thinning(), MixtureSurvival(), BoundWeighting(), rehearsal=rehearsal)
        optimizer = torch.optim.AdamW(net.parameters())
        for step in range(400):
            optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / 400)
            optimizer.zero_grad()
            objective.loss(net, seen, condition, observed).mean().backward()
            optimizer.step()
        rate = net.eval()(seen, observed.float(), condition).rate
        errors.append((rate - mean)[batch == 1, 3:].square().mean().item())
    assert errors[1] < 0.5 * errors[0]


def test_uniform_patterns_are_widened_only_where_needed():
    objective = Objective(Thinning(), UniformSurvival(), BoundWeighting(), rehearsal=BlockRehearsal(BLOCKS))
    net = GeneMLP(N_GENES, n_hidden=8)
    assert torch.isfinite(objective.loss(net, torch.poisson(torch.ones(32, N_GENES)), {})).all()
