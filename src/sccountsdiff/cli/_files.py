"""``sccountsdiff train``, ``impute`` and ``generate``: the methods of :class:`sccountsdiff.CountsDiff` on files.

Options have the names of the arguments; what they do is documented there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sccountsdiff.cli._console import calm, console, existing_file

if TYPE_CHECKING:
    from anndata import AnnData

    from sccountsdiff import DCM, CountsDiff
    from sccountsdiff.model import Destination

File = Annotated[Path, typer.Argument(help="Cells, .h5ad; streamed also .zarr.", metavar="FILE")]
Model = Annotated[Path, typer.Argument(help="Folder of a trained model.", metavar="MODEL")]
Out = Annotated[Path, typer.Option(help="File to write, .h5ad; streamed also .zarr.")]
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


def train(
    file: File,
    model: Annotated[Path, typer.Option(help="Folder to save the model in.")],
    layer: Annotated[str | None, typer.Option(help="Layer with the UMI counts; .X by default.")] = None,
    batch_key: Annotated[str | None, Column] = None,
    labels_key: Annotated[str | None, Column] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="Epochs; by default what suits the data.")] = None,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is there.")] = False,
) -> None:
    """Train a model on the counts of a file."""
    if model.exists() and not overwrite:
        raise typer.BadParameter(f"'{model}' exists; choose another folder, or pass --overwrite.")
    adata = read(file)
    from scvi import settings

    from sccountsdiff import CountsDiff

    settings.seed = seed
    with told_plainly():
        CountsDiff.setup_anndata(adata, layer=layer, batch_key=batch_key, labels_key=labels_key)
    trained = CountsDiff(adata)
    trained.train(max_epochs=max_epochs)
    trained.save(str(model), overwrite=overwrite)
    console.print(f"Model in {model}", soft_wrap=True)


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
) -> None:
    """Write the cells of a file with a layer of imputed counts; streamed, the imputed layer alone."""
    with told_plainly():
        streamed = _streamed(out, stream, shard, merge)
        adata = read(file) if streamed is None else _open(file)
        trained = load(model, adata if streamed is None else False)
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


def generate(
    model: Model,
    out: Out,
    condition: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, for example 'cell_type=CD19+ B'; repeatable.")
    ] = None,
    n_cells: Annotated[int | None, typer.Option(min=1, help="Cells; by default as many as were trained on.")] = None,
    library_size: Annotated[float | None, typer.Option(help="UMI total asked for; by default as in training.")] = None,
    guidance: Annotated[float, typer.Option(help="Guidance scale; 1 follows the model.")] = 1.0,
    n_steps: Annotated[int, typer.Option(min=1, help="Steps of the walk.")] = 20,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    stream: Stream = False,
    shard: OnePart = None,
    merge: MergeParts = False,
) -> None:
    """Write new cells with integer counts."""
    wanted = dict(map(key_and_value, condition or []))
    with told_plainly():
        cells = load(model, False).generate(
            wanted or None,
            n_cells,
            library_size=library_size,
            guidance=guidance,
            n_steps=n_steps,
            batch_size=batch_size,
            seed=seed,
            out=_streamed(out, stream, shard, merge),
            silent=False,
        )
    write(cells, out)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Errors about the user's data and options end the command with their message, not with a traceback."""
    try:
        yield
    except (ValueError, KeyError, FileExistsError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error.args[0]) if len(error.args) == 1 else str(error)) from error


def read(file: Path) -> AnnData:
    import anndata

    calm()
    return anndata.read_h5ad(existing_file(file))


def _open(file: Path) -> AnnData:
    from sccountsdiff.data import open_cells

    calm()
    return open_cells(file)


def _streamed(out: Path, stream: bool, shard: str | None, merge: bool) -> Path | Destination | None:
    """What ``out=`` of a method takes; None if the results are kept in memory."""
    from sccountsdiff.model import Merge, Shard

    if shard is not None and merge:
        raise typer.BadParameter("--shard does a part and --merge puts the parts together: pass one of them.")
    if merge:
        return Merge(out)
    if shard is None:
        return out if stream else None
    number, _, of = shard.partition("/")
    if not (number.isdigit() and of.isdigit()):
        raise typer.BadParameter(f"--shard {shard!r} is not of the form I/N, such as 3/8.")
    out.parent.mkdir(parents=True, exist_ok=True)
    return Shard(out, int(number), int(of))


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


def write(adata: AnnData | None, out: Path) -> None:
    """Write cells, unless they were streamed."""
    if adata is None:
        console.print(
            f"Results in {out}" if out.exists() else f"This part is done; --merge makes {out}", soft_wrap=True
        )
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    adata.write_h5ad(out)
    console.print(f"{adata.n_obs} cells in {out}", soft_wrap=True)


def key_and_value(text: str) -> tuple[str, str | float]:
    """Split ``KEY=VALUE``; numbers are for continuous keys."""
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--condition {text!r} is not of the form KEY=VALUE.")
    try:
        return key, float(value)
    except ValueError:
        return key, value
