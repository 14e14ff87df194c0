r"""The paper's simulated counts: count diffusion beside Gaussian and masked diffusion, on the core alone.

20,000 rows of ten correlated gamma-Poisson dimensions to train on, 4,000 drawn and scored against 4,000 fresh rows
(``_toy.py``): sliced Wasserstein distance of whole rows (500 directions, root mean square), MMD^2 of whole rows and of
single dimensions, mean W1 of single dimensions, and ``variance_error``, the mean over dimensions of
\|variance / true variance - 1\|. ``real`` is one more set of real rows: the floor. ``swd_excess`` is what is left of the
sliced distance without that of fresh real rows, ``sqrt(max(0, swd^2 - floor^2))``.

All networks are residual MLPs of width 64, trained alike (``_core.py``) for as many steps as the data are named after:
``toy_400`` is the paper's own budget, ``toy_3000`` lets every family converge. Every walk uses the survivals its network
was trained on:

- ``countsdiff``: default form (conjugate head, bound, Poisson births, geometric grid); ``_posterior`` and ``_binomial``
  are the other births of the same network, ``_20`` walks in 20 steps in place of 200;
- ``countsdiff_cosine``, ``_blackout``, ``_linear``, ``_geometric``: the paper's loss under each schedule, and the same
  schedule in the walk; ``countsdiff_paper`` is the paper's form whole (softplus head on log counts, cosine, rounded
  binomial births, attrition .005);
- ``masked``: masked diffusion of count tokens (the core of :class:`~sccountsdiff.DCM`), 200 steps or ``_20``;
- ``gaussian``: DDPM on log counts in 200 steps (``_gaussian.py``);
- ``published_*``: numbers of the paper's own notebook, quoted: one run of 400 training steps, where CountsDiff was
  trained on Blackout's schedule and sampled on the cosine schedule. Its joint MMD was printed to three digits.

``--figure FILE`` draws marginals, a joint density and variances with the first seed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from _core import fit
from _gaussian import gaussian
from _record import Record, arguments, run
from _toy import N_DIMS, N_TRAIN, N_VALIDATION, draw, scores, squared_floor
from _toy_figure import draw_figure
from torch import Tensor

from sccountsdiff.nets import Denoiser, GeneMLP
from sccountsdiff.objective import BoundWeighting, Objective, PaperWeighting, ScheduledSurvival, UniformSurvival
from sccountsdiff.process import BIRTHS, SCHEDULES, Absorbing, GeometricSchedule, LinearSchedule, Schedule, Thinning
from sccountsdiff.sampling import NoAttrition, RescaledAttrition, Sampler, survival_grid

#: Data -> training steps of every network.
TRAINING_STEPS = {"toy_400": 400, "toy_3000": 3000}
#: Rows hold about ten molecules, so that walks need no survival below this.
ALPHA_MIN = 0.01
SCORES = {"joint_swd": 3, "swd_excess": 3, "variance_error": 3, "joint_mmd2": 5, "marginal_mmd2": 5, "marginal_w1": 3}


@dataclass(frozen=True)
class Form:
    """How a network is trained: what it is, what it is trained on, and the schedule of its walks."""

    objective: Objective
    schedule: Schedule
    head: str = "conjugate"
    input: str = "residual"


def _scheduled(schedule: Schedule, **form: str) -> Form:
    return Form(Objective(Thinning(), ScheduledSurvival(schedule), PaperWeighting()), schedule, **form)


FORMS = {
    "default": Form(
        Objective(Thinning(), UniformSurvival(floor=ALPHA_MIN), BoundWeighting()), GeometricSchedule(ALPHA_MIN)
    ),
    "paper": _scheduled(SCHEDULES["cosine"](), head="softplus", input="log"),
    "cosine": _scheduled(SCHEDULES["cosine"]()),
    "blackout": _scheduled(SCHEDULES["blackout"]()),
    "linear": _scheduled(SCHEDULES["linear"]()),
    "geometric": _scheduled(GeometricSchedule(ALPHA_MIN)),
    "masked": Form(
        Objective(Absorbing(), UniformSurvival(log_fraction=0.0), BoundWeighting()), LinearSchedule(), head="tokens"
    ),
}


@dataclass(frozen=True)
class Walk:
    """A sample of a trained network."""

    form: str
    births: str = "poisson"
    n_steps: int = 200
    attrition: float = 0.0

    def __call__(self, seed: int, training_steps: int) -> Tensor:
        """Return counts ``(4000, 10)``."""
        form = FORMS[self.form]
        attrition = RescaledAttrition(self.attrition) if self.attrition else NoAttrition()
        denoiser = trained(self.form, seed, training_steps)
        sampler = Sampler(form.objective.process, denoiser, BIRTHS[self.births](), attrition)
        grid = survival_grid(form.schedule, self.n_steps)
        generator = torch.Generator().manual_seed(seed)
        return sampler.sample(torch.zeros(N_VALIDATION, N_DIMS), {}, grid, generator=generator)


@functools.cache
def rows(seed: int) -> dict[str, Tensor]:
    """Return training rows, the rows that samples are scored against, and as many for the floor."""
    generator = torch.Generator().manual_seed(1000 + seed)
    sizes = {"train": N_TRAIN, "validation": N_VALIDATION, "floor": N_VALIDATION}
    return {name: draw(n, generator) for name, n in sizes.items()}


@functools.cache
def trained(form: str, seed: int, training_steps: int) -> Denoiser:
    """Return a trained network."""
    torch.manual_seed(seed)
    counts, how = rows(seed)["train"], FORMS[form]
    denoiser = GeneMLP(
        N_DIMS,
        head=how.head,
        input=how.input,
        n_hidden=64,
        dropout=0.0,
        condition_dropout=0.0,
        gene_mean=counts.mean(0),
        library_mean=float(counts.sum(-1).mean()),
    )
    return fit(denoiser, how.objective, counts, {}, training_steps, seed)


def real(seed: int, training_steps: int) -> Tensor:
    """Return real rows."""
    return rows(seed)["floor"]


def gaussian_rows(seed: int, training_steps: int) -> Tensor:
    """Return rows of Gaussian diffusion."""
    torch.manual_seed(seed)
    model = gaussian(rows(seed)["train"], training_steps, seed)
    return model.sample(N_VALIDATION, torch.Generator().manual_seed(seed))


SAMPLES: dict[str, Callable[[int, int], Tensor]] = {
    "real": real,
    "countsdiff": Walk("default"),
    "countsdiff_posterior": Walk("default", "posterior"),
    "countsdiff_binomial": Walk("default", "binomial"),
    "gaussian": gaussian_rows,
    "masked": Walk("masked", "posterior"),
    "countsdiff_20": Walk("default", n_steps=20),
    "countsdiff_posterior_20": Walk("default", "posterior", n_steps=20),
    "countsdiff_binomial_20": Walk("default", "binomial", n_steps=20),
    "masked_20": Walk("masked", "posterior", n_steps=20),
    "countsdiff_paper": Walk("paper", "binomial", attrition=0.005),
    "countsdiff_cosine": Walk("cosine"),
    "countsdiff_blackout": Walk("blackout"),
    "countsdiff_linear": Walk("linear"),
    "countsdiff_geometric": Walk("geometric"),
}


def _published(swd: float, mmd2: float, w1: tuple[float, ...], variance: tuple[float, ...]) -> dict[str, float]:
    truth = (0.78, 4.71, 0.10, 0.12, 0.28, 1.97, 0.84, 16.09, 0.62, 1.77)
    error = sum(abs(v / t - 1) for v, t in zip(variance, truth, strict=True)) / N_DIMS
    by_dim = {f"variance_{d}": v for d, v in enumerate(variance)}
    return {"joint_swd": swd, "variance_error": error, "joint_mmd2": mmd2, "marginal_w1": sum(w1) / N_DIMS, **by_dim}


#: Appendix E.1 of arXiv 2604.03779, from the notebook published with it.
PUBLISHED = {
    "published_countsdiff": _published(
        0.79,
        0.001,
        (0.07, 0.43, 0.03, 0.03, 0.05, 0.18, 0.15, 1.00, 0.05, 0.24),
        (0.55, 1.99, 0.07, 0.08, 0.21, 1.10, 0.44, 4.50, 0.46, 0.96),
    ),
    "published_gaussian": _published(
        1.24,
        0.054,
        (0.32, 0.95, 0.09, 0.10, 0.20, 0.71, 0.20, 1.88, 0.28, 0.69),
        (0.19, 0.46, 0.01, 0.02, 0.05, 0.24, 0.24, 1.04, 0.17, 0.22),
    ),
    "published_masked": _published(
        1.49,
        0.001,
        (0.10, 0.35, 0.08, 0.08, 0.15, 0.07, 0.12, 0.29, 0.25, 0.07),
        (3.06, 9.22, 1.89, 2.49, 7.27, 4.78, 5.19, 19.83, 11.63, 4.09),
    ),
}


def figure(path: Path, seed: int, training_steps: int) -> None:
    """Draw marginals, the joint density of dimensions 0 and 1, and variances."""
    names = ("countsdiff", "gaussian", "masked")
    samples = {name: SAMPLES[name](seed, training_steps) for name in names}
    draw_figure(path, rows(seed)["validation"], samples)


def quote(record: Record) -> None:
    """Put the published numbers, of 400 training steps, into a record, once."""
    for method, quoted in PUBLISHED.items():
        if (method, "toy_400", 0) not in record.done():
            record.append(method, "toy_400", 0, quoted, 0.0)


def main() -> None:
    """Fill the record and print the tables."""
    parser = arguments(__doc__, SAMPLES, TRAINING_STEPS)
    parser.add_argument("--training-steps", type=int, default=None, help="fewer are a smoke test")
    parser.add_argument("--figure", type=Path, default=None, help="also draw this file")
    options = parser.parse_args()
    record = Record(options.results / "simulated.csv")

    def steps(data: str) -> int:
        return options.training_steps or TRAINING_STEPS[data]

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        drawn, validation = SAMPLES[method](seed, steps(data)), rows(seed)["validation"]
        found = scores(validation, drawn)
        return found | {"swd_excess": max(found["joint_swd"] ** 2 - squared_floor(validation, seed), 0) ** 0.5}

    if not options.table:
        run(record, options, job)
        quote(record)
    if options.figure is not None:
        figure(options.figure, options.seeds[0], steps(options.data[0]))
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
