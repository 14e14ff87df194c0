"""What a reader in a hurry should know of an imputation, and the warning if it is not worth having."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sccountsdiff import metrics
from sccountsdiff.report._page import Check, Section, Verdict
from sccountsdiff.report._scores import FLOOR, MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from sccountsdiff.report._imputation import Answer

#: How far the coverage of 90 % intervals may be from 90 %.
TOLERATED_COVERAGE = 0.02
#: How far the total of expected counts may be from that of the hidden ones.
TOLERATED_TOTAL = 0.05
#: How far the deviance may be below that of counts drawn from the predicted laws.
TOLERATED_WIDTH = 0.1
#: Standard errors that a difference must exceed.
CERTAIN = 2.0

_REMEDIES = """<p>Held-out molecules of your own cells are predicted no better by the model than by the average
expression profile scaled to each cell's depth. Its imputed values would add detail that is not there: <b>do not use
them for plots, clusters or tests</b>. What to look at, in this order:</p>
<ul>
<li>Are the counts raw UMI counts, in the layer that <code>setup_anndata(layer=)</code> names?</li>
<li>Was the model trained to the end (<code>model.train()</code> without <code>max_epochs</code>; see the training
curve)?</li>
<li>Are there enough cells? It was trained on {n_cells} cells.</li>
<li>Do these cells come from the same tissue and protocol as the training cells?</li>
<li>Are the cells alike, as in a cell line? Then the gene mean may be all there is to know of them, and nothing needs
imputing.</li>
</ul>"""


class Duel(NamedTuple):
    """The model against a baseline, on the same hidden counts.

    Attributes
    ----------
    what, rival
        What was hidden, and the name of the baseline.
    deviance, crps
        Scores of the model and of the baseline; lower is better.
    wins
        Share of the cells in which the model has the lower deviance.
    n_cells
        Number of these cells.
    certain
        Whether the mean deviance is lower beyond doubt.
    """

    what: str
    rival: str
    deviance: tuple[float, float]
    crps: tuple[float, float]
    wins: float
    n_cells: int
    certain: bool

    def lost(self) -> list[str]:
        """By what the model is not better.

        Returns
        -------
        Names of scores; empty if it is better in everything.
        """
        better = {"deviance": self.certain, "CRPS": self.crps[0] < self.crps[1], "most cells": self.wins > 0.5}
        return [name for name, holds in better.items() if not holds]

    def check(self) -> Check:
        """The duel as a line of the verdict.

        Returns
        -------
        It holds if the model is better in everything.
        """
        (ours, theirs), (crps, their_crps) = self.deviance, self.crps
        found = (
            f"Poisson deviance {ours:.4f} against {theirs:.4f} ({ours / theirs - 1:+.1%}), lower in {self.wins:.0%} of "
            f"{self.n_cells:,} cells; CRPS {crps:.4f} against {their_crps:.4f}"
        )
        lost = self.lost()
        found += f"; not better in {', '.join(lost)}" if lost else ""
        return Check(f"{self.what}: better than the {self.rival}", found, not lost)


def judge(scores: pd.DataFrame, answers: Mapping[str, Answer], pit: NDArray) -> Verdict:
    """Judge an imputation.

    Parameters
    ----------
    scores
        Table of scores; its questions are those of ``answers`` and more.
    answers
        What the entrants say of held-out molecules, and of hidden entries, in this order, by question.
    pit
        Of the hidden entries under the model.

    Returns
    -------
    Bad if the mean deviance of the model on held-out molecules is not below that of the gene mean beyond doubt; good
    if everything holds.
    """
    table = scores.set_index(["question", "metric"])
    molecules, entries = answers
    duels = [
        _duel(table, answer, what, name) for what, answer in answers.items() for name in answer.laws if name != MODEL
    ]
    checks = [*(duel.check() for duel in duels), _covers(pit), _as_wide(table, entries), _adds_up(answers[molecules])]
    tone = "bad" if not duels[0].certain else "good" if all(check.holds for check in checks) else "mixed"
    lost = [f"{duel.what}: {duel.rival} ({', '.join(duel.lost())})" for duel in duels if duel.lost()]
    but = f"it is not better in everything: {'; '.join(lost)}" if lost else "not everything below holds"
    headline = {
        "good": "On held-out cells the model imputes better than the simple baselines (by mean deviance, by CRPS, and in "
        "most cells), and its 90 % intervals hold what they promise.",
        "mixed": f"The model imputes better than the gene mean by the mean deviance of held-out molecules, but {but}.",
        "bad": "Warning: on these data the model is not better than the gene mean.",
    }[tone]
    text = (
        "Measured by hiding molecules and entries of cells that the model was not trained on. Imputed values are "
        "expectations: look at them, and test the counts."
    )
    return Verdict(tone, headline, text, checks)


def warning(n_cells: int) -> Section:
    """What to do about a model that is not better than the gene mean.

    Parameters
    ----------
    n_cells
        Number of training cells.

    Returns
    -------
    A section.
    """
    return Section("Do not use these imputed values", _REMEDIES.format(n_cells=f"{n_cells:,}"))


def _duel(table: pd.DataFrame, answer: Answer, what: str, rival: str) -> Duel:
    ours, theirs = (answer.deviance(name) for name in (MODEL, rival))
    difference = ours - theirs
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return Duel(
        what,
        rival,
        (ours.mean(), theirs.mean()),
        (table.at[(what, "crps"), MODEL], table.at[(what, "crps"), rival]),
        float(np.mean(difference < 0)),
        len(difference),
        bool(difference.mean() < -CERTAIN * error),
    )


def _covers(pit: NDArray) -> Check:
    share = metrics.interval_coverage(pit, 0.9)
    allowed = f"{0.9 - TOLERATED_COVERAGE:.0%} to {0.9 + TOLERATED_COVERAGE:.0%}"
    holds = abs(share - 0.9) <= TOLERATED_COVERAGE
    return Check(f"90 % intervals hold {allowed} of the hidden counts", f"{share:.1%}", holds)


def _as_wide(table: pd.DataFrame, what: str) -> Check:
    """Whether the counts scatter around their expectations at least as much as the predicted laws say."""
    ours, floor = (float(table.at[(what, "poisson_deviance"), who]) for who in (MODEL, FLOOR))
    found = f"Poisson deviance {ours:.4f}; it would be {floor:.4f} if the predicted laws were right"
    holds = ours >= (1 - TOLERATED_WIDTH) * floor
    if not holds:
        found += ", so that they are too wide: counts are closer to what was expected than the model thinks"
    return Check(f"{what}: predicted laws not too wide, within {TOLERATED_WIDTH:.0%}", found, holds)


def _adds_up(molecules: Answer) -> Check:
    where = molecules.where
    ratio = float(molecules.laws[MODEL].mean[where].sum() / max(molecules.truth[where].sum(), 1))
    holds = abs(ratio - 1) <= TOLERATED_TOTAL
    return Check(f"expected totals within {TOLERATED_TOTAL:.0%} of the true ones", f"{ratio - 1:+.1%}", holds)
