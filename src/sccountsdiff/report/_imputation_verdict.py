"""What a reader in a hurry should know of an imputation, and the warning if it is not worth having."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sccountsdiff import metrics
from sccountsdiff.report._page import Check, Section, Verdict
from sccountsdiff.report._scores import MODEL

if TYPE_CHECKING:
    from sccountsdiff.report._imputation import Answer

#: How far the coverage of 90 % intervals may be from 90 %.
TOLERATED_COVERAGE = 0.02
#: How far the total of expected counts may be from that of the hidden ones.
TOLERATED_TOTAL = 0.05
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


def judge(molecules: Answer, entries: Answer, pit: NDArray) -> Verdict:
    """Judge an imputation.

    Parameters
    ----------
    molecules, entries
        What the entrants say of held-out molecules, and of hidden entries.
    pit
        Of the hidden entries under the model.

    Returns
    -------
    Bad if the model does not beat the gene mean on held-out molecules beyond doubt; good if everything holds.
    """
    rivals = [name for name in molecules.laws if name != MODEL]
    checks = [_beats(molecules, name, "held-out molecules") for name in rivals]
    checks += [_beats(entries, name, "hidden entries") for name in rivals]
    checks += [_covers(pit), _adds_up(molecules)]
    tone = "bad" if not checks[0].holds else "good" if all(check.holds for check in checks) else "mixed"
    headline = {
        "good": "On held-out cells the model imputes better than the simple baselines, and its intervals can be believed.",
        "mixed": "The model imputes better than the gene mean, but not everything below holds.",
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


def _beats(answer: Answer, rival: str, what: str) -> Check:
    """Whether the deviance is lower than that of a rival, cell by cell and beyond doubt."""
    ours, theirs = (answer.deviance(name) for name in (MODEL, rival))
    difference = ours - theirs
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    holds = bool(difference.mean() < -CERTAIN * error)
    change = ours.mean() / theirs.mean() - 1
    found = (
        f"Poisson deviance {ours.mean():.4f} against {theirs.mean():.4f} ({change:+.1%}); lower in "
        f"{np.mean(difference < 0):.0%} of {len(difference):,} cells"
    )
    return Check(f"{what}: better than the {rival}", found, holds)


def _covers(pit: NDArray) -> Check:
    share = metrics.interval_coverage(pit, 0.9)
    allowed = f"{0.9 - TOLERATED_COVERAGE:.0%} to {0.9 + TOLERATED_COVERAGE:.0%}"
    holds = abs(share - 0.9) <= TOLERATED_COVERAGE
    return Check(f"90 % intervals hold {allowed} of the hidden counts", f"{share:.1%}", holds)


def _adds_up(molecules: Answer) -> Check:
    where = molecules.where
    ratio = float(molecules.laws[MODEL].mean[where].sum() / max(molecules.truth[where].sum(), 1))
    holds = abs(ratio - 1) <= TOLERATED_TOTAL
    return Check(f"expected totals within {TOLERATED_TOTAL:.0%} of the true ones", f"{ratio - 1:+.1%}", holds)
