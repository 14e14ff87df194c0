"""What all commands share: the console, a calm log, and errors for people."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

console = Console(highlight=False)


def calm() -> None:
    """Leave the terminal to progress bars and results."""
    import scvi

    scvi.settings.verbosity = logging.WARNING  # "AnnData object appears to be a copy": expected here
    # Advertises loggers, and says for every training which accelerators there are not.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


@contextmanager
def told_plainly() -> Iterator[None]:
    """Errors about the user's data and options end the command with their message, not with a traceback."""
    try:
        yield
    except (ValueError, KeyError, FileExistsError, FileNotFoundError) as error:
        raise typer.BadParameter(str(error.args[0]) if len(error.args) == 1 else str(error)) from error


def existing_file(path: Path) -> Path:
    """Return ``path`` if it is a file; otherwise end the command with a hint at files nearby."""
    if path.is_file():
        return path
    nearby = sorted(candidate.name for candidate in path.parent.glob("*.h5ad")) if path.parent.is_dir() else []
    hint = f" Files of that kind in '{path.parent}': {', '.join(nearby)}." if nearby else ""
    what = "is a folder, not a file" if path.is_dir() else "does not exist"
    raise typer.BadParameter(f"'{path}' {what}.{hint}")


def output_folder(path: Path) -> Path:
    """Create the folder ``path`` if need be; end the command if a file is in the way."""
    if path.exists() and not path.is_dir():
        raise typer.BadParameter(f"'{path}' is a file; choose the name of a folder for the results.")
    path.mkdir(parents=True, exist_ok=True)
    return path
