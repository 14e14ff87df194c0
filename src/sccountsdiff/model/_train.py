"""``CountsDiff.train``: the habits of scvi-tools around a schedule that suits a denoiser."""

from __future__ import annotations

import math
import os
import signal
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from anndata import AnnData
from lightning.pytorch.callbacks import Callback
from scvi import settings
from scvi.model.base import UnsupervisedTrainingMixin
from scvi.train import SaveCheckpoint, TrainRunner

from sccountsdiff.model._callbacks import AverageWeights, KeepBest, SaveAveraged, SaveLast
from sccountsdiff.model._compat import devices_dsp
from sccountsdiff.model._loader import CountsDataSplitter
from sccountsdiff.model._plan import DiffusionTrainingPlan

#: Part of the cells to train on. The held-out bound is compared cell by cell, so that few cells will do to watch it.
_TRAIN_SIZE = 0.95
#: Validations in a training: enough to see the bound turn, too few to cost much.
_VALIDATIONS = 40
#: Strategies that split the weights over devices, which the averaging of weights and the samplers of cells cannot do.
_SHARDED = ("fsdp", "deepspeed", "model_parallel", "xla_fsdp")


def default_max_epochs(n_cells: int, batch_size: int) -> int:
    """Epochs of a training, from the number of training cells.

    About 2,000 steps up to 2,000 cells; beyond that the number of steps grows with the power 0.4 of the number of
    cells: 5,000 at 20,000, 9,600 at 100,000 and 24,000 (3 epochs) at 1,000,000. See
    :func:`~sccountsdiff.model._rate.default_rate` for the learning rate that goes with it.

    Parameters
    ----------
    n_cells
        Number of training cells.
    batch_size
        Cells in a minibatch.

    Returns
    -------
    Number of passes over the training cells, between 1 and 1,000.
    """
    steps = 2000 * max(1.0, n_cells / 2000) ** 0.4
    steps_per_epoch = math.ceil(n_cells / batch_size)
    return max(1, min(1000, math.ceil(steps / steps_per_epoch)))


class _InterruptibleRunner(TrainRunner):
    """A runner that treats ``Ctrl-C`` as the end of the training, not as the end of the process."""

    def __call__(self) -> None:
        """Train; keep what was learned if the user interrupts."""
        handler = signal.getsignal(signal.SIGINT)
        try:
            super().__call__()
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
            if not self.trainer.interrupted:
                raise
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)
            self._finish()
            warnings.warn(
                f"Training was interrupted in epoch {self.trainer.current_epoch} of {self.trainer.max_epochs}; the "
                "model keeps what it learned so far.",
                UserWarning,
                stacklevel=settings.warnings_stacklevel,
            )

    def _finish(self) -> None:
        """What the parent does after a training that was not interrupted."""
        splitter, model = self.data_splitter, self.model
        model.train_indices = getattr(splitter, "train_idx", None)
        model.test_indices = getattr(splitter, "test_idx", None)
        model.validation_indices = getattr(splitter, "val_idx", None)
        model.module.eval()
        model.is_trained_ = True
        model.to_device(self.device)
        model.trainer = self.trainer


