"""Offsets of genes: for new levels only, nothing at all for known ones."""

from __future__ import annotations

import pytest
import torch

from sccountsdiff.conditioning import CategoricalKey, CombinationKey
from sccountsdiff.nets import GeneOffsets


def test_offsets_move_the_first_logits_of_new_levels_alone():
    offsets = GeneOffsets()
    assert not offsets.state_dict()
    assert offsets.penalty() == 0
    drug = CombinationKey("drug", 3)
    offsets.extend([CategoricalKey("batch", 3), drug], {"batch": 2, "drug": 1}, 4)
    batch, drugs = (table.weight for table in offsets.tables)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(batch, std=0.01, generator=generator)
    torch.nn.init.normal_(drugs, std=0.01, generator=generator)
    logits = torch.randn(3, 8, generator=generator)
    codes = {"batch": torch.tensor([0, 2, -1]), "drug": torch.tensor([-1, 0, drug.encode({1, 2})])}
    moved = offsets(logits, codes)
    assert torch.equal(moved[0], logits[0])
    assert torch.equal(moved[:, 4:], logits[:, 4:])
    torch.testing.assert_close(moved[1, :4], logits[1, :4] + 20 * batch[0])
    torch.testing.assert_close(moved[2, :4], logits[2, :4] + 20 * drugs.sum(0))
    total = (20 * torch.cat([batch, drugs]) / 0.5).square().sum() / 2
    assert offsets.penalty().item() == pytest.approx(total.item())
