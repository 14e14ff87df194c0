"""``sccountsdiff impute``: :meth:`sccountsdiff.CountsDiff.impute` on files.

Options have the names of the arguments; what they do is documented there.
"""

from __future__ import annotations

from typing import Annotated

import typer

from sccountsdiff.cli._console import told_plainly
from sccountsdiff.cli._input import cells_and_model
from sccountsdiff.cli._options import BatchSize, File, MergeParts, Model, OnePart, Out, Overwrite, Seed, Stream
from sccountsdiff.cli._output import destination, write


def impute(
    model: Model,
    file: File,
    out: Out,
    replace: Annotated[str | None, typer.Option(help="Entries to fill in: masked, zeros or all.")] = None,
    mask: Annotated[str | None, typer.Option(help="Boolean layer of entries to hide.")] = None,
    target_depth: Annotated[
        str | None, typer.Option(help="Recover cells to so many UMIs, or to a fold of their depth such as 4x.")
    ] = None,
    quantiles: Annotated[list[float] | None, typer.Option(help="Quantile instead of the mean; repeatable.")] = None,
    n_samples: Annotated[int | None, typer.Option(min=1, help="Draws of integer counts instead.")] = None,
    layer_added: Annotated[str, typer.Option(help="Layer to write to.")] = "imputed",
    batch_size: BatchSize = None,
    seed: Seed = 0,
    stream: Stream = False,
    shard: OnePart = None,
    merge: MergeParts = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the cells of a file with a layer of imputed counts; streamed, the imputed layer alone."""
    with told_plainly():
        streamed = destination(out, stream, shard, merge, overwrite, file)
        adata, trained = cells_and_model(file, model, streamed is not None)
        trained.impute(
            adata,
            replace=replace,
            mask=mask,
            target_depth=_number_or_fold(target_depth),
            quantiles=quantiles or None,
            n_samples=n_samples,
            layer_added=layer_added,
            batch_size=batch_size,
            seed=seed,
            out=streamed,
            silent=False,
        )
    write(adata if streamed is None else None, out)


def _number_or_fold(text: str | None) -> str | float | None:
    """UMIs as a number; a fold (or what is neither, for the model to refuse) stays text."""
    return float(text) if text is not None and text.replace(".", "", 1).isdigit() else text
