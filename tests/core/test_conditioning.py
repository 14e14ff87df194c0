"""Condition keys, dropout of conditions, and guidance."""

from __future__ import annotations

import math

import pytest
import torch

from sccountsdiff.conditioning import (
    LIBRARY_SIZE,
    CategoricalKey,
    ClassifierFreeGuidance,
    CompositionalGuidance,
    ConditionEncoder,
    ContinuousKey,
    EmbeddingKey,
    drop_condition,
)
from sccountsdiff.process import GammaPoissonPosterior

TYPE, DOSE, DRUG = CategoricalKey("type", 3), ContinuousKey("dose", 10.0, 5.0), EmbeddingKey("drug", 4)
KEYS = (TYPE, DOSE, DRUG)
#: UMI counts seen of six cells, which say all there is to say of them.
MANY = torch.full((6,), 1e12)


def condition(n=6):
    return {"type": torch.arange(n) % 3, "dose": torch.linspace(5, 15, n), "drug": torch.randn(n, 4)}


@pytest.mark.parametrize("key", KEYS, ids=lambda key: type(key).__name__)
def test_null_values_are_null_and_the_rest_is_not(key):
    assert key.is_null(key.null(5, torch.device("cpu"))).all()
    assert not key.is_null(condition()[key.name]).any()


def test_null_token_replaces_exactly_the_null_cells():
    encoder = ConditionEncoder(KEYS, 8)
    given = condition()
    given["type"] = torch.tensor([0, -1, 2, 0, -1, 1])
    given["dose"][3] = math.nan
    tokens = encoder(given, MANY)
    assert tokens.shape == (6, 3, 8)
    for key_number, null_cells in ((0, [1, 4]), (1, [3]), (2, [])):
        is_null = (tokens[:, key_number] == encoder.null_tokens[key_number]).all(-1)
        assert is_null.nonzero().flatten().tolist() == null_cells
    assert torch.isfinite(tokens).all()


def test_tokens_lie_between_null_and_value_as_far_as_they_are_trusted():
    encoder, given = ConditionEncoder(KEYS, 8), condition()
    given["type"][1] = -1
    whole = encoder(given, MANY)
    encoder.trust.copy_(torch.tensor([0.75, 1.0, 0.0]))
    null, found = encoder.null_tokens.expand(6, -1, -1), encoder(given, MANY)
    assert torch.allclose(found[:, 0], null[:, 0] + 0.75 * (whole - null)[:, 0], atol=1e-6)
    assert torch.equal(found[:, 1], whole[:, 1])
    assert torch.equal(found[:, 2], null[:, 2])
    assert torch.equal(found[1, 0], encoder.null_tokens[0])


def test_a_condition_is_doubted_as_far_as_the_cell_itself_is_seen():
    encoder, given = ConditionEncoder(KEYS, 8), condition()
    whole, null = encoder(given, MANY)[:, 0], encoder.null_tokens[0]
    encoder.trust[0], encoder.trust_unseen[0] = 0.6, 1.0
    seen = torch.tensor([0.0, 30.0, 90.0, 1e12, 0.0, 30.0])
    weight = torch.tensor([1.0, 0.8, 0.7, 0.6, 1.0, 0.8]).unsqueeze(-1)
    torch.testing.assert_close(encoder(given, seen)[:, 0], null + weight * (whole - null))


def test_gradients_of_null_cells_are_finite():
    encoder = ConditionEncoder(KEYS, 8)
    encoder({key.name: key.null(4, torch.device("cpu")) for key in KEYS}, MANY[:4]).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("code", [3, -2])
def test_a_code_outside_the_table_is_refused(code):
    with pytest.raises(ValueError, match=rf"Code {code} of condition 'type' lies outside 0..2"):
        ConditionEncoder(KEYS, 8)({"type": torch.tensor([0, code])}, MANY[:2])


