r"""What do conditions look like that were never measured?

``kang_*``: the interferon-stimulated cells of one type are held out (every type with at least 40 of them).
``norman_*``: one fifth of the double perturbations is held out (five folds). The 2,000 most dispersed genes of the
training cells; scores are means over the held-out conditions:

- ``pearson_delta``: over genes, correlation of predicted and measured change of mean log1p(CP10k) from the measured
  control cells of the same type; ``mse_delta``: mean squared difference of the two;
- ``e_distance``: unbiased energy distance (Euclidean, not squared) to the held-out cells in 30 principal components of
  the log1p(CP10k) of training cells.

``real_half`` is one half of the held-out cells against the other. The rules (``control``, ``additive``,
``mean_response``, ``nearest_*``, ``latent_shift``) are in ``_studies.py``, conditional scVI (``scvi_conditional``) and
scGen's rule on scVI (``scvi_shift``) in ``_scvi_forecast.py``. CountsDiff generates 500 cells from zeros
by ``joint``, ``contrast`` and ``forecast``; ``cells`` moves the control cells themselves (``from_adata``,
``strength=0``); ``guided`` and ``attrition`` are joint at guidance scale 2 and at attrition 0.3.

``papalexi``: 80 % of the cells of each knock-down are trained on, and each knock-down is generated.
``strength_pearson`` is the correlation over knock-downs of the energy distance to non-targeting cells, generated
against held-out; ``control_e_distance`` that of generated non-targeting cells to held-out ones, and ``floor`` that of
the training cells.
"""

from __future__ import annotations

import argparse
import copy
import functools
from collections.abc import Callable

import anndata as ad
import numpy as np
from _data import read, split_cells
from _record import Record, arguments, run
from _studies import (
    CONTEXT,
    CONTROL,
    KANG_TYPES,
    N_FOLDS,
    PERTURBATION,
    Asked,
    LogCells,
    Study,
    additive,
    control,
    kang,
    latent_shift,
    mean_response,
    nearest_cells,
    nearest_shift,
    norman,
    real_half,
    scores,
)
from _training import QUIET, prepare
from sklearn.decomposition import PCA

from sccountsdiff import CountsDiff, metrics

KANG = {f"kang_{name.replace(' ', '_')}": name for name in KANG_TYPES}
NORMAN = {f"norman_{fold}": fold for fold in range(N_FOLDS)}
PAPALEXI = "papalexi"
RULES = {rule.__name__: rule for rule in (control, additive, mean_response)}
CONTEXT_RULES = {rule.__name__: rule for rule in (nearest_shift, nearest_cells, latent_shift)}
OURS: dict[str, dict] = {
    "countsdiff_joint": {"method": "joint"},
    "countsdiff_guided": {"method": "joint", "guidance": 2.0},
    "countsdiff_attrition": {"method": "joint", "attrition": 0.3},
    "countsdiff_contrast": {"method": "contrast"},
    "countsdiff_forecast": {"method": "forecast"},
}
CELLS = "countsdiff_cells"
SCVI = ("scvi_conditional", "scvi_shift")
METHODS = ("real_half", *RULES, *CONTEXT_RULES, *SCVI, *OURS, CELLS)
SCORES = {"pearson_delta": 3, "e_distance": 2, "mse_delta": 4, "strength_pearson": 3, "control_e_distance": 3}
N_GENERATED = 500
PAPALEXI_METHODS = ("real_half", "countsdiff_joint", "countsdiff_forecast", "scvi_conditional")


def applicable(method: str, data: str) -> bool:
    """Whether a method can answer the question of a data set."""
    if data == PAPALEXI:
        return method in PAPALEXI_METHODS
    return data in KANG or method not in CONTEXT_RULES


@functools.lru_cache(maxsize=1)
def study(data: str, seed: int) -> Study:
    """Return the study behind a name."""
    return kang(KANG[data]) if data in KANG else norman(NORMAN[data], seed)


@functools.lru_cache(maxsize=1)
def countsdiff_model(data: str, seed: int, max_epochs: int | None) -> CountsDiff:
    """Return CountsDiff fitted to the training cells; one fit serves all ways of asking."""
    train = knock_downs(seed)[0] if data == PAPALEXI else study(data, seed).train
    names = {"perturbation_embeddings": unit_vectors(study(data, seed))} if data in NORMAN else {}
    prepare(seed)
    CountsDiff.setup_anndata(train, labels_key=CONTEXT, perturbation_key=PERTURBATION, control=CONTROL, **names)
    model = CountsDiff(train)
    model.train(max_epochs=max_epochs, **QUIET)
    return model


def unit_vectors(asked_of: Study) -> dict[str, np.ndarray]:
    """Return orthogonal vectors: some doubles hold genes without any training cell, which must have a name at least."""
    texts = {*asked_of.train.obs[PERTURBATION], *asked_of.test.obs[PERTURBATION]} - {CONTROL}
    names = sorted({part for text in texts for part in text.split("+")})
    return dict(zip(names, np.eye(len(names)), strict=True))


@functools.lru_cache(maxsize=1)
def scvi_model(method: str, data: str, seed: int, max_epochs: int | None):
    """Return scVI fitted to the training cells."""
    from _scvi_forecast import FORECASTERS

    train = knock_downs(seed)[0] if data == PAPALEXI else study(data, seed).train
    return FORECASTERS[method](train, seed, max_epochs)


