"""``sccountsdiff report``: :func:`sccountsdiff.report.imputation` and :func:`~sccountsdiff.report.generation` on files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sccountsdiff.cli._console import console, told_plainly
from sccountsdiff.cli._input import load, read
from sccountsdiff.cli._options import Column, Model, Seed, key_and_value
from sccountsdiff.cli._output import spare

if TYPE_CHECKING:
    from anndata import AnnData

    from sccountsdiff.report import Report

STYLES = {"good": "green", "mixed": "yellow", "bad": "bold red"}


class Kind(StrEnum):
    """What a report is about."""

    imputation = "imputation"
    generation = "generation"


def report(
    model: Model,
    file: Annotated[Path, typer.Argument(help="Cells that the model was trained on, .h5ad.", metavar="FILE")],
    kind: Annotated[Kind, typer.Option(help="What the report is about.")],
    out: Annotated[Path | None, typer.Option(help="File to write; <kind>_report.html by default.")] = None,
    held_out: Annotated[Path | None, typer.Option(help="Cells that the model has not seen, .h5ad.")] = None,
    condition: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE to judge generated cells of; repeatable. By default all.")
    ] = None,
    groupby: Annotated[str | None, Column] = None,
    seed: Seed = 0,
) -> None:
    """Write a report on how well a model imputes or generates, measured on cells it was not trained on."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")  # a machine without a screen
    page = out or Path(f"{kind.value}_report.html")
    spare(page, file, held_out)
    options: dict[str, Any] = {"groupby": groupby, "seed": seed}
    if condition and kind is Kind.imputation:
        raise typer.BadParameter("--condition is for generated cells: pass --kind generation.")
    if held_out is not None:
        options["adata"] = read(held_out)
    adata = read(file)
    if condition:
        options["condition"] = {key: _as_printed(adata, key, value) for key, value in map(key_and_value, condition)}
    trained = load(model, adata)
    from sccountsdiff import report as reports

    with told_plainly():
        _tell(getattr(reports, kind.value)(trained, page, **options))


def _as_printed(adata: AnnData, key: str, value: str) -> str:
    """A value as the column prints it, by which reports tell conditions apart: 10 is 10.0 in a column of floats."""
    import numpy as np

    if key not in adata.obs or not np.issubdtype(np.asarray(adata.obs[key]).dtype, np.floating):
        return value
    try:
        return str(float(value))
    except ValueError:
        raise typer.BadParameter(f"Condition {key!r} takes a number, got {value!r}.") from None


def _tell(written: Report) -> None:
    """The verdict, and where to read on."""
    verdict = written.verdict
    console.print(verdict.headline, style=STYLES[verdict.tone])
    for check in verdict.checks:
        console.print(f"  {'yes' if check.holds else '[bold]NO [/]'} {check.asked}: [dim]{check.found}[/]")
    console.print(f"Report in {written.path}", soft_wrap=True)
