"""``sccountsdiff export``: :func:`sccountsdiff.data.export_perturbations` on files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sccountsdiff.cli._console import console, told_plainly
from sccountsdiff.cli._input import read
from sccountsdiff.cli._output import spare


def export(
    predicted: Annotated[Path, typer.Argument(help="Generated cells, .h5ad.", metavar="PREDICTED")],
    real: Annotated[Path, typer.Argument(help="Measured cells, .h5ad.", metavar="REAL")],
    perturbation_key: Annotated[str, typer.Option(help="Column of obs that names the perturbation.")],
    control: Annotated[str, typer.Option(help="Its value for cells that were not perturbed.")],
    out: Annotated[Path, typer.Option(help="Folder for predicted.h5ad and real.h5ad.")],
    layer: Annotated[str | None, typer.Option(help="Layer with the counts; .X by default.")] = None,
    log1p: Annotated[bool, typer.Option("--log1p", help="Write log1p of counts per ten thousand.")] = False,
) -> None:
    """Write predicted and measured perturbations as a pair of files for cell-eval."""
    from sccountsdiff.data import export_perturbations

    options = {"perturbation_key": perturbation_key, "control": control, "layer": layer, "log1p": log1p}
    for name in ("predicted.h5ad", "real.h5ad"):
        spare(out / name, predicted, real)
    with told_plainly():
        paths = export_perturbations(read(predicted), read(real), out, **options)
    for path in paths:
        console.print(f"  {path}", soft_wrap=True)
