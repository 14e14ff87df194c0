"""From conditions to tokens, and the dropping of keys that teaches a network its null."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from sccountsdiff.conditioning._keys import Condition, Key
from sccountsdiff.conditioning._table import LevelTable


@final
class ConditionEncoder(nn.Module):
    """Encode a condition as one token per key, with a learned null token for each.

    Parameters
    ----------
    keys
        The keys, in a fixed order.
    width
        Length of a token.

    Attributes
    ----------
    trust
        How far a token goes from the null of its key to what was learned of the value, in a cell of which much is seen: 1
        all the way, as in training. ``(n_keys,)``.
    trust_unseen
        The same in a cell of which nothing is seen yet. ``(n_keys,)``.
    """

    trust: Tensor
    trust_unseen: Tensor
    #: UMI counts at which trust is half-way between the two.
    HALF_SEEN = 30.0

    def __init__(self, keys: Sequence[Key], width: int) -> None:
        super().__init__()
        self.keys = tuple(keys)
        self.width = width
        self.encoders = nn.ModuleList(key.encoder(width) for key in self.keys)
        # Without keys there is nothing to learn; data-parallel training asks for a gradient of every parameter.
        self.null_tokens = nn.Parameter(torch.randn(len(self.keys), width) * 0.02, requires_grad=bool(self.keys))
        self.register_buffer("trust", torch.ones(len(self.keys)))
        self.register_buffer("trust_unseen", torch.ones(len(self.keys)))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Files of models from before there was any doubt have none, later ones the same however much is seen."""
        trust = state_dict.setdefault(f"{prefix}trust", torch.ones_like(self.trust))
        state_dict.setdefault(f"{prefix}trust_unseen", trust)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, condition: Condition, seen: Tensor) -> Tensor:
        """Tokens ``(n_cells, n_keys, width)`` of cells of which so many UMI counts are seen, ``(n_cells,)``."""
        n_cells, tokens = len(seen), []
        weights = torch.lerp(self.trust_unseen, self.trust, (seen / (seen + self.HALF_SEEN)).unsqueeze(-1))
        parts = zip(self.keys, self.encoders, self.null_tokens, weights.unbind(1), strict=True)
        for key, encoder, null_token, weight in parts:
            value = condition.get(key.name)
            if value is None:
                tokens.append(null_token.expand(n_cells, -1))
                continue
            is_null = key.is_null(value)
            token = encoder(key.fill(value, is_null))
            null = null_token.to(token.dtype).expand_as(token)
            tokens.append(
                torch.where(is_null.unsqueeze(-1), null, null.lerp(token, weight.to(token.dtype).unsqueeze(-1)))
            )
        return torch.stack(tokens, 1) if tokens else self.null_tokens.new_zeros(n_cells, 0, self.width)

    def tables(self) -> Iterator[tuple[str, LevelTable, Tensor]]:
        """Walk through the keys that have a vector for each level.

        Yields
        ------
        Name of the key, its table, and its null token of shape ``(width,)``.
        """
        for key, encoder, null_token in zip(self.keys, self.encoders, self.null_tokens, strict=True):
            yield from ((key.name, part, null_token) for part in encoder.modules() if isinstance(part, LevelTable))


def condition_encoders(network: nn.Module) -> list[ConditionEncoder]:
    """Find the encoders within a network.

    Parameters
    ----------
    network
        Any module.

    Returns
    -------
    Most networks have one; those that read no condition have none.
    """
    return [part for part in network.modules() if isinstance(part, ConditionEncoder)]


def drop_condition(
    condition: Condition, keys: Sequence[Key], probability: float, generator: torch.Generator | None = None
) -> dict[str, Tensor]:
    """Hide keys at random, so that the network learns the null tokens.

    Half of the dropping takes all keys of a cell at once (for joint guidance), half takes each key by itself (for
    compositional guidance and for conditions given in part). The library size is kept.

    Parameters
    ----------
    condition
        Condition of ``n_cells`` cells.
    keys
        Keys of the denoiser.
    probability
        Chance that a key of a cell is hidden.
    generator
        Source of randomness, on the device of the condition.

    Returns
    -------
    The condition with nulls in place of what is hidden.
    """
    dropped = dict(condition)
    given = [key for key in keys if key.name in condition]
    if not given or probability == 0:
        return dropped
    n_cells, device = len(condition[given[0].name]), condition[given[0].name].device
    one_way = 1 - math.sqrt(1 - probability)
    all_keys = torch.rand(n_cells, generator=generator, device=device) < one_way
    for key in given:
        hide = all_keys | (torch.rand(n_cells, generator=generator, device=device) < one_way)
        value = condition[key.name]
        hide = hide.view(-1, *[1] * (value.dim() - 1))
        dropped[key.name] = torch.where(hide, key.null(n_cells, device).to(value.dtype), value)
    return dropped
