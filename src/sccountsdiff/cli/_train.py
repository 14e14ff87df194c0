"""``sccountsdiff train``: a model of the counts of a file.

Options have the names of the arguments of :class:`sccountsdiff.CountsDiff`; what they do is documented there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sccountsdiff.cli._console import console, told_plainly
from sccountsdiff.cli._input import read_or_open
from sccountsdiff.cli._options import Column, File, Seed

Columns = typer.Option(help="Column of obs; repeatable.")


def train(
    file: File,
    model: Annotated[Path, typer.Option(help="Folder to save the model in.")],
    layer: Annotated[str | None, typer.Option(help="Layer with the UMI counts; .X by default.")] = None,
    batch_key: Annotated[str | None, Column] = None,
    labels_key: Annotated[str | None, Column] = None,
    categorical_covariate_keys: Annotated[list[str] | None, Columns] = None,
    continuous_covariate_keys: Annotated[list[str] | None, Columns] = None,
    perturbation_key: Annotated[
        str | None, typer.Option(help="Column of obs that names the perturbation; 'A+B' is A and B together.")
    ] = None,
    control: Annotated[str | None, typer.Option(help="Its value for cells that were not perturbed.")] = None,
    observed_layer: Annotated[
        str | None, typer.Option(help="Boolean layer, False where a gene was not measured in a cell.")
    ] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Epochs; by default what suits the data.")] = None,
    seed: Seed = 0,
    stream: Annotated[bool, typer.Option("--stream", help="Leave counts on disk, .zarr or .h5ad.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
) -> None:
    """Train a model on the counts of a file."""
    if model.exists() and not overwrite:
        raise typer.BadParameter(f"'{model}' exists; choose another folder, or pass --overwrite.")
    with told_plainly():
        adata = read_or_open(file, stream)
        from scvi import settings

        from sccountsdiff import CountsDiff

        settings.seed = seed
        CountsDiff.setup_anndata(
            adata,
            layer=layer,
            batch_key=batch_key,
            labels_key=labels_key,
            categorical_covariate_keys=categorical_covariate_keys or None,
            continuous_covariate_keys=continuous_covariate_keys or None,
            perturbation_key=perturbation_key,
            control=control,
            observed_layer=observed_layer,
        )
    trained = CountsDiff(adata)
    trained.train(max_epochs=max_epochs)
    trained.save(str(model), overwrite=overwrite)
    console.print(f"Model in {model}", soft_wrap=True)
