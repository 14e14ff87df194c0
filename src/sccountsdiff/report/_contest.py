"""Generated cells and those they compete with: real cells, cells without correlations, the mean profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from sccountsdiff import metrics
from sccountsdiff.model import CellsRead
from sccountsdiff.report._laws import Profile
from sccountsdiff.report._scores import FLOOR, MODEL
from sccountsdiff.report._study import Study, groups

FEWEST_CELLS = 10
MOST_CONDITIONS = 20
INDEPENDENT, MEAN_PROFILE, NEAREST = "independent genes", "mean profile", "nearest other"
ALL = "all cells"
#: Between the values that make the name of a condition.
JOINT_NAME = " / "


class CellSet(NamedTuple):
    """Cells with the condition that each was asked for or measured under.

    Attributes
    ----------
    counts
        ``(n_cells, n_genes)``.
    labels
        Name of the condition, ``(n_cells,)``.
    """

    counts: NDArray[np.float64]
    labels: NDArray[np.str_]

    def of(self, name: str) -> NDArray[np.float64]:
        """Counts of the cells of a condition.

        Parameters
        ----------
        name
            The condition.

        Returns
        -------
        ``(n_cells, n_genes)``.
        """
        return self.counts[self.labels == name]

    def rows(self, chosen: NDArray[Any]) -> CellSet:
        """Some of the cells.

        Parameters
        ----------
        chosen
            Positions or booleans.

        Returns
        -------
        The cells.
        """
        return CellSet(self.counts[chosen], self.labels[chosen])


class Contest(NamedTuple):
    """Everything that is compared.

    Attributes
    ----------
    keys
        Columns of ``obs`` that make a condition.
    real
        Held-out cells.
    basis
        Training cells that embeddings and classifiers are fitted to.
    entrants
        Name -> cells: the model, cells with independent genes, the mean profile, and other real cells as the floor.
    generated
        What the model returned.
    """

    keys: list[str]
    real: CellSet
    basis: CellSet
    entrants: dict[str, CellSet]
    generated: AnnData

    @property
    def names(self) -> list[str]:
        """The conditions, the one with most held-out cells first."""
        return groups(self.real.labels, 1, MOST_CONDITIONS)

    def nearest_other(self, name: str) -> NDArray[np.float64]:
        """Training cells of the other condition that is most like one of them.

        Parameters
        ----------
        name
            A condition.

        Returns
        -------
        Counts ``(n_cells, n_genes)``; of all cells if there is no other condition with at least two.
        """
        # Two cells at least, as distances within a set need.
        others = [other for other in groups(self.basis.labels, 2, len(self.basis.labels)) if other != name]
        if not others:
            return self.basis.counts
        aim = metrics.log1p_cp10k(self.real.of(name)).mean(0)
        distance = [np.sum((metrics.log1p_cp10k(self.basis.of(other)).mean(0) - aim) ** 2) for other in others]
        return self.basis.of(others[int(np.argmin(distance))])


def contest(on: Study, condition: Any, options: Mapping[str, Any]) -> Contest:
    """Generate cells for the conditions of the held-out cells, and gather what to compare them with.

    Parameters
    ----------
    on
        The cells.
    condition
        Conditions to judge; None is those of the held-out cells.
    options
        Further arguments of ``model.generate``.

    Returns
    -------
    The contest. Real cells that serve as the floor are training cells outside the basis; of a condition without
    training cells they are a half of the held-out cells, which then is not among the real ones.

    Raises
    ------
    ValueError
        If no condition has at least 10 held-out cells.
    """
    keys = _keys(on)
    wanted = None if condition is None else _rows(condition)
    real, train = (_named(cells, read, keys, wanted) for cells, read in _parts(on))
    kept = groups(real.labels, FEWEST_CELLS, MOST_CONDITIONS)
    if not kept:
        raise ValueError(
            f"No condition has {FEWEST_CELLS} held-out cells to compare with (there are {len(real.labels)}). Pass cells "
            "that the model has not seen as adata=, or train with a smaller train_size."
        )
    real = real.rows(np.isin(real.labels, kept))
    everyone = _named(on.train, on.train_read, keys, None)
    rng = np.random.default_rng(on.seed)
    in_basis = rng.random(len(everyone.labels)) < 0.5
    real, floor = _with_floor(real, everyone.rows(~in_basis), kept, rng)
    generated = _generated(on, keys, floor, kept, options)
    entrants = {
        MODEL: CellSet(_dense(generated.X), _labels(generated.obs, keys)),
        INDEPENDENT: _independent(floor, rng),
        MEAN_PROFILE: _mean_profile(everyone, floor, rng),
        FLOOR: floor,
    }
    return Contest(keys, real, everyone.rows(in_basis), entrants, generated)


def _keys(on: Study) -> list[str]:
    keys = [on.groupby, on.model.registry["setup_args"].get("perturbation_key")]
    return list(dict.fromkeys(key for key in keys if key is not None))


def _parts(on: Study) -> list[tuple[AnnData, CellsRead]]:
    return [(on.held_out, on.held_out_read), (on.train, on.train_read)]


def _rows(condition: Any) -> pd.DataFrame:
    """Conditions, one a row."""
    return pd.DataFrame([condition] if isinstance(condition, Mapping) else condition)


def _labels(obs: pd.DataFrame, keys: Sequence[str]) -> NDArray[np.str_]:
    """Name of the condition of each cell."""
    if not keys:
        return np.full(len(obs), ALL)
    return obs[list(keys)].astype(str).agg(JOINT_NAME.join, axis=1).to_numpy(dtype=str)


def _named(cells: AnnData, read: CellsRead, keys: Sequence[str], wanted: pd.DataFrame | None) -> CellSet:
    """Cells with the names of their conditions, those of the wanted ones only."""
    found = CellSet(read.counts, _labels(cells.obs, keys))
    if wanted is None:
        return found
    columns = [name for name in wanted.columns if name in cells.obs]
    asked = set(_labels(wanted, columns))
    return found.rows(np.isin(_labels(cells.obs, columns), list(asked)))


def _with_floor(
    real: CellSet, train: CellSet, names: Sequence[str], rng: np.random.Generator
) -> tuple[CellSet, CellSet]:
    """Real cells to compare with, and other real cells of the same conditions."""
    floors, taken = [], np.zeros(len(real.labels), dtype=bool)
    for name in names:
        if (train.labels == name).sum() >= FEWEST_CELLS:
            floors.append(train.rows(train.labels == name))
            continue
        half = rng.permutation(np.flatnonzero(real.labels == name))[::2]
        floors.append(real.rows(half))
        taken[half] = True
    return real.rows(~taken), CellSet(*(np.concatenate(part) for part in zip(*floors, strict=True)))


def _generated(
    on: Study, keys: Sequence[str], floor: CellSet, names: Sequence[str], options: Mapping[str, Any]
) -> AnnData:
    """As many cells of each condition as there are in the floor."""
    n_cells = [int((floor.labels == name).sum()) for name in names]
    if not keys:
        return on.model.generate(None, n_cells[0], seed=on.seed, **options)
    everywhere = pd.concat([on.held_out.obs[list(keys)], on.train.obs[list(keys)]])
    values = everywhere.set_axis(_labels(everywhere, keys)).groupby(level=0, observed=True).first()
    conditions = values.loc[list(names)].to_dict("records")
    return on.model.generate(conditions, n_cells, seed=on.seed, **options)


def _independent(cells: CellSet, rng: np.random.Generator) -> CellSet:
    """Each gene permuted among the cells of a condition: right genes, no cell."""
    counts = cells.counts.copy()
    for name in np.unique(cells.labels):
        counts[cells.labels == name] = rng.permuted(cells.of(name), axis=0)
    return CellSet(counts, cells.labels)


def _mean_profile(train: CellSet, like: CellSet, rng: np.random.Generator) -> CellSet:
    """Negative-binomial counts around the mean profile of all training cells, whatever the condition."""
    measured = np.ones(train.counts.shape, dtype=bool)
    law = Profile(CellsRead(train.counts, measured)).law(like.counts.sum(1))
    return CellSet(law.draw(rng).astype(np.float64), like.labels)


def _dense(counts: Any) -> NDArray[np.float64]:
    return np.asarray(counts.toarray(), dtype=np.float64)
