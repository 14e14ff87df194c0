"""``sccountsdiff report``: :func:`sccountsdiff.report.imputation` and :func:`~sccountsdiff.report.generation` on files."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sccountsdiff.cli._console import console
from sccountsdiff.cli._files import Column, Model, Seed, key_and_value, load, read, told_plainly

if TYPE_CHECKING:
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
    options: dict[str, Any] = {"groupby": groupby, "seed": seed}
    if condition:
        options["condition"] = dict(map(key_and_value, condition))
    if condition and kind is Kind.imputation:
        raise typer.BadParameter("--condition is for generated cells: pass --kind generation.")
    if held_out is not None:
        options["adata"] = read(held_out)
    trained = load(model, read(file))
    from sccountsdiff import report as reports

    with told_plainly():
        _tell(getattr(reports, kind.value)(trained, out or Path(f"{kind.value}_report.html"), **options))


def _tell(written: Report) -> None:
    """The verdict, and where to read on."""
    verdict = written.verdict
    console.print(verdict.headline, style=STYLES[verdict.tone])
    for check in verdict.checks:
        console.print(f"  {'yes' if check.holds else '[bold]NO [/]'} {check.asked}: [dim]{check.found}[/]")
    console.print(f"Report in {written.path}", soft_wrap=True)
