"""``sccountsdiff quickstart``: everything once, on real cells."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sccountsdiff.cli._console import calm, console, output_folder

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    from sccountsdiff.cli._study import Study

TITLE = "CountsDiff on 700 blood cells"
METHOD = """<p>The cells are those of <code>sccountsdiff.datasets.pbmc68k()</code>. Three quarters of them trained the model,
5&nbsp;% decided when to stop, and 20&nbsp;% are held out: all scores but the figures of real and generated cells are
computed on these. The file <code>pbmc68k_sccountsdiff.h5ad</code> has the layers <code>counts</code> (never changed),
<code>imputed</code> (expected counts) and <code>imputed_q0.05</code>, <code>imputed_q0.95</code> (ends of the
90&nbsp;% interval of a fresh measurement), the embedding <code>obsm["X_sccountsdiff"]</code> and
<code>obs["split"]</code>. The same by hand:</p>
<pre>import sccountsdiff as scd
adata = scd.datasets.pbmc68k()
scd.CountsDiff.setup_anndata(adata, layer="counts", labels_key="cell_type")
model = scd.CountsDiff(adata)
model.train()
model.impute()                                        # adata.layers["imputed"]
model.impute(quantiles=[0.05, 0.95])
cells = model.generate({"cell_type": "Dendritic"}, n_cells=200)</pre>"""


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the results; made if it does not exist.")] = Path("quickstart"),
    seed: Annotated[int, typer.Option(help="Seed of the split, the training and all draws.")] = 0,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs to train for; by default as many as suit the data.")
    ] = None,
) -> None:
    """Train on 700 real blood cells, impute them, generate cells, and report how well that worked.

    Needs no data and no network, and takes about four minutes on two CPU cores.
    """
    started = time.monotonic()
    folder = output_folder(out)
    study, scores, pit = _run(seed, max_epochs)
    console.print("[bold]6/6[/] Writing the report (the first UMAP compiles for some seconds)")
    written = _write(folder, study, scores, pit)
    _print_scores(scores)
    console.print(f"\nDone in {time.monotonic() - started:.0f} s. Open the report first:")
    for path, what in written.items():
        console.print(f"  {path}  [dim]{what}[/]", soft_wrap=True)


def _run(seed: int, max_epochs: int | None) -> tuple[Study, pd.DataFrame, npt.NDArray]:
    """Everything up to the scores, announced step by step."""
    console.print("[bold]1/6[/] Loading")
    calm()
    import torch

    from sccountsdiff.cli import _evaluation, _info, _study

    # For matrices this small a second thread gains little on idle cores; on busy ones its waiting costs fourfold.
    torch.set_num_threads(1)

    console.print(f"[bold]2/6[/] Training on 700 PBMC that ship with scanpy, on {_info.device()}")
    adata, model = _study.train(seed, max_epochs)
    console.print("[bold]3/6[/] Imputing all cells")
    _study.impute(adata, model)
    console.print(f"[bold]4/6[/] Generating cells: {', '.join(_study.GENERATED_TYPES)}")
    study = _study.Study(adata, model, _study.generate(adata, model, seed), seed)
    console.print("[bold]5/6[/] Scoring on cells that were held out")
    return study, *_evaluation.evaluate(study)


def _write(folder: Path, study: Study, scores: pd.DataFrame, pit: npt.NDArray) -> dict[Path, str]:
    """Write all results: path -> what it is."""
    import matplotlib.pyplot as plt

    from sccountsdiff import report as reports
    from sccountsdiff.cli import _evaluation, _figures
    from sccountsdiff.cli._output import forget_setup

    written = {
        folder / "report.html": "figures and scores",
        folder / "scores.csv": "scores beside baseline and floor",
        folder / "pbmc68k_sccountsdiff.h5ad": "the cells: counts, imputed counts, intervals, embedding",
        folder / "generated_cells.h5ad": "generated cells, integer counts",
        folder / "model": "the model, for CountsDiff.load",
    }
    report, table, cells, generated, model = written
    plt.switch_backend("agg")  # a machine without a screen
    sections = [
        reports.Section("Scores", reports.score_table(scores, _evaluation.QUESTIONS)),
        *map(reports.figure, _figures.exhibits(study, pit)),
        reports.Section("How this was made", METHOD),
    ]
    summary = reports.Verdict("plain", "", _summary(study, scores))
    page = reports.page(TITLE, summary, sections, reports.versions())
    report.write_text(page, encoding="utf-8")
    scores.to_csv(table, index=False)
    study.generated.write_h5ad(generated)
    study.model.save(str(model), overwrite=True)
    forget_setup(study.adata)  # last: the model reads no cells any more
    study.adata.write_h5ad(cells)
    return written


def _summary(study: Study, scores: pd.DataFrame) -> str:
    by_name = scores.set_index("metric")
    deviance, mmd2 = by_name.loc["poisson_deviance"], by_name.loc["mmd2"]
    return (
        f"{study.adata.n_obs} cells, {study.adata.n_vars} genes, {len(study.model.history['train_loss'])} epochs. "
        f"Held-out molecules are predicted with a Poisson deviance of {deviance.sccountsdiff:.3f} (gene mean: "
        f"{deviance.baseline:.3f}). {study.generated.n_obs} generated cells are at a squared MMD of "
        f"{mmd2.sccountsdiff:.4f} from held-out ones, where real cells are at {mmd2.floor:.4f} and independent genes "
        f"at {mmd2.baseline:.4f}."
    )


def _print_scores(scores: pd.DataFrame) -> None:
    from sccountsdiff.report import leader

    roles = ("sccountsdiff", "baseline", "floor")
    table = Table(box=None, header_style="bold")
    table.add_column("score", no_wrap=True)
    for name in ("better", *roles):
        table.add_column(name, justify="right")
    for question, rows in scores.groupby("question", sort=False):
        table.add_row(f"[bold]{question}[/]")
        for _, row in rows.iterrows():
            best = leader(row)
            values = (f"[bold]{row[role]:.4f}[/]" if role == best else f"{row[role]:.4f}" for role in roles)
            table.add_row(f"  {row['metric']}", row["better"], *values)
    console.print(table)
