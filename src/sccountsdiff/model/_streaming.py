"""Work on many cells: how it is set up, and how its results reach a file."""

from __future__ import annotations

from typing import Any

import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scvi import settings

from sccountsdiff._version import __version__
from sccountsdiff.data import ResultStore, digest, seed_begun_with
from sccountsdiff.model._cell_job import CellJob, CellReader, Task
from sccountsdiff.model._destination import Destination
from sccountsdiff.model._guards import GuardsMixin
from sccountsdiff.model._job import Job
from sccountsdiff.model._loader import CountsDataset
from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.model._random import seeded
from sccountsdiff.model._record import UNS_KEY


class StreamingMixin(GuardsMixin):
    """Jobs for the cells of an AnnData, and files for the results of jobs."""

    module: CountDiffusionModule

    def _job(self, task: Task, data: AnnData, cells: NDArray[Any], batch_size: int | None, silent: bool) -> CellJob:
        """A task for some cells of validated data."""
        self._check_if_trained(warn=True)
        self.module.eval()
        dataset = CountsDataset(self.get_anndata_manager(data, required=True), cells)
        return CellJob(task, CellReader(self.module, dataset, batch_size or settings.batch_size, silent))

    def _write_out(
        self, job: Job, out: Destination, frame: AnnData, notes: dict[str, Any], seed: int | None, begun: int = 0
    ) -> None:
        """Work on a file of results.

        Parameters
        ----------
        job
            The work.
        out
            Where the results go, and who works.
        frame
            The cells and genes of the file, without results.
        notes
            How each result was made, by its name.
        seed
            Seed that the user gave; None also where nothing is drawn.
        begun
            Seed to draw with.
        """
        request = {
            **job.request(),
            "cells": digest([frame.obs_names]),
            "genes": digest([frame.var_names]),
            "model": digest(values.float().cpu().numpy() for values in self.module.state_dict().values()),
            "version": __version__,
            "seed": seed,
        }
        store = ResultStore(out.path, job.places, job.chunks, request, begun)
        if out.work(job, store):
            frame.uns[UNS_KEY] = notes
            store.close(frame)


def bare(cell_names: pd.Index, gene_names: pd.Index) -> AnnData:
    """Cells and genes of which only the names are told."""
    names = (cell_names.astype(str), gene_names.astype(str))
    obs, var = (pd.DataFrame(index=index) for index in names)
    return AnnData(obs=obs, var=var)


def seed_to_begin(out: Destination, seed: int | None) -> int:
    """Seed of draws that go to a file: the one given, or the one that unfinished results began with.

    Raises
    ------
    ValueError
        If several processes are to draw and no seed was given.
    """
    if seed is not None:
        return int(seed)
    if out.shared:
        raise ValueError(f"{out} is the work of several processes: pass the same seed= to all of them.")
    begun = seed_begun_with(out.path)
    return seeded(None) if begun is None else begun
