"""``CountsDiff.train``: the habits of scvi-tools around a schedule that suits a denoiser."""

from __future__ import annotations

import math
import os
from numbers import Integral
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import Callback
from scvi.data import AnnDataManager
from scvi.model.base import UnsupervisedTrainingMixin

from sccountsdiff.model._annbatch import AnnbatchMixin
from sccountsdiff.model._calibration import CalibrateDispersion
from sccountsdiff.model._callbacks import AverageWeights, KeepBest
from sccountsdiff.model._compat import devices_dsp
from sccountsdiff.model._plan import DiffusionTrainingPlan
from sccountsdiff.model._refit import RefitGenes
from sccountsdiff.model._runner import Runner
from sccountsdiff.model._splitter import CountsDataSplitter
from sccountsdiff.model._trainer import checkpointing, expected_warnings_hidden, trainer_options

#: Part of the cells to train on. The held-out bound is compared cell by cell, so that few cells will do to watch it.
_TRAIN_SIZE = 0.95
#: Validations in a training: enough to see the bound turn, too few to cost much.
_VALIDATIONS = 40


def default_max_epochs(n_cells: int, batch_size: int, n_genes: int = 2_000) -> int:
    """Epochs of a training, from the number of training cells and of genes.

    About 2,000 steps up to 2,000 cells; beyond that the number of steps grows with the power 0.4 of the number of
    cells: 5,000 at 20,000, 9,600 at 100,000 and 24,000 (3 epochs) at 1,000,000. Fewer than 2,000 genes take more steps, which
    are shorter: twice as many at 500, four times at 125, eight times at 31 and less. The learning rate follows the number of
    steps and of cells: short trainings and many cells are learned faster.

    Parameters
    ----------
    n_cells
        Number of training cells.
    batch_size
        Cells in a minibatch.
    n_genes
        Number of genes.

    Returns
    -------
    Number of passes over the training cells, between 1 and 1,000.
    """
    steps = 2000 * max(1.0, n_cells / 2000) ** 0.4 * min(8.0, max(1.0, (2000 / n_genes) ** 0.5))
    steps_per_epoch = math.ceil(n_cells / batch_size)
    return max(1, min(1000, math.ceil(steps / steps_per_epoch)))


