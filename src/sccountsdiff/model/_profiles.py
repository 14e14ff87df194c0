"""Mean profiles of the conditions in the data, as forecasts need them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sccountsdiff.conditioning import LIBRARY_SIZE, CombinationKey, Profiles
from sccountsdiff.model._module import Cells
from sccountsdiff.model._text import listed
from sccountsdiff.sampling import log1p_cp10k

#: Similarity of perturbations that are the median distance apart is exp(-4), about 2 %.
_NARROW = 4.0


@dataclass(frozen=True)
class MeasuredProfiles:
    """Profiles of the measured conditions, and which condition each row is.

    Attributes
    ----------
    profiles
        The profiles.
    contexts
        Codes of the context keys -> number of the context.
    """

    profiles: Profiles
    contexts: dict[tuple[int, ...], int]


def measure_profiles(
    minibatches: Iterable[Cells], context_names: Sequence[str], key: CombinationKey, control: int
) -> MeasuredProfiles:
    """Average log1p(CP10k) over the cells of each condition.

    Cells with unmeasured genes are left out, since their totals are unknown.

    Parameters
    ----------
    minibatches
        The cells.
    context_names
        Categorical keys that make up the context.
    key
        Key of the perturbation.
    control
        Level of the control.
    """
    totals: dict[tuple[int, ...], Tensor] = {}
    n_cells: dict[tuple[int, ...], int] = {}
    squares = torch.zeros(1, dtype=torch.float64)
    for cells in minibatches:
        measured = cells.condition[LIBRARY_SIZE].reshape(len(cells.counts), -1).isfinite().all(-1)
        values = log1p_cp10k(cells.counts[measured]).double().cpu()
        codes = torch.stack([cells.condition[name][measured].cpu() for name in (*context_names, key.name)], -1)
        squares = squares + values.square().sum(0)
        for condition in map(tuple, torch.unique(codes, dim=0).tolist()):
            block = values[(codes == torch.tensor(condition)).all(-1)]
            totals[condition] = totals.get(condition, 0) + block.sum(0)
            n_cells[condition] = n_cells.get(condition, 0) + len(block)
    return _assemble(totals, n_cells, squares, key, control)


def _assemble(
    totals: dict[tuple[int, ...], Tensor],
    n_cells: dict[tuple[int, ...], int],
    squares: Tensor,
    key: CombinationKey,
    control: int,
) -> MeasuredProfiles:
    conditions = sorted(totals)
    number = torch.tensor([n_cells[condition] for condition in conditions], dtype=torch.float64)
    mean = torch.stack([totals[condition] for condition in conditions]) / number[:, None]
    within = squares - (number[:, None] * mean.square()).sum(0)
    contexts = {context: i for i, context in enumerate(sorted({condition[:-1] for condition in conditions}))}
    profiles = Profiles(
        mean,
        number,
        within.clamp_min(0) / max(float(number.sum()) - len(conditions), 1.0),
        torch.tensor([contexts[condition[:-1]] for condition in conditions]),
        effective_members(key, torch.tensor([condition[-1] for condition in conditions]), control),
        None if key.vectors is None else similarity(key.vectors.double()),
    )
    return MeasuredProfiles(profiles, contexts)


def wanted_profile(profile: pd.Series, genes: pd.Index) -> Tensor:
    """Mean of log1p(CP10k) of each gene of the model, NaN where the profile does not name it, ``(n_genes,)``.

    Raises
    ------
    ValueError
        If it names genes that the model does not know, a gene twice, or a value is no number of at least 0.
    """
    unknown = profile.index[~profile.index.isin(genes)]
    if len(unknown):
        raise ValueError(f"profile names genes that the model does not know: {listed(unknown)}. Drop them.")
    twice = profile.index[profile.index.duplicated()]
    if len(twice):
        raise ValueError(f"profile names genes more than once: {listed(twice)}. Keep one value for each.")
    values = profile.to_numpy(dtype=float)
    wrong = ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise ValueError(
            f"profile must be the mean of log1p(CP10k), at least 0; it is not for {listed(profile.index[wrong])}."
        )
    return torch.tensor(profile.reindex(genes).to_numpy(dtype=float))


def effective_members(key: CombinationKey, codes: Tensor, control: int) -> Tensor:
    """Members of each set without the control, ``(n, n_levels)``: the control is the empty set."""
    members = key.members(codes).double()
    members[:, control] = 0
    return members


def similarity(vectors: Tensor) -> Tensor:
    """Gaussian kernel of given vectors, ``(n_levels, n_levels)``: those a median distance apart have nothing in common."""
    distance = torch.cdist(vectors, vectors) ** 2
    positive = distance[distance > 0]
    return torch.exp(-_NARROW * distance / positive.median()) if len(positive) else torch.ones_like(distance)