class TrainMixin(UnsupervisedTrainingMixin):
    """Training of a count-diffusion model."""

    _data_splitter_cls = CountsDataSplitter
    _training_plan_cls = DiffusionTrainingPlan
    _train_runner_cls = _InterruptibleRunner

    @devices_dsp.dedent
    def train(
        self,
        max_epochs: int | None = None,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        train_size: float | None = None,
        validation_size: float | None = None,
        shuffle_set_split: bool = True,
        load_sparse_tensor: bool = False,
        batch_size: int = 128,
        early_stopping: bool = True,
        datasplitter_kwargs: dict[str, Any] | None = None,
        plan_kwargs: dict[str, Any] | None = None,
        trainer_config: Any = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        The bound on held-out cells is watched under averaged weights; at the end the model holds the best weights seen,
        unless the last ones are as good within the Monte-Carlo error. ``Ctrl-C`` ends the training and keeps what was
        learned.

        Parameters
        ----------
        max_epochs
            Number of passes over the training cells; the learning rate comes down to zero over exactly these. ``None``
            is a number that suits the number of cells (:func:`~sccountsdiff.model.default_max_epochs`).
        %(param_accelerator)s
        %(param_devices)s
        train_size
            Part of the cells to train on; ``None`` is 0.95, or what ``validation_size`` leaves.
        validation_size
            Part of the cells to watch the bound on; ``None`` is ``1 - train_size``. The rest is left alone.
        shuffle_set_split
            Whether to split at random. Set :attr:`scvi.settings.seed` for the same split again.
        load_sparse_tensor
            Whether to move counts to the device as sparse tensors; faster on a GPU.
        batch_size
            Cells in a minibatch.
        early_stopping
            End early when the held-out bound gets worse: training goes back to the best weights and lets the learning
            rate come down from there, then stops. ``early_stopping_patience`` (validations in a row, 3 by default) may
            be passed as well. Not with several devices, nor without held-out cells: then there is nothing to watch.
        datasplitter_kwargs
            Passed on to :class:`~scvi.dataloaders.DataSplitter`, for example ``external_indexing`` or ``num_workers``.
        plan_kwargs
            Passed on to the training plan: ``lr``, ``weight_decay``, ``warmup``; and ``ema_decay``.
        trainer_config
            More arguments of the trainer, as a mapping; explicit ones win.
        checkpoint_dir
            Directory in which to keep ``last.ckpt``. If it holds one already, training resumes from there: after a
            crash, run the same lines again.
        **trainer_kwargs
            Passed on to :class:`~scvi.train.Trainer`, for example ``precision="bf16-mixed"`` or ``ckpt_path``.

        Raises
        ------
        ValueError
            If the strategy shards the weights (FSDP, DeepSpeed).
        RuntimeError
            If the training loss is not finite.
        """
        options = _as_mapping(trainer_config) | trainer_kwargs
        _refuse_sharding(options.get("strategy"))
        plan_kwargs = dict(plan_kwargs or {})
        if train_size is None:
            train_size = _TRAIN_SIZE if validation_size is None else 1 - validation_size
        averaging = AverageWeights(plan_kwargs.pop("ema_decay", 0.999))
        external = (datasplitter_kwargs or {}).get("external_indexing")
        n_train, n_held_out = _split_sizes(self._training_data().n_obs, train_size, validation_size, external)
        max_epochs = default_max_epochs(n_train, batch_size) if max_epochs is None else max_epochs

        best = KeepBest(
            averaging, options.pop("early_stopping", early_stopping), options.pop("early_stopping_patience", 3)
        )
        if n_held_out:
            options.setdefault("check_val_every_n_epoch", max(1, max_epochs // _VALIDATIONS))
        callbacks = [*options.pop("callbacks", ()), averaging, *([best] if n_held_out else [])]
        callbacks += _checkpointing(options, callbacks, checkpoint_dir)

        with warnings.catch_warnings():
            # Nothing is logged per step, and Lightning meets its own deprecations.
            warnings.filterwarnings("ignore", message="The number of training batches")
            warnings.filterwarnings("ignore", message=".*LeafSpec.*")
            super().train(
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                train_size=train_size,
                validation_size=validation_size,
                shuffle_set_split=shuffle_set_split,
                load_sparse_tensor=load_sparse_tensor,
                batch_size=batch_size,
                early_stopping=False,  # KeepBest does it
                datasplitter_kwargs=datasplitter_kwargs,
                plan_kwargs=plan_kwargs,
                callbacks=callbacks,
                **{"gradient_clip_val": 1.0} | options,
            )
        self.history_ = {name: values.astype(float) for name, values in (self.history_ or {}).items()}
        self._remember_population()

    def _training_data(self) -> AnnData:
        if self.adata is None:
            raise ValueError("The model has no data to train on: it was loaded without AnnData. Load it with adata=.")
        return self.adata


def _as_mapping(config: Any) -> dict[str, Any]:
    """A trainer configuration as keyword arguments.

    scvi-tools passes it on too late: a strategy or early stopping named there is ignored.
    """
    if config is None:
        return {}
    return dict(config) if isinstance(config, Mapping) else dict(config.to_kwargs())


def _refuse_sharding(strategy: Any) -> None:
    name = (strategy if isinstance(strategy, str) else type(strategy).__name__).lower()
    if any(word in name for word in _SHARDED):
        raise ValueError(
            f"strategy {strategy!r} splits the weights over devices, which averaging of weights and the sampler of "
            "cells do not support. The model is small: use strategy='ddp' or a single device."
        )


def _checkpointing(
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


def _split_sizes(
    n_cells: int, train_size: float, validation_size: float | None, external: Sequence[Any] | None
) -> tuple[int, int]:
    """Number of training and held-out cells."""
    if external is not None:
        return len(external[0]), len(external[1]) if len(external) > 1 and external[1] is not None else 0
    n_train = math.ceil(train_size * n_cells)
    n_held_out = n_cells - n_train if validation_size is None else math.floor(n_cells * validation_size)
    return n_train, n_held_out