class TrainMixin(AnnbatchMixin, UnsupervisedTrainingMixin):
    """Training of a count-diffusion model."""

    _data_splitter_cls = CountsDataSplitter
    _training_plan_cls = DiffusionTrainingPlan
    _train_runner_cls = Runner
    #: What follows the last epoch, in this order.
    _finish: tuple[type[Callback], ...] = (RefitGenes, CalibrateDispersion)

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
        datamodule: LightningDataModule | None = None,
        trainer_config: Any = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model.

        The bound on held-out cells is watched under averaged weights; at the end the model holds the best weights seen,
        unless the last ones are as good within the Monte-Carlo error. Some more steps without dropout follow, at most a
        third as many each time: what each gene has of its own (dispersion, outliers) is fitted to the finished network;
        genes of a :class:`~sccountsdiff.CountsDiff` that are switched on and off get two levels, its network is polished,
        the genes are fitted again, and conditions are trusted as far as held-out cells become more likely by it. All
        dispersions are scaled by one factor, so that intervals of hidden entries cover the held-out cells as often as they
        say. A :class:`~sccountsdiff.CountsDiff` then matches what it expects of each gene in each category to what was
        counted there, and finds how genes vary together beyond that. ``Ctrl-C`` ends the training and keeps what was learned.

        Parameters
        ----------
        max_epochs
            Number of passes over the training cells; the learning rate comes down to zero over exactly these. ``None``
            is a number that suits the number of cells and of genes (:func:`~sccountsdiff.model.default_max_epochs`).
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
            Cells in a minibatch. Several processes share them, so that a training is the same on any number of devices;
            with many devices, raise it.
        early_stopping
            End early when the held-out bound gets worse: training goes back to the best weights and lets the learning
            rate come down from there, then stops. ``early_stopping_patience`` (validations in a row, 3 by default) may
            be passed as well. Not without held-out cells: then there is nothing to watch.
        datasplitter_kwargs
            Passed on to :class:`~scvi.dataloaders.DataSplitter`, for example ``external_indexing`` or ``num_workers``;
            and ``order``, such as :class:`~sccountsdiff.model.BlockShuffled` for counts on disk.
        plan_kwargs
            Passed on to the training plan: ``lr``, ``weight_decay``, ``warmup``; and ``ema_decay``.
        datamodule
            Minibatches from elsewhere, for a model built from a ``registry``: dictionaries of tensors by registry key.
            It shares the cells among processes itself, and has ``n_obs`` unless ``max_epochs`` is given.
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
            If ``max_epochs`` or ``batch_size`` is no positive whole number, or the strategy shards the weights (FSDP,
            DeepSpeed).
        TypeError
            If ``plan_kwargs`` has a name that the plan does not know.
        RuntimeError
            If the training loss is not finite.
        """
        for name, number in (("max_epochs", max_epochs), ("batch_size", batch_size)):
            if number is not None and not (isinstance(number, Integral) and number >= 1):
                raise ValueError(f"{name} must be a whole number of at least 1, got {number!r}.")
        options = trainer_options(trainer_config, trainer_kwargs)
        if datamodule is None:
            if train_size is None:
                train_size = _TRAIN_SIZE if validation_size is None else 1 - validation_size
            datamodule = self._data_splitter_cls(
                self._own_manager(),
                train_size=train_size,
                validation_size=validation_size,
                shuffle_set_split=shuffle_set_split,
                load_sparse_tensor=load_sparse_tensor,
                batch_size=batch_size,
                **(datasplitter_kwargs or {}),
            )
            options["use_distributed_sampler"] = False  # its own sampler knows its place
        if max_epochs is None:
            n_cells = getattr(datamodule, "n_train", None) or datamodule.n_obs
            max_epochs = default_max_epochs(n_cells, batch_size, self.summary_stats.n_vars)

        plan_kwargs = dict(plan_kwargs or {})
        averaging = AverageWeights(plan_kwargs.pop("ema_decay", 0.999))
        callbacks = [*options.pop("callbacks", ()), averaging]
        stop, patience = options.pop("early_stopping", early_stopping), options.pop("early_stopping_patience", 3)
        if getattr(datamodule, "n_val", 1):
            callbacks.append(KeepBest(averaging, stop, patience))
            options.setdefault("check_val_every_n_epoch", max(1, max_epochs // _VALIDATIONS))
        callbacks += [stage() for stage in self._finish]
        callbacks += checkpointing(options, callbacks, checkpoint_dir)

        with TemporaryDirectory() as scratch, expected_warnings_hidden():
            if "ddp" in str(options.get("strategy")).lower():
                options.setdefault("log_save_dir", scratch)  # scvi-tools would write into the working directory
            runner = self._train_runner_cls(
                self,
                training_plan=self._training_plan_cls(self.module, **plan_kwargs),
                data_splitter=datamodule,
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                early_stopping=False,  # KeepBest does it
                callbacks=callbacks,
                **options,
            )
            # Lightning leaves modules as they are: a network that was trained or loaded before would lack its dropout.
            # One that is frozen shall lack it: dropout would blur what the new vectors and offsets are learned from.
            self.module.train(self.known_levels_ is None)
            runner()
        self.history_ = {name: values.astype(float) for name, values in (self.history_ or {}).items()}
        self._remember_population(None if self.adata is not None else datamodule.train_dataloader())

    def _own_manager(self) -> AnnDataManager:
        if self.adata is None:
            raise ValueError(
                "The model has no data to train on: it was loaded without AnnData. Load it with adata=, or pass "
                "datamodule=."
            )
        return self.adata_manager
