"""A network that learned some categories, made to learn more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sccountsdiff.conditioning import LevelTable, condition_encoders
from sccountsdiff.model._module import CountDiffusionModule


class _Rows(NamedTuple):
    """Vectors of the levels of one key."""

    key: str
    table: LevelTable
    #: Where a row starts that nothing is known of; None is the mean of those known.
    start: Tensor | None


def adopt_weights(module: CountDiffusionModule, weights: Mapping[str, Tensor], known: Mapping[str, int]) -> None:
    """Load weights of a model that knew fewer levels.

    A new level starts at the null token, without offsets: before any training it is answered as if it were not given.
    A model without null tokens (condition dropout 0) starts it at the mean of the known ones.

    Parameters
    ----------
    module
        The module that knows more levels.
    weights
        State of the one that knows fewer.
    known
        Name of a key -> number of its levels there.
    """
    grown = dict(weights)
    names = {id(weight): name for name, weight in module.named_parameters()}
    with torch.no_grad():
        for rows in _rows(module):
            name = names[id(rows.table.weight)]
            adopted = weights.get(name, rows.table.weight[:0])
            grown[name] = torch.cat([adopted, rows.table.weight[len(adopted) :]])
        module.load_state_dict(grown)
        for rows in _rows(module):
            n_known = known[rows.key]
            start = rows.table.weight[:n_known].mean(0) if rows.start is None else rows.start
            rows.table.weight[n_known:] = start


def keep_known(module: CountDiffusionModule, known: Mapping[str, int]) -> None:
    """Freeze everything but the vectors and offsets of new levels.

    Parameters
    ----------
    module
        The module.
    known
        Name of a key -> number of its first levels, which stay as they are.
    """
    module.requires_grad_(False)
    module.denoiser.offsets.everyone.n_kept = 1
    for rows in _rows(module):
        rows.table.n_kept = known[rows.key]
        rows.table.weight.requires_grad_(rows.table.n_levels > rows.table.n_kept)


def weight_groups(module: nn.Module) -> list[dict[str, object]]:
    """Parameters to train, for an optimiser: tables of which a part is kept by themselves, for they must not decay.

    Parameters
    ----------
    module
        The module.
    """
    kept = {id(part.weight) for part in module.modules() if isinstance(part, LevelTable) and part.n_kept}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    whole = [parameter for parameter in trained if id(parameter) not in kept]
    partly = [parameter for parameter in trained if id(parameter) in kept]
    groups: list[dict[str, object]] = [{"params": whole}, {"params": partly, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _rows(module: CountDiffusionModule) -> Iterator[_Rows]:
    """All tables with a row for each level."""
    denoiser = module.denoiser
    has_nulls = denoiser.condition_dropout > 0
    for encoder in condition_encoders(denoiser):
        for key, table, null_token in encoder.tables():
            yield _Rows(key, table, null_token if has_nulls else None)
    for key, table in denoiser.offsets.named_tables().items():
        yield _Rows(key, table, torch.zeros(()))
