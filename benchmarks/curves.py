r"""What do grids, births, starts, guidance and attrition do to generated cells?

One model a data set and seed, trained on 80 % of the cells with their labels (2,000 most dispersed genes of these), as
in ``celltypes.py``. Up to 1,000 of its training cells lend each walk their labels and library sizes, so that walks
differ in nothing but their settings; genes are drawn together, as ``generate`` does:

- ``zeros_GRID_BIRTHS_STEPS``: from empty cells;
- ``empirical_SURVIVAL_STEPS``: from these cells thinned to that survival, geometric grid, Poisson births;
- ``guided_SCALE_ATTRITION``: 20 geometric steps with Poisson births at a guidance scale and an attrition rate.

Scores against the held-out cells: ``mmd2_over_floor`` (see ``generation.py``), ``gene_correlation_agreement`` of the 100
most abundant genes, mean and SD of the library size over those of the cells that lent theirs,
``auc_log`` of a forest on log1p(CP10k) (0.5: told apart by chance alone) and ``label_accuracy``, the part recognised as
what was asked for. ``real`` are the training cells that lent their labels. ``--figure`` draws the curves.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import anndata as ad
import numpy as np
import scipy.sparse as sp
import torch
from _record import RESULTS, Record, arguments, run
from celltypes import TypeRuler, countsdiff_model, split

from sccountsdiff import CountsDiff, metrics
from sccountsdiff.conditioning import LIBRARY_SIZE, ClassifierFreeGuidance
from sccountsdiff.process import BIRTHS, SCHEDULES, GeometricSchedule, Schedule
from sccountsdiff.sampling import CovaryingRates, RescaledAttrition, Sampler, survival_grid

DATASETS = ("pbmc68k", "pbmc3k")
N_CELLS = 1_000
BATCH = 250
FIGURE = RESULTS.parent.parent / "docs" / "figures" / "curves.png"


@dataclass(frozen=True)
class Walk:
    """Settings of a walk.

    Parameters
    ----------
    n_steps
        Number of steps.
    grid, births
        Names of survival schedule and of birth draw.
    start
        Survival of the cells that the walk starts from; 0 is nothing.
    guidance, attrition
        Guidance scale and attrition rate.
    """

    n_steps: int = 20
    grid: str = "geometric"
    births: str = "poisson"
    start: float = 0.0
    guidance: float = 1.0
    attrition: float = 0.0


STEPS = (2, 5, 10, 20, 50, 100)
GRIDS = ("geometric", "cosine", "linear", "blackout")
STARTS = (0.01, 0.05, 0.2)
ZEROS = {f"zeros_{grid}_poisson_{n}": Walk(n, grid) for grid in GRIDS for n in STEPS}
BORN = {f"zeros_geometric_{births}_{n}": Walk(n, births=births) for births in ("posterior", "binomial") for n in STEPS}
STARTED = {f"empirical_{start}_{n}": Walk(n, start=start) for start in STARTS for n in (1, 2, 4, 8)}
GUIDED = {
    f"guided_{scale}_{rate}": Walk(guidance=scale, attrition=rate)
    for scale in (1.0, 1.5, 2.0, 3.0)
    for rate in (0.0, 0.05, 0.2, 0.5)
}
WALKS = ZEROS | BORN | STARTED | GUIDED
METHODS = ("real", *WALKS)
#: What a panel of the figure compares: walks by the part of their names before the number of steps.
FAMILIES = {
    "grid": [f"zeros_{grid}_poisson" for grid in GRIDS],
    "births": [f"zeros_geometric_{births}" for births in ("poisson", "posterior", "binomial")],
    "start": ["zeros_geometric_poisson", *(f"empirical_{start}" for start in STARTS)],
}
SCORES = {
    "mmd2_over_floor": 2,
    "auc_log": 3,
    "gene_correlation_agreement": 3,
    "library_size_mean_ratio": 3,
    "library_size_sd_ratio": 3,
    "label_accuracy": 3,
}


class Walker:
    """Walks back cells with the labels and library sizes of training cells.

    Parameters
    ----------
    model
        A model of labelled cells.
    seed
        Seed of the choice of cells and of the walks.
    """

    def __init__(self, model: CountsDiff, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.model, self.seed = model, seed
        self.cells = model.adata[rng.permutation(model.adata.n_obs)[:N_CELLS]].copy()
        codes = np.searchsorted(sorted(set(model.adata.obs["label"])), self.cells.obs["label"].to_numpy().astype(str))
        self.codes, self.totals = torch.as_tensor(codes), torch.as_tensor(self.cells.X.sum(1).A1)

    def walk(self, options: Walk) -> sp.csr_matrix:
        """Return the counts of one walk."""
        generator = torch.Generator().manual_seed(self.seed)
        denoiser = self.model.module.denoiser
        sampler = Sampler(
            self.model.module.objective.process,
            ClassifierFreeGuidance(options.guidance).wrap(denoiser),
            BIRTHS[options.births](),
            RescaledAttrition(options.attrition),
            CovaryingRates(denoiser.covariation, denoiser.library),
        )
        grid = survival_grid(self.schedule(options.grid), options.n_steps, options.start)
        drawn = []
        for rows in torch.arange(len(self.totals)).split(BATCH):
            condition = {"label": self.codes[rows], LIBRARY_SIZE: self.totals[rows]}
            whole = torch.as_tensor(self.cells.X[rows.numpy()].toarray())
            start = sampler.process.begin(whole, options.start, torch.ones(len(rows), 1), generator)
            drawn.append(sp.csr_matrix(sampler.sample(start, condition, grid, generator=generator).numpy()))
        return sp.vstack(drawn).tocsr()

    def schedule(self, name: str) -> Schedule:
        """Return a schedule; the geometric one from one molecule of a mean library."""
        return GeometricSchedule(1 / float(self.totals.mean())) if name == "geometric" else SCHEDULES[name]()


def scores(ruler: TypeRuler, lenders: ad.AnnData, counts: sp.csr_matrix) -> dict[str, float]:
    """Return all scores of cells with the labels of others."""
    embedded = ruler.whole.pca.transform(counts)
    found = ruler.whole.scores(counts)
    return {name: found[name] for name in ("mmd2_over_floor", "gene_correlation_agreement", "auc_log")} | {
        "library_size_mean_ratio": metrics.library_size_mean_ratio(lenders.X, counts),
        "library_size_sd_ratio": metrics.library_size_sd_ratio(lenders.X, counts),
        "label_accuracy": metrics.label_transfer_accuracy(
            ruler.whole.train_scores, ruler.train.obs["label"].to_numpy(), embedded, lenders.obs["label"].to_numpy()
        ),
    }


@functools.lru_cache(maxsize=1)
def walker(data: str, seed: int, max_epochs: int | None) -> Walker:
    """Return the walker of one fit; all walks reuse it."""
    return Walker(countsdiff_model(data, seed, max_epochs), seed)


def main() -> None:
    """Fill the record, print the tables and draw the figure."""
    parser = arguments(__doc__, METHODS, DATASETS)
    parser.add_argument("--figure", action="store_true", help="draw the curves from the results, too")
    options = parser.parse_args()
    record = Record(options.results / "curves.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        ruler, walks = split(data, seed)[1], walker(data, seed, options.max_epochs)
        counts = walks.cells.X if method == "real" else walks.walk(WALKS[method])
        return scores(ruler, walks.cells, counts)

    if not options.table:
        run(record, options, job)
    if options.figure:
        from _curves_figure import draw_figure

        measured = [data for data in DATASETS if any(data == where for _, where in record.values("auc_log"))]
        draw_figure(FIGURE, record, FAMILIES, measured)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
