"""The command line: ``sccountsdiff`` or ``python -m sccountsdiff``."""

import typer

from sccountsdiff.cli._export import export
from sccountsdiff.cli._features import features
from sccountsdiff.cli._generate import generate
from sccountsdiff.cli._impute import impute
from sccountsdiff.cli._info import info
from sccountsdiff.cli._quickstart import quickstart
from sccountsdiff.cli._reports import report
from sccountsdiff.cli._train import train

__all__ = ["app"]

app = typer.Typer(
    name="sccountsdiff",
    help="Count diffusion models for single-cell UMI counts.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold whole data sets
)
for command in (quickstart, train, impute, generate, features, report, export, info):
    app.command()(command)
