"""Perturbation studies with some conditions held out, and what simple rules predict for them.

A study is a set of training cells with a context (cell type) and a perturbation each, and some conditions whose cells
were taken away. A prediction is a set of cells in log1p(CP10k), shape ``(n_cells, n_genes)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import anndata as ad
import numpy as np
from _data import choose_genes, read
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from sccountsdiff import metrics

CONTROL = "control"
CONTEXT, PERTURBATION = "context", "perturbation"
KANG_TYPES = ("B", "CD14 Mono", "CD16 Mono", "CD4 Memory T", "CD4 Naive T", "CD8 T", "NK", "T activated")
N_FOLDS = 5
MIN_NEAREST = 10

Asked = tuple[str, str]
LogCells = NDArray[np.float64]


@dataclass(frozen=True)
class Study:
    """Training cells, and the conditions to predict.

    Parameters
    ----------
    train
        Counts with ``obs`` columns ``context`` and ``perturbation`` (``"control"`` for the control).
    test
        Cells of the conditions that were taken away, over the same genes.
    """

    train: ad.AnnData
    test: ad.AnnData

    @cached_property
    def log_train(self) -> LogCells:
        """Training cells in log1p(CP10k)."""
        return metrics.log1p_cp10k(self.train.X)

    @cached_property
    def log_test(self) -> LogCells:
        """Held-out cells in log1p(CP10k)."""
        return metrics.log1p_cp10k(self.test.X)

    @cached_property
    def pca(self) -> PCA:
        """30 components of the training cells."""
        return PCA(30, svd_solver="randomized", random_state=0).fit(self.log_train)

    @property
    def asked(self) -> list[Asked]:
        """The conditions that were taken away."""
        return list(dict.fromkeys(zip(self.test.obs[CONTEXT], self.test.obs[PERTURBATION], strict=True)))

    def rows(self, context: str, perturbation: str) -> NDArray[np.bool_]:
        """Training cells of a condition."""
        obs = self.train.obs
        return ((obs[CONTEXT] == context) & (obs[PERTURBATION] == perturbation)).to_numpy()

    def cells(self, context: str, perturbation: str) -> LogCells:
        """Training cells of a condition in log1p(CP10k)."""
        return self.log_train[self.rows(context, perturbation)]

    def real(self, asked: Asked) -> LogCells:
        """Held-out cells of a condition in log1p(CP10k)."""
        obs = self.test.obs
        return self.log_test[((obs[CONTEXT] == asked[0]) & (obs[PERTURBATION] == asked[1])).to_numpy()]

    def shifts(self, perturbation: str | None = None) -> Iterator[tuple[str, NDArray[np.float64]]]:
        """Contexts and their mean shifts from control, under one perturbation or under each of them."""
        for context, given in dict.fromkeys(zip(self.train.obs[CONTEXT], self.train.obs[PERTURBATION], strict=True)):
            wanted = given != CONTROL if perturbation is None else given == perturbation
            if wanted and self.rows(context, CONTROL).any():
                yield context, self.cells(context, given).mean(0) - self.cells(context, CONTROL).mean(0)


def scores(study: Study, predict: Callable[[Asked], LogCells], real: dict[Asked, LogCells] | None = None) -> dict:
    """Return the mean scores over the held-out conditions; ``real`` replaces their cells."""
    found = [_score(study, asked, predict(asked), real[asked] if real else study.real(asked)) for asked in study.asked]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def _score(study: Study, asked: Asked, predicted: LogCells, real: LogCells) -> dict[str, float]:
    control = study.cells(asked[0], CONTROL).mean(0)
    measured, forecast = real.mean(0) - control, predicted.mean(0) - control
    flat = forecast.std() == 0
    return {
        "pearson_delta": 0.0 if flat else float(np.corrcoef(measured, forecast)[0, 1]),
        "mse_delta": float(np.mean((measured - forecast) ** 2)),
        "e_distance": metrics.e_distance(study.pca.transform(real), study.pca.transform(predicted)),
    }


def real_half(study: Study, seed: int) -> dict[str, float]:
    """Return what one half of the held-out cells scores against the other: the ceiling for so many cells."""
    rng = np.random.default_rng(seed)
    halves = {asked: np.array_split(rng.permutation(study.real(asked)), 2) for asked in study.asked}
    return scores(study, lambda asked: halves[asked][0], {asked: half[1] for asked, half in halves.items()})


def control(study: Study, asked: Asked) -> LogCells:
    """No response: the control cells of the context."""
    return study.cells(asked[0], CONTROL)


def additive(study: Study, asked: Asked) -> LogCells:
    """Control cells plus the mean shift of each single perturbation over contexts; unmeasured ones add nothing."""
    moved = control(study, asked)
    for part in asked[1].split("+"):
        shifts = [shift for _, shift in study.shifts(part)]
        moved = moved + np.mean(shifts, axis=0) if shifts else moved
    return moved


def mean_response(study: Study, asked: Asked) -> LogCells:
    """Control cells plus the mean shift of all perturbed conditions."""
    return control(study, asked) + np.mean([shift for _, shift in study.shifts()], axis=0)


def nearest_context(study: Study, asked: Asked) -> str:
    """The context with the closest control profile, among those with at least ten perturbed cells."""
    own = control(study, asked).mean(0)
    others = [
        context
        for context, _ in study.shifts(asked[1])
        if context != asked[0] and study.rows(context, asked[1]).sum() >= MIN_NEAREST
    ]
    return min(others, key=lambda context: np.linalg.norm(study.cells(context, CONTROL).mean(0) - own))


def nearest_shift(study: Study, asked: Asked) -> LogCells:
    """Control cells plus the shift of the nearest context."""
    nearest = nearest_context(study, asked)
    return control(study, asked) + dict(study.shifts(asked[1]))[nearest]


def nearest_cells(study: Study, asked: Asked) -> LogCells:
    """Perturbed cells of the nearest context."""
    return study.cells(nearest_context(study, asked), asked[1])


def latent_shift(study: Study, asked: Asked) -> LogCells:
    """scGen's rule in 30 principal components: all perturbed minus all control cells of the other contexts."""
    latent = study.pca.transform(study.log_train)
    others = (study.train.obs[CONTEXT] != asked[0]).to_numpy()
    given = study.train.obs[PERTURBATION].to_numpy()
    shift = latent[others & (given == asked[1])].mean(0) - latent[others & (given == CONTROL)].mean(0)
    return study.pca.inverse_transform(latent[study.rows(asked[0], CONTROL)] + shift)


