"""Generation as a job: the cells of a plan, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

from numpy.typing import NDArray
from scvi.utils import track

from sccountsdiff.data import Chunks, digest
from sccountsdiff.model._job import Job, Piece
from sccountsdiff.model._side_by_side import side_by_side
from sccountsdiff.model._stages import Making, Stage
from sccountsdiff.model._start import Start


@final
@dataclass(frozen=True)
class Generation(Job):
    """New cells.

    Attributes
    ----------
    making
        The cells.
    begin
        Where they start.
    stage
        Their last state.
    described
        What was asked for, in the terms of JSON.
    layer
        Layer that holds the counts as well as ``.X``, if any.
    silent
        Whether to hide the progress bar.
    """

    making: Making
    begin: Start
    stage: Stage
    described: dict[str, Any]
    layer: str | None
    silent: bool

    @property
    def chunks(self) -> Chunks:
        """The chunks of cells."""
        return self.making.chunks

    @property
    def places(self) -> Sequence[Sequence[str]]:
        """``.X``, and the layer that the model reads."""
        return [["X"] if self.layer is None else ["X", f"layers/{self.layer}"]]

    def request(self) -> dict[str, Any]:
        """What was asked for, and what follows from it for each cell."""
        plan = self.making.plan
        values = [plan.values[name] for name in sorted(plan.values)]
        return {**self.described, "plan": digest([*values, plan.library_size, plan.template, plan.row])}

    def pieces(self, chunks: Sequence[int], seed: int) -> Iterator[Piece]:
        """Make cells; the plan was drawn with the seed already."""
        making, stage = self.making, self.stage
        n_workers = making.module.at_a_time(len(chunks), making.chunks.size * self.begin.n_genes)
        made = side_by_side(stage.counts, chunks, n_workers if stage.independent else 1)
        for chunk in track(chunks, description="Generating", disable=self.silent):
            yield Piece([next(made)], self._begin(chunk))

    def inputs(self, chunks: Sequence[int]) -> Iterator[Iterable[NDArray[Any]]]:
        """Look at what the cells start from again."""
        return map(self._begin, chunks)

    def _begin(self, chunk: int) -> Iterator[NDArray[Any]]:
        yield from self.begin.inputs(self.making.plan, self.making.cells(chunk))  # read only if somebody looks
