"""Options of the trainer: from what a user gives, in whatever form, to what suits this model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import Callback
from scvi.train import SaveCheckpoint

from sccountsdiff.model._callbacks import SaveAveraged, SaveLast

#: Strategies that split the weights over devices, which averaging of weights cannot do.
_SHARDED = ("fsdp", "deepspeed", "model_parallel", "modelparallel", "xla_fsdp")
#: What scvi-tools and Lightning say of things that are taken care of here.
_EXPECTED = (
    "The number of training batches",  # nothing is logged per step
    ".*LeafSpec.*",  # Lightning meets its own deprecations
    "early_stopping was automatically disabled due to the use of DDP",  # KeepBest does it, on all processes
    r"Found \d+ module\(s\) in eval mode",  # a frozen network, on purpose
)


def trainer_options(config: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the trainer; explicit ones win over those of a configuration.

    scvi-tools passes the configuration on too late: a strategy or early stopping named there is ignored.

    Raises
    ------
    ValueError
        If the strategy shards the weights.
    """
    given = {} if config is None else dict(config) if isinstance(config, Mapping) else dict(config.to_kwargs())
    options = {"gradient_clip_val": 1.0} | given | dict(kwargs)
    strategy = options.get("strategy", "auto")
    name = (strategy if isinstance(strategy, str) else type(strategy).__name__).lower()
    if any(word in name for word in _SHARDED):
        raise ValueError(
            f"strategy {strategy!r} splits the weights over devices, which averaging of weights does not support. The "
            "model is small: use strategy='ddp' or a single device."
        )
    return options


def checkpointing(
    options: dict[str, Any], callbacks: Sequence[Callback], directory: str | os.PathLike[str] | None
) -> list[Callback]:
    """Callbacks that write checkpoints; adds the one to resume from to the options of the trainer."""
    if any(type(callback) is SaveCheckpoint for callback in callbacks):
        raise ValueError(
            "scvi.train.SaveCheckpoint stores the raw weights, not the averaged ones that the bound is computed with. "
            "Pass enable_checkpointing=True, or sccountsdiff.model.SaveAveraged(...) in its place."
        )
    added: list[Callback] = []
    if options.get("enable_checkpointing") and not any(isinstance(callback, SaveAveraged) for callback in callbacks):
        added.append(SaveAveraged(monitor=options.pop("checkpointing_monitor", "validation_loss")))
    if directory is not None:
        last = SaveLast(directory)
        added.append(last)
        if last.path.exists():
            options.setdefault("ckpt_path", last.path)
    return added


@contextmanager
def expected_warnings_hidden() -> Iterator[None]:
    """Hide warnings of things that are taken care of."""
    with warnings.catch_warnings():
        for message in _EXPECTED:
            warnings.filterwarnings("ignore", message=message)
        yield
