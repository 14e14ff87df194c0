"""One imputation: a question about cells of some data, answered minibatch by minibatch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from sccountsdiff.data import Digest, Sink, digest
from sccountsdiff.model._answer import Answer
from sccountsdiff.model._inference import frame
from sccountsdiff.model._method import Engine, Method
from sccountsdiff.model._module import Cells
from sccountsdiff.model._question import Question
from sccountsdiff.model._random import chunk_generator


class Reader(NamedTuple):
    """How cells are read."""

    #: Minibatches of cells at some positions; a description shows a progress bar.
    minibatches: Callable[[NDArray[np.integer], str | None], Iterator[Cells]]
    batch_size: int


@dataclass(frozen=True)
class Job:
    """A question about some cells and genes, how it is worked out, and the form of the answer."""

    data: AnnData
    cells: NDArray[np.intp]
    genes: Any
    question: Question
    method: Method
    answer: Answer
    engine: Engine
    reader: Reader

    @property
    def batch_size(self) -> int:
        """Cells in a minibatch."""
        return self.reader.batch_size

    @property
    def cell_names(self) -> pd.Index:
        """Names of the cells."""
        return self.data.obs_names[self.cells]

    @property
    def gene_names(self) -> pd.Index:
        """Names of the genes asked for."""
        return self.data.var_names[self.genes]

    def fill(self, sink: Sink, seed: int) -> None:
        """Answer for the chunks that a sink lacks; the draws of a chunk depend on the seed and its number alone."""
        pending = sink.pending()
        if not pending:
            return
        rows = [self.cells[sink.rows(chunk)] for chunk in pending]
        minibatches = self.reader.minibatches(np.concatenate(rows), "Imputing")
        for chunk, cells, minibatch in zip(pending, rows, minibatches, strict=True):
            generator = chunk_generator(seed, chunk, minibatch.counts.device)
            view = self.question.show(minibatch, cells)
            self.engine.process.check_seen(view.survival)
            results = self.answer.of(self.method, self.engine, view, generator)
            sink.write(chunk, [self.answer.block(result[:, self.genes]) for result in results])

    def survey(self) -> str:
        """Check the depth of all cells before any is imputed; fingerprint of everything that the model is shown."""
        taken, start = Digest(), 0
        for minibatch in self.reader.minibatches(self.cells, "Checking"):
            cells = self.cells[start : start + len(minibatch.counts)]
            start += len(cells)
            if self.question.depth is not None:
                self.question.depth.check(self.question.mask(minibatch, cells), cells, self.data.obs_names)
            view = self.question.show(minibatch, cells)
            for values in (view.counts, view.survival, *view.condition.values()):
                taken.add(values.cpu().numpy())
        return taken.text()

    def fingerprint(self) -> dict[str, Any]:
        """All that the numbers follow from, apart from model and seed."""
        return {
            "answer": repr(self.answer),
            "method": repr(self.method),
            "replace": self.question.replace,
            "counts, masks and conditions": self.survey(),
            "cells": digest([self.cell_names]),
            "genes": digest([self.gene_names]),
        }

    def named(self, result: Any) -> pd.DataFrame:
        """A result with the names of cells and genes."""
        return frame(result.toarray() if sparse.issparse(result) else result, self.data, self.cells, self.genes)

    def returned(self, results: list[Any]) -> Any:
        """The results as a user gets them: named if they are one dense matrix."""
        combined = self.answer.combined(results)
        return self.named(combined) if isinstance(combined, np.ndarray) and combined.ndim == 2 else combined
