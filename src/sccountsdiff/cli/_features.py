"""``sccountsdiff features``: what a model says of each cell, of files.

:meth:`~sccountsdiff.CountsDiff.get_normalized_expression`, :meth:`~sccountsdiff.CountsDiff.get_latent_representation`
and :meth:`~sccountsdiff.CountsDiff.get_elbo`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sccountsdiff.cli._console import told_plainly
from sccountsdiff.cli._input import cells_and_model
from sccountsdiff.cli._options import BatchSize, File, MergeParts, Model, OnePart, Out, Overwrite, Seed, Stream
from sccountsdiff.cli._output import destination, write


class Kind(StrEnum):
    """What is said of a cell."""

    expression = "expression"
    latent = "latent"
    bound = "bound"


def features(
    model: Model,
    file: File,
    kind: Annotated[
        Kind,
        typer.Option(
            help="expression: layer 'expression'; latent: obsm 'X_sccountsdiff'; bound: obs 'elbo', nats, lower is better."
        ),
    ],
    out: Out,
    library_size: Annotated[float, typer.Option(help="Total that the expression of a cell adds up to.")] = 1.0,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    stream: Stream = False,
    shard: OnePart = None,
    merge: MergeParts = False,
    overwrite: Overwrite = False,
) -> None:
    """Write the cells of a file with expression, embedding or bound; streamed, these alone."""
    with told_plainly():
        streamed = destination(out, stream, shard, merge, overwrite, file)
        adata, trained = cells_and_model(file, model, streamed is not None)
        given = {"adata": adata, "batch_size": batch_size, "out": streamed}
        match kind:
            case Kind.expression:
                trained.get_normalized_expression(library_size=library_size, layer_added="expression", **given)
            case Kind.latent:
                if (found := trained.get_latent_representation(**given)) is not None:
                    adata.obsm["X_sccountsdiff"] = found
            case Kind.bound:
                if (found := trained.get_elbo(return_mean=False, seed=seed, **given)) is not None:
                    adata.obs["elbo"] = found
    write(adata if streamed is None else None, out)
