"""Cells and models from files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sccountsdiff.cli._console import calm, existing_file

if TYPE_CHECKING:
    from anndata import AnnData

    from sccountsdiff import DCM, CountsDiff


def read(file: Path) -> AnnData:
    """Cells in memory."""
    import anndata

    calm()
    return anndata.read_h5ad(existing_file(file))


def read_or_open(file: Path, on_disk: bool) -> AnnData:
    """Cells in memory, or with their counts left on disk, for commands that take ``--stream``."""
    from sccountsdiff.data import open_cells

    calm()
    if on_disk:
        return open_cells(file)
    if file.suffix == ".zarr" and file.is_dir():
        raise typer.BadParameter(f"'{file}' is a zarr store; pass --stream, which reads its counts from disk.")
    return read(file)


def cells_and_model(file: Path, model: Path, on_disk: bool) -> tuple[AnnData, CountsDiff | DCM]:
    """Cells, and the model to ask about them; it holds them too, unless their counts are left on disk."""
    adata = read_or_open(file, on_disk)
    return adata, load(model, False if on_disk else adata)


def load(model: Path, adata: AnnData | bool) -> CountsDiff | DCM:
    """The model in a folder, of whichever class it is."""
    from sccountsdiff import DCM, CountsDiff

    calm()
    if not (model / "model.pt").is_file():
        raise typer.BadParameter(f"'{model}' holds no model (no model.pt in it); 'sccountsdiff train' makes one.")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Save path contains no saved anndata")  # as it should: it is not needed
        made = CountsDiff.load_registry(str(model))["model_name"]
        classes = {kind.__name__: kind for kind in (CountsDiff, DCM)}
        if made not in classes:
            raise typer.BadParameter(f"'{model}' holds a {made}; the commands take a {' or a '.join(classes)}.")
        return classes[made].load(str(model), adata=adata)