def kang(cell_type: str) -> Study:
    """Return the interferon study with the stimulated cells of one type held out."""
    adata = read("kang_ifnb")
    obs = adata.obs.astype(str)
    adata.obs[CONTEXT] = obs["cell_type"].to_numpy()
    adata.obs[PERTURBATION] = obs["condition"].replace("ctrl", CONTROL).to_numpy()
    return _split(adata, ((obs["cell_type"] == cell_type) & (obs["condition"] == "stim")).to_numpy())


def norman(fold: int, seed: int) -> Study:
    """Return the CRISPRa study with one fifth of the double perturbations held out."""
    adata = read("norman_sub")
    adata.obs[CONTEXT] = "K562"
    adata.obs[PERTURBATION] = adata.obs["perturbation"].astype(str).to_numpy()
    doubles = sorted({name for name in adata.obs[PERTURBATION] if "+" in name})
    held_out = np.random.default_rng(seed).permutation(doubles)[fold::N_FOLDS]
    return _split(adata, adata.obs[PERTURBATION].isin(held_out).to_numpy())


def _split(adata: ad.AnnData, held_out: NDArray[np.bool_]) -> Study:
    """Genes are chosen on training cells."""
    adata = ad.AnnData(adata.X.tocsr().astype(np.float32), adata.obs[[CONTEXT, PERTURBATION]], adata.var[[]])
    adata = adata[:, choose_genes(adata.X[~held_out])]
    return Study(adata[~held_out].copy(), adata[held_out].copy())
