"""Offsets of genes: what they add to which logits, and their prior."""

from __future__ import annotations

import pytest
import torch

from sccountsdiff.conditioning import CategoricalKey, CombinationKey, ContinuousKey
from sccountsdiff.nets import GeneOffsets

DRUG = CombinationKey("drug", 3)
KEYS = (CategoricalKey("batch", 3), ContinuousKey("dose"), DRUG)
CODES = {
    "batch": torch.tensor([0, 2, -1]),
    "dose": torch.zeros(3),
    "drug": torch.tensor([-1, DRUG.encode({0}), DRUG.encode({1, 2})]),
}


def random_offsets() -> GeneOffsets:
    offsets = GeneOffsets(KEYS, 4)
    generator = torch.Generator().manual_seed(0)
    for weight in offsets.parameters():
        torch.nn.init.normal_(weight, std=0.01, generator=generator)
    return offsets


def test_there_are_none_at_first_and_nothing_learns_them():
    offsets = GeneOffsets(KEYS, 4)
    assert list(offsets.named_tables()) == ["batch", "drug"]
    assert not any(weight.any() or weight.requires_grad for weight in offsets.parameters())
    logits = torch.randn(3, 8)
    assert torch.equal(offsets(logits, CODES), logits)


def test_offsets_move_the_first_logits_of_the_levels_of_a_cell():
    offsets, logits = random_offsets(), torch.randn(3, 8)
    everyone, batch, drugs = (20 * table.weight for table in (offsets.everyone, *offsets.tables))
    moved = offsets(logits, CODES)
    assert torch.equal(moved[:, 4:], logits[:, 4:])
    torch.testing.assert_close(moved[0, :4], logits[0, :4] + everyone[0] + batch[0])
    torch.testing.assert_close(moved[1, :4], logits[1, :4] + everyone[0] + batch[2] + drugs[0])
    torch.testing.assert_close(moved[2, :4], logits[2, :4] + everyone[0] + drugs[1] + drugs[2])
    torch.testing.assert_close(offsets(logits, {})[:, :4], logits[:, :4] + everyone)


def test_members_are_the_rows_that_were_added():
    offsets, logits = random_offsets(), torch.zeros(3, 4)
    members = offsets.members(CODES, 3)
    assert [table for table, _ in members] == [offsets.everyone, *offsets.tables]
    torch.testing.assert_close(sum(of @ (20 * table.weight) for table, of in members), offsets(logits, CODES))
    assert len(offsets.members({}, 3)) == 1


def test_the_prior_is_that_of_learned_offsets():
    offsets = random_offsets()
    assert offsets.penalty() == 0
    batch, drugs = offsets.tables
    batch.weight.requires_grad_(True)
    batch.n_kept = 2
    total = (20 * batch.weight[2] / 0.5).square().sum() / 2
    assert offsets.penalty().item() == pytest.approx(total.item())
