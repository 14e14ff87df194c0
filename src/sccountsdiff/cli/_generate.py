"""``sccountsdiff generate``: :meth:`sccountsdiff.CountsDiff.generate` on files.

Options have the names of the arguments; what they do is documented there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sccountsdiff.cli._console import told_plainly
from sccountsdiff.cli._input import load, read_or_open
from sccountsdiff.cli._options import BatchSize, MergeParts, Model, OnePart, Out, Overwrite, Seed, Stream, key_and_value
from sccountsdiff.cli._output import destination, write


def generate(
    model: Model,
    out: Out,
    condition: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, for example 'cell_type=CD19+ B'; repeatable.")
    ] = None,
    n_cells: Annotated[int | None, typer.Option(min=1, help="Cells; by default as many as were trained on.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The training data, .h5ad; with --stream also .zarr. Forecasts of conditions that were never measured "
            "and --start empirical need them.",
        ),
    ] = None,
    library_size: Annotated[float | None, typer.Option(help="UMI total asked for; by default as in training.")] = None,
    method: Annotated[
        str,
        typer.Option(
            help="How the condition is imposed: joint, contrast or forecast; auto forecasts what was never measured, "
            "given --data and a control."
        ),
    ] = "auto",
    guidance: Annotated[float, typer.Option(help="Guidance scale; 1 follows the model.")] = 1.0,
    n_steps: Annotated[int, typer.Option(min=1, help="Steps of the walk.")] = 20,
    attrition: Annotated[
        float, typer.Option(min=0, max=1, help="Part of the largest admissible death probability in each step.")
    ] = 0.0,
    start: Annotated[
        str, typer.Option(help="zeros: a pure sample of the model; empirical: from thinned training cells.")
    ] = "zeros",
    start_survival: Annotated[float, typer.Option(help="Part of the molecules kept by an empirical start.")] = 0.05,
    births: Annotated[
        str | None,
        typer.Option(help="Draw of births: poisson, posterior or binomial; by default what suits the model."),
    ] = None,
    covariation: Annotated[
        bool, typer.Option(help="Whether genes that vary together are drawn together in each step.")
    ] = True,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    stream: Stream = False,
    shard: OnePart = None,
    merge: MergeParts = False,
    overwrite: Overwrite = False,
) -> None:
    """Write new cells with integer counts."""
    wanted = dict(map(key_and_value, condition or []))
    with told_plainly():
        streamed = destination(out, stream, shard, merge, overwrite, data)
        trained = load(model, False if data is None else read_or_open(data, streamed is not None))
        cells = trained.generate(
            wanted or None,
            n_cells,
            library_size=library_size,
            method=method,
            guidance=guidance,
            n_steps=n_steps,
            attrition=attrition,
            start=start,
            start_survival=start_survival,
            births=births,
            covariation=covariation,
            batch_size=batch_size,
            seed=seed,
            out=streamed,
            silent=False,
        )
    write(cells, out)
