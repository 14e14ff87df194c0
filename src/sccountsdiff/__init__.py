"""Count diffusion models for single-cell UMI counts.

- A *process* says how molecules die and return (:mod:`sccountsdiff.process`).
- A *denoiser* states what is missing, given what survived (:mod:`sccountsdiff.nets`).
- A *sampler* walks back from empty to whole cells (:mod:`sccountsdiff.sampling`).

:class:`CountsDiff` puts them behind the habits of scvi-tools.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sccountsdiff._version import __version__

if TYPE_CHECKING:
    from sccountsdiff import datasets, metrics, pl, stats
    from sccountsdiff.model import CountsDiff

__all__ = ["CountsDiff", "__version__", "datasets", "metrics", "pl", "stats"]


def __getattr__(name: str) -> Any:
    """Load the model or a room on first use, so that the core alone needs neither scvi-tools nor plotting."""
    if name == "CountsDiff":
        return import_module("sccountsdiff.model").CountsDiff
    if name in __all__:
        return import_module(f"sccountsdiff.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
