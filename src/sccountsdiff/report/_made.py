"""How a report came about: what a reader needs to do it again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sccountsdiff.data import digest
from sccountsdiff.model import constructor_arguments

if TYPE_CHECKING:
    import pandas as pd

    from sccountsdiff.report._page import Verdict
    from sccountsdiff.report._study import Study

PACKAGES = ("sccountsdiff", "torch", "scvi-tools", "lightning", "anndata", "scanpy", "numpy", "scipy")


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Parameters
    ----------
    path
        The HTML file.
    verdict
        What stands at its top.
    scores
        One row per metric: the model, baselines and the floor.
    """

    path: Path
    verdict: Verdict
    scores: pd.DataFrame

    @property
    def passed(self) -> bool:
        """Whether the report does not warn."""
        return self.verdict.tone != "bad"


def versions() -> dict[str, str]:
    """Python and the packages that results depend on.

    Returns
    -------
    Name -> version.
    """
    return {"Python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def provenance(study: Study, extra: Mapping[str, object]) -> dict[str, object]:
    """What was done, in words and numbers.

    Parameters
    ----------
    study
        The cells.
    extra
        Further name -> value.

    Returns
    -------
    Name -> value.
    """
    model, held_out = study.model, study.held_out_read
    history = model.history or {}
    bound = history["elbo_validation"].iloc[:, 0].astype(float).min() if "elbo_validation" in history else None
    return {
        "model": f"{type(model).__name__}, {_given(constructor_arguments(model.init_params_)) or 'default settings'}",
        "set up with": _given(model.registry["setup_args"]) or "counts alone",
        "training": f"{len(history.get('train_loss', ()))} epochs on {len(model.train_indices):,} cells"
        + (f"; best bound on validation cells {bound:.1f} nats per cell" if bound is not None else ""),
        "held-out cells": f"{study.held_out.n_obs:,} of {held_out.counts.shape[1]:,} genes, "
        f"{held_out.counts.sum(1).mean():,.0f} UMIs a cell ({study.origin})",
        "training cells of the baselines": f"{study.train.n_obs:,}",
        "fingerprint of the held-out counts": digest([held_out.counts.astype("float32")]),
        "seed": study.seed,
        "written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        **extra,
    }


def _given(arguments: Mapping[str, Any]) -> str:
    """Arguments that say something."""
    kept = {name: value for name, value in arguments.items() if value is not None and value != {} and value != []}
    kept = {name: value for name, value in kept.items() if isinstance(value, str | int | float | list | tuple)}
    return ", ".join(f"{name}={value!r}" for name, value in kept.items() if name != "kwargs")
