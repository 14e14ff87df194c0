"""Work on many cells: how it is set up, and how its results reach memory or a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData, settings
from numpy.typing import ArrayLike, NDArray
from scvi.utils import track
from torch import Tensor

from sccountsdiff._version import __version__
from sccountsdiff.data import MemorySink, ResultStore, digest, seed_begun_with
from sccountsdiff.model._cell_job import CellJob, CellReader, Task
from sccountsdiff.model._destination import Destination
from sccountsdiff.model._guards import GuardsMixin, cell_positions
from sccountsdiff.model._job import Job
from sccountsdiff.model._loader import CountsDataset
from sccountsdiff.model._module import Cells, CountDiffusionModule
from sccountsdiff.model._random import chunk_generator, seeded
from sccountsdiff.model._record import UNS_KEY


class Selection(NamedTuple):
    """Which cells a user means, and how they are read."""

    indices: ArrayLike | None
    batch_size: int | None
    #: Minibatches in place of cells of an AnnData.
    dataloader: Iterable[dict[str, Tensor]] | None = None
    silent: bool = True


class Seed(NamedTuple):
    """A seed: as the user gave it (None also where nothing is drawn), and the one that is used."""

    asked: int | None = None
    used: int = 0


class StreamingMixin(GuardsMixin):
    """Jobs for the cells of an AnnData, and files for the results of jobs."""

    module: CountDiffusionModule

    def _job(self, task: Task, data: AnnData, selection: Selection) -> CellJob:
        """A task for some cells of validated data."""
        self._check_if_trained(warn=True)
        self.module.eval()
        cells = cell_positions(data, selection.indices)
        if len(cells) == 0:
            raise ValueError("No cells are selected: indices is empty. Pass None for all cells.")
        dataset = CountsDataset(self.get_anndata_manager(data, required=True), cells)
        size = self.module.minibatch_size(selection.batch_size, dataset.counts.shape[1])
        return CellJob(task, CellReader(self.module, dataset, size, selection.silent))

    def _answers(self, task: Task, data: AnnData | None, selection: Selection, seed: int = 0) -> list[Any]:
        """Results of a task in memory, for cells of an AnnData or the minibatches of a loader."""
        if data is not None:
            job = self._job(task, data, selection)
            sink = MemorySink(job.chunks)
            job.fill(sink, seed)
            return sink.matrices()
        minibatches = self._loaded(selection.dataloader or (), None if selection.silent else task.title)
        nowhere = np.empty(0, dtype=int)
        blocks = [
            task.answer(task.show(cells, nowhere), chunk_generator(seed, chunk, cells.counts.device))
            for chunk, cells in enumerate(minibatches)
        ]
        return [np.concatenate(parts) for parts in zip(*blocks, strict=True)]

    def _loaded(self, minibatches: Iterable[dict[str, Tensor]], title: str | None = None) -> Iterator[Cells]:
        """Minibatches of a loader on the device of the model; a title shows a progress bar."""
        self._check_if_trained(warn=True)
        self.module.eval()
        for tensors in track(minibatches, description=title or "", disable=title is None):
            yield self.module.cells(tensors)

    def _write_answers(
        self,
        job: CellJob,
        data: AnnData,
        out: Destination,
        note: Mapping[str, Any],
        seed: Seed,
        genes: Any = slice(None),
    ) -> None:
        """Results of a task to a file."""
        frame = bare(taken(data.obs_names, job.reader.cells.rows), data.var_names[genes])
        note = note if seed == Seed() else {**note, "seed": seed.used}
        notes = {place.rpartition("/")[2]: note for places in job.places for place in places}
        self._write_out(job, out, frame, notes, seed)

    def _write_out(self, job: Job, out: Destination, frame: AnnData, notes: Mapping[str, Any], seed: Seed) -> None:
        """Work on a file of results.

        Parameters
        ----------
        job
            The work.
        out
            Where the results go, and who works.
        frame
            Cells and genes of the file, without results.
        notes
            How each result was made, by its name.
        seed
            Seed of the draws.
        """
        request = self._request(job, frame, seed)
        store = ResultStore(out.path, job.places, job.chunks, request, seed.used)
        if out.work(job, store):
            frame.uns[UNS_KEY] = dict(notes)
            store.close(frame)

    def _request(self, job: Job, frame: AnnData, seed: Seed) -> dict[str, Any]:
        """All that results follow from, apart from the inputs of each chunk."""
        return {
            **job.request(),
            "cells": digest([frame.obs_names]),
            "genes": digest([frame.var_names]),
            "model": digest(values.float().cpu().numpy() for values in self.module.state_dict().values()),
            "version": __version__,
            "seed": seed.asked,
        }


def named_cells(data: AnnData | None) -> AnnData:
    """The data, of which a file of results needs the names.

    Raises
    ------
    ValueError
        If there are only minibatches.
    """
    if data is None:
        raise ValueError("out= needs the names of the cells: pass adata= instead of dataloader=.")
    return data


def bare(cell_names: pd.Index, gene_names: pd.Index) -> AnnData:
    """Cells and genes of which only the names are told."""
    obs, var = (pd.DataFrame(index=_writable(names)) for names in (cell_names, gene_names))
    # Whoever made the data was warned of names that occur twice; to look once more takes 32 bytes a cell that stay.
    with settings.override(check_uniqueness=False):
        return AnnData(obs=obs, var=var)


def _writable(names: pd.Index) -> pd.Index:
    """Names as plain strings, which every AnnData can write; the index itself if it has them."""
    return names if names.dtype == object and names.inferred_type == "string" else names.astype(str)


def taken(names: pd.Index, rows: NDArray[np.integer]) -> pd.Index:
    """Names of some cells; those of all are the index itself.

    A new index takes as much memory once more, and as much again until pandas knows it to be unique.
    """
    whole = len(rows) == len(names) and np.array_equal(rows, np.arange(len(names)))
    return names if whole else names[rows]


def seed_to_begin(out: Destination, seed: int | None) -> Seed:
    """Seed of draws that go to a file: the one given, or the one that unfinished results began with.

    Raises
    ------
    ValueError
        If several processes are to draw and no seed was given.
    """
    if seed is not None:
        return Seed(int(seed), int(seed))
    if out.shared:
        raise ValueError(f"{type(out).__name__} is the work of several processes: pass the same seed= to all of them.")
    begun = seed_begun_with(out.path)
    return Seed(None, seeded(None) if begun is None else begun)