def predictor(method: str, data: str, seed: int, max_epochs: int | None) -> Callable[[Asked], LogCells]:
    """Return the function from a held-out condition to predicted cells."""
    asked_of = study(data, seed)
    if method in RULES | CONTEXT_RULES:
        return functools.partial((RULES | CONTEXT_RULES)[method], asked_of)
    if method in SCVI:
        return functools.partial(scvi_cells, scvi_model(method, data, seed, max_epochs))
    model = countsdiff_model(data, seed, max_epochs)
    if method == CELLS:
        return functools.partial(moved_cells, model, seed)
    return functools.partial(generated_cells, model, seed, OURS[method])


def generated_cells(model: CountsDiff, seed: int, options: dict, asked: Asked) -> LogCells:
    """Return cells generated from zeros."""
    condition = {CONTEXT: asked[0], PERTURBATION: asked[1]}
    return metrics.log1p_cp10k(model.generate(condition, N_GENERATED, seed=seed, **options).X)


def moved_cells(model: CountsDiff, seed: int, asked: Asked) -> LogCells:
    """Return the control cells of the context under the other condition, each several times."""
    cells = control_cells(model.adata, asked[0])
    cells = ad.concat([cells] * max(1, round(N_GENERATED / cells.n_obs)), index_unique="-")
    options = {"from_adata": cells, "strength": 0.0, "method": "forecast"}
    return metrics.log1p_cp10k(model.generate({PERTURBATION: asked[1]}, seed=seed, **options).X)


def scvi_cells(model, asked: Asked) -> LogCells:
    """Return what scVI makes of the control cells of the context."""
    return metrics.log1p_cp10k(model.predict(asked, N_GENERATED))


def control_cells(adata: ad.AnnData, context: str) -> ad.AnnData:
    """Return the control cells of a context."""
    return adata[((adata.obs[CONTEXT] == context) & (adata.obs[PERTURBATION] == CONTROL)).to_numpy()].copy()


@functools.lru_cache(maxsize=1)
def knock_downs(seed: int) -> tuple[ad.AnnData, ad.AnnData]:
    """Return training and held-out cells of the knock-down study."""
    adata = read("papalexi_thp1")
    target = adata.obs["perturbation"].astype(str).replace("non-targeting", CONTROL).to_numpy()
    cells = ad.AnnData(adata.X.tocsr().astype(np.float32), {CONTEXT: "THP-1", PERTURBATION: target}, adata.var[[]])
    cells = cells[np.asarray(cells.X.sum(1)).ravel() > 0]
    return tuple(cells[rows].copy() for rows in split_cells(cells.n_obs, seed))


def strength(method: str, seed: int, max_epochs: int | None) -> dict[str, float]:
    """Return how well the strength of each knock-down is recovered."""
    train, test = knock_downs(seed)
    pca = PCA(30, svd_solver="randomized", random_state=0).fit(metrics.log1p_cp10k(train.X))
    parts = [
        {
            name: pca.transform(metrics.log1p_cp10k(cells.X[(cells.obs[PERTURBATION] == name).to_numpy()]))
            for name in names
        }
        for cells, names in ((half, sorted(set(half.obs[PERTURBATION]))) for half in (train, test))
    ]
    source = {"real_half": lambda name: parts[0][name]}.get(method)
    predict = source or (lambda name: pca.transform(knocked_down(method, name, seed, max_epochs)))
    names = [name for name in parts[1] if name != CONTROL]
    off_target = predict(CONTROL)
    real = [metrics.e_distance(parts[1][CONTROL], parts[1][name]) for name in names]
    generated = [metrics.e_distance(off_target, predict(name)) for name in names]
    return {
        "strength_pearson": float(np.corrcoef(real, generated)[0, 1]),
        "control_e_distance": metrics.e_distance(parts[1][CONTROL], off_target),
        "floor": metrics.e_distance(parts[1][CONTROL], parts[0][CONTROL]),
    }


def knocked_down(method: str, name: str, seed: int, max_epochs: int | None) -> LogCells:
    """Return generated cells of one knock-down; the control itself is never forecast."""
    asked = ("THP-1", name)
    if method in SCVI:
        return scvi_cells(scvi_model(method, PAPALEXI, seed, max_epochs), asked)
    options = OURS["countsdiff_joint" if name == CONTROL else method]
    return generated_cells(countsdiff_model(PAPALEXI, seed, max_epochs), seed, options, asked)


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, (*KANG, *NORMAN, PAPALEXI)).parse_args()
    record = Record(options.results / "perturbation.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        if data == PAPALEXI:
            return strength(method, seed, options.max_epochs)
        if method == "real_half":
            return real_half(study(data, seed), seed)
        return scores(study(data, seed), predictor(method, data, seed, options.max_epochs))

    for data in [] if options.table else options.data:
        part = argparse.Namespace(**copy.copy(vars(options)))
        part.data, part.methods = [data], [method for method in options.methods if applicable(method, data)]
        run(record, part, job)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.means_table(score, digits, ('kang', 'norman'))}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
