"""Count diffusion models for single-cell UMI counts.

- A *process* says how molecules die and return (:mod:`sccountsdiff.process`).
- A *denoiser* states what is missing, given what survived (:mod:`sccountsdiff.nets`).
- A *sampler* walks back from empty to whole cells (:mod:`sccountsdiff.sampling`).

:class:`CountsDiff` puts them behind the habits of scvi-tools, and so does :class:`DCM` for masked diffusion.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sccountsdiff._version import __version__

if TYPE_CHECKING:
    from sccountsdiff import datasets, metrics, pl, report, stats
    from sccountsdiff.model import DCM, CountsDiff

__all__ = ["DCM", "CountsDiff", "__version__", "datasets", "metrics", "pl", "report", "stats"]

_MODELS = ("CountsDiff", "DCM")


def __getattr__(name: str) -> Any:
    """Load the model or a room on first use, so that the core alone needs neither scvi-tools nor plotting."""
    if name in _MODELS:
        return getattr(import_module("sccountsdiff.model"), name)
    if name in __all__:
        return import_module(f"sccountsdiff.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
