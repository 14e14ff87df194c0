"""What a model says about measured cells, as tasks: bound, features, expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sccountsdiff.data import Rows
from sccountsdiff.model._cell_job import Task
from sccountsdiff.model._module import Cells, CountDiffusionModule
from sccountsdiff.nets import Library


@final
@dataclass(frozen=True)
class Bound(Task):
    """Upper bound on ``-log p`` of each cell in nats, and half of what two independent estimates of it differ by.

    Attributes
    ----------
    module
        The model.
    n_samples
        Survivals drawn for each cell, an even number.
    """

    module: CountDiffusionModule
    n_samples: int
    title = "Bound"
    places = (("obs/elbo",), ("obs/elbo_error",))

    def request(self) -> dict[str, Any]:
        """The number of draws."""
        return {"what": "bound", "n_samples": self.n_samples}

    def answer(self, shown: Cells, generator: torch.Generator) -> Sequence[Rows]:
        """Two halves of the draws, each ``(n_cells, 1)``."""
        first, second = (
            self.module.bound(shown, self.n_samples // 2, generator).mean(0).double().cpu().numpy()[:, None]
            for _ in range(2)
        )
        return [(first + second) / 2, (first - second) / 2]


@final
@dataclass(frozen=True)
class Features(Task):
    """Last hidden layer of the denoiser at survival 1.

    Attributes
    ----------
    module
        The model.
    withheld
        Condition keys that the network is not told.
    """

    module: CountDiffusionModule
    withheld: tuple[str, ...]
    title = "Features"
    places = (("obsm/X_sccountsdiff",),)

    def request(self) -> dict[str, Any]:
        """What is withheld."""
        return {"what": "features", "withheld": list(self.withheld)}

    def show(self, cells: Cells, rows: NDArray[np.integer]) -> Cells:
        """Without the keys that are withheld."""
        told = {name: values for name, values in cells.condition.items() if name not in self.withheld}
        return cells._replace(condition=told)

    def answer(self, shown: Cells, generator: torch.Generator) -> Sequence[Rows]:
        """``(n_cells, n_hidden)``."""
        return [self.module.embed(shown).float().cpu().numpy()]


@final
@dataclass(frozen=True)
class Expression(Task):
    """Expected expression, averaged over batches and (if wanted) draws.

    Attributes
    ----------
    module
        The model.
    batches
        Codes to put in place of the cells' own condition, one mapping for each batch to average over.
    genes
        Columns of the genes to return.
    library_size
        Total of each cell, or ``"latent"`` / ``"observed"``.
    n_samples
        Number of draws; None is the posterior mean.
    return_mean
        Whether to average over draws.
    name
        Name of the layer to make.
    """

    module: CountDiffusionModule
    batches: Sequence[Mapping[str, int]]
    genes: Any
    library_size: float | str
    n_samples: int | None
    return_mean: bool
    name: str
    title = "Expression"

    @property
    def names(self) -> list[str]:
        """Names of the layers."""
        several = self.n_samples is not None and self.n_samples > 1 and not self.return_mean
        return [f"{self.name}_sample{k}" for k in range(self.n_samples or 0)] if several else [self.name]

    @property
    def places(self) -> Sequence[Sequence[str]]:
        """Layers."""
        return [[f"layers/{name}"] for name in self.names]

    def request(self) -> dict[str, Any]:
        """All but the genes."""
        return {
            "what": "normalized expression",
            "batches": [dict(batch) for batch in self.batches],
            "library_size": self.library_size,
            "n_samples": self.n_samples,
            "return_mean": self.return_mean,
        }

    def answer(self, shown: Cells, generator: torch.Generator) -> Sequence[Rows]:
        """One array ``(n_cells, n_genes)``, or one for each draw."""
        posteriors = self.module.translate(shown, self.batches)
        draws: list[Tensor] = []
        for _ in range(self.n_samples or 1):
            rates = [p.rate if self.n_samples is None else p.draw_rate(generator) for p in posteriors]
            scaled = [_scaled(rate.float(), self.library_size, shown.library)[:, self.genes] for rate in rates]
            expression = scaled[0] if len(scaled) == 1 else torch.stack(scaled).mean(0)
            if self.return_mean and draws:
                draws[0] += expression  # a running sum: memory does not grow with the number of draws
            else:
                draws.append(expression)
        if self.return_mean and self.n_samples:
            draws[0] /= self.n_samples
        return [draw.cpu().numpy() for draw in draws]


def check_library_size(library_size: Any) -> None:
    """Refuse what expression cannot be scaled to.

    Raises
    ------
    ValueError
        Unless it is a positive finite number, ``"latent"`` or ``"observed"``.
    """
    if isinstance(library_size, str) and library_size in ("latent", "observed"):
        return
    if not isinstance(library_size, Real) or not 0 < library_size < float("inf"):
        raise ValueError(
            f"library_size must be a positive number of UMIs for all cells, 'latent' or 'observed', got {library_size!r}."
        )


def _scaled(rate: Tensor, library_size: float | str, library: Library) -> Tensor:
    """Rates that add up to the library size asked for, in each modality."""
    if library_size in ("latent", "observed"):
        return rate
    return rate * library.spread(library_size / library.total(rate))
