"""Imputation as a task: a question, the method that works it out, and the form of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from sccountsdiff.data import Rows
from sccountsdiff.model._answer import Answer
from sccountsdiff.model._cell_job import CellJob, Task
from sccountsdiff.model._method import Engine, Method
from sccountsdiff.model._module import Cells
from sccountsdiff.model._question import Question, View


@final
@dataclass(frozen=True)
class Imputation(Task):
    """Fill in entries of cells.

    Attributes
    ----------
    question
        What the model is shown, and what is asked of it.
    method
        How it is worked out.
    form
        Expectation, quantiles or draws.
    engine
        The trained core.
    genes
        Columns of the genes to return.
    name
        Name of the layer to make.
    """

    question: Question
    method: Method
    form: Answer
    engine: Engine
    genes: Any
    name: str
    title = "Imputing"

    @property
    def places(self) -> Sequence[Sequence[str]]:
        """Layers."""
        return [[f"layers/{name}"] for name in self.form.names(self.name)]

    def request(self) -> dict[str, Any]:
        """All but the cells and genes."""
        return {"answer": repr(self.form), "method": repr(self.method), "replace": self.question.replace}

    def show(self, cells: Cells, rows: NDArray[np.integer]) -> View:
        """What is not hidden."""
        return self.question.show(cells, rows)

    def answer(self, shown: View, generator: torch.Generator) -> Sequence[Rows]:
        """By the method, in the form that was asked for."""
        self.engine.process.check_seen(shown.survival)
        results = self.form.of(self.method, self.engine, shown, generator)
        return [self.form.block(result[:, self.genes]) for result in results]


def check_depth(job: CellJob, question: Question, cell_names: Any) -> None:
    """Raise ``ValueError`` if a cell is deeper than it is to become, before any is imputed."""
    if question.depth is None:
        return
    for rows, cells in job.reader.read(range(job.chunks.number), "Checking"):
        question.depth.check(question.mask(cells, rows), rows, cell_names)
