"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

File = Annotated[Path, typer.Argument(help="Cells, .h5ad; with --stream also .zarr.", metavar="FILE")]
Model = Annotated[Path, typer.Argument(help="Folder of a trained model.", metavar="MODEL")]
Out = Annotated[Path, typer.Option(help="File to write, .h5ad; streamed also .zarr.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")]
Seed = Annotated[int, typer.Option(help="Seed of all draws.")]
Stream = Annotated[
    bool, typer.Option("--stream", help="Leave counts on disk and write results piece by piece, .zarr or .h5ad.")
]
OnePart = Annotated[
    str | None, typer.Option("--shard", metavar="I/N", help="Do part I of N only (streamed), then --merge the parts.")
]
MergeParts = Annotated[bool, typer.Option("--merge", help="Put the file together from all its shards.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Cells in a minibatch; draws depend on it.")]
Column = typer.Option(help="Column of obs.")


def key_and_value(text: str) -> tuple[str, str]:
    """Split ``KEY=VALUE``. The value stays text: whether ``1`` is a number or a cluster is for the key to say."""
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--condition {text!r} is not of the form KEY=VALUE.")
    return key, value
