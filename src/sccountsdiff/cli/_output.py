"""Where results go, without harm to what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sccountsdiff.cli._console import console

if TYPE_CHECKING:
    from anndata import AnnData

    from sccountsdiff.model import Destination


def spare(out: Path, *inputs: Path | None) -> None:
    """End the command if it would write over a file that it reads."""
    for file in inputs:
        if file is not None and out.exists() and file.exists() and out.samefile(file):
            raise typer.BadParameter(f"'{out}' is read by this command, and would be lost; choose another --out.")


def destination(
    out: Path, stream: bool, shard: str | None, merge: bool, overwrite: bool, *inputs: Path | None
) -> Path | Destination | None:
    """What ``out=`` of a method takes; None if the results are kept in memory until all are there.

    Parameters
    ----------
    out
        File to write.
    stream, shard, merge, overwrite
        The options of these names.
    *inputs
        Files that the command reads.
    """
    spare(out, *inputs)
    if not (stream or shard is not None or merge):
        _check_free(out, overwrite)
        return None
    if overwrite:
        # Resumed and repeated runs go on with what is there; one shard must not remove the work of the others.
        raise typer.BadParameter(
            f"--overwrite does not go with --stream, --shard and --merge, which complete what is there. To begin anew, "
            f"delete '{out}' and '{out}.partial'."
        )
    return _streamed(out, shard, merge)


def _check_free(out: Path, overwrite: bool) -> None:
    if out.suffix != ".h5ad":
        raise typer.BadParameter(f"'{out}' must end in .h5ad; with --stream it may end in .zarr.")
    if out.is_dir():
        raise typer.BadParameter(f"'{out}' is a folder; choose the name of a file.")
    if out.exists() and not overwrite:
        raise typer.BadParameter(f"'{out}' exists; choose another --out, or pass --overwrite.")


def _streamed(out: Path, shard: str | None, merge: bool) -> Path | Destination:
    from sccountsdiff.model import Merge, Shard

    if shard is None:
        return Merge(out) if merge else out
    if merge:
        raise typer.BadParameter("--shard does a part and --merge puts the parts together: pass one of them.")
    number, _, of = shard.partition("/")
    if not (number.isdigit() and of.isdigit()):
        raise typer.BadParameter(f"--shard {shard!r} is not of the form I/N, such as 3/8.")
    out.parent.mkdir(parents=True, exist_ok=True)
    return Shard(out, int(number), int(of))


def write(adata: AnnData | None, out: Path) -> None:
    """Write cells that no model needs any more, unless they were streamed."""
    if adata is None:
        console.print(
            f"Results in {out}" if out.exists() else f"This part is done; --merge makes {out}", soft_wrap=True
        )
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    forget_setup(adata)
    adata.write_h5ad(out)
    console.print(f"{adata.n_obs} cells in {out}", soft_wrap=True)


def forget_setup(adata: AnnData) -> None:
    """Remove the notes of scvi-tools on which model reads these cells: they mean nothing outside of this process."""
    for part in (adata.obs, adata.obsm, adata.uns):
        for name in [name for name in part if str(name).startswith("_scvi_")]:
            del part[name]