def test_each_key_is_dropped_with_the_given_probability_and_the_library_size_never():
    n = 20_000
    given = {
        "type": torch.zeros(n, dtype=torch.long),
        "dose": torch.ones(n),
        "drug": torch.ones(n, 4),
        LIBRARY_SIZE: torch.ones(n),
    }
    dropped = drop_condition(given, KEYS, 0.36, torch.Generator().manual_seed(0))
    null = {key.name: key.is_null(dropped[key.name]) for key in KEYS}
    for is_null in null.values():
        assert is_null.float().mean().item() == pytest.approx(0.36, abs=0.015)
    # 1 - sqrt(1 - .36) = .2 of the cells lose all keys at once, the others each key with chance .2.
    together = (null["type"] & null["dose"] & null["drug"]).float().mean().item()
    assert together == pytest.approx(0.2 + 0.8 * 0.2**3, abs=0.015)
    assert torch.equal(dropped[LIBRARY_SIZE], given[LIBRARY_SIZE])
    assert given["type"].sum() == 0


class TableDenoiser:
    """Rates that multiply: each given key brings its own factor per gene."""

    keys = KEYS
    condition_dropout = 0.2
    FACTORS = {"type": torch.tensor([2.0, 1.0]), "dose": torch.tensor([1.0, 5.0])}

    def __call__(self, x_t, alpha, given):
        rate = torch.full_like(x_t, 3.0)
        for name, factor in self.FACTORS.items():
            rate = rate * factor if name in given else rate
        rate = rate * 2 if LIBRARY_SIZE in given else rate
        return GammaPoissonPosterior(rate, torch.tensor(1.5), alpha)


X, ALPHA = torch.zeros(4, 2), torch.zeros(4, 1)
GIVEN = {"type": torch.zeros(4, dtype=torch.long), "dose": torch.ones(4), LIBRARY_SIZE: torch.ones(4)}


@pytest.mark.parametrize(
    ("scale", "factors"), [(0.0, (1.0, 1.0)), (1.0, (2.0, 5.0)), (2.0, (4.0, 25.0)), (0.5, (2**0.5, 5**0.5))]
)
def test_joint_guidance_raises_the_ratio_to_the_scale(scale, factors):
    rate = ClassifierFreeGuidance(scale).wrap(TableDenoiser())(X, ALPHA, GIVEN).rate
    torch.testing.assert_close(rate, 6 * torch.tensor(factors).expand(4, 2))


def test_guidance_of_scale_one_is_the_model_itself():
    denoiser = TableDenoiser()
    assert ClassifierFreeGuidance(1.0).wrap(denoiser) is denoiser


def test_compositional_guidance_has_one_scale_per_key():
    rate = CompositionalGuidance({"type": 2.0, "dose": 0.5}).wrap(TableDenoiser())(X, ALPHA, GIVEN).rate
    torch.testing.assert_close(rate, 6 * torch.tensor([4.0, 5**0.5]).expand(4, 2))
    only_type = CompositionalGuidance({"type": 1.0}).wrap(TableDenoiser())(X, ALPHA, GIVEN).rate
    torch.testing.assert_close(only_type, 6 * torch.tensor([2.0, 1.0]).expand(4, 2))


@pytest.mark.parametrize("guidance", [ClassifierFreeGuidance(2.0), CompositionalGuidance({"type": 1.5})])
def test_a_model_without_condition_dropout_cannot_be_guided(guidance):
    denoiser = TableDenoiser()
    denoiser.condition_dropout = 0.0
    with pytest.raises(ValueError, match="condition_dropout > 0"):
        guidance.wrap(denoiser)


@pytest.mark.parametrize("scale", [-0.5, math.inf, math.nan, 50.0])
def test_absurd_scales_are_refused(scale):
    with pytest.raises(ValueError, match="guidance scale must lie between 0"):
        ClassifierFreeGuidance(scale)
    with pytest.raises(ValueError, match="guidance scale of 'type' must lie between 0"):
        CompositionalGuidance({"type": scale})


def test_guidance_by_an_unknown_key_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"\['typ'\].*'type', 'dose', 'drug'"):
        CompositionalGuidance({"typ": 1.0}).wrap(TableDenoiser())
