"""What a reader in a hurry should know of generated cells."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from sccountsdiff.metrics import METRICS
from sccountsdiff.report._contest import INDEPENDENT
from sccountsdiff.report._page import Check, Verdict
from sccountsdiff.report._responses import MEAN_SHIFT
from sccountsdiff.report._scores import FLOOR, MODEL

CORRELATION, AUC = "gene_correlation_agreement", "two_sample_auc"
MMD_OVER_FLOOR = 1.5
LARGEST_AUC, AUC_ABOVE_FLOOR = 0.6, 0.05
CORRELATION_BELOW_FLOOR = 0.05
LIBRARY_ABOVE_FLOOR = 0.05
ACCURACY_BELOW_REAL = 0.03
LARGEST_COPIED, COPYING = 0.10, 0.3


class Measured(NamedTuple):
    """What the verdict rests on.

    Attributes
    ----------
    scores
        Table of scores by metric; where a metric stands twice, the first one counts.
    mmd2_floor
        What two random parts of the real cells stay below in 95 of 100 splits.
    real_accuracy
        Accuracy of label transfer to held-out real cells.
    n_conditions, n_cells
        Numbers of conditions and of held-out cells.
    """

    scores: pd.DataFrame
    mmd2_floor: float
    real_accuracy: float
    n_conditions: int
    n_cells: int

    def of(self, metric: str, who: str = MODEL) -> float:
        """A score.

        Parameters
        ----------
        metric, who
            Names of a metric and of an entrant.

        Returns
        -------
        The score.
        """
        return float(self.scores.loc[[metric], who].iloc[0])


def judge(measured: Measured) -> Verdict:
    """Judge generated cells.

    Parameters
    ----------
    measured
        The scores.

    Returns
    -------
    Bad if most checks fail, if one fails in which real cells with shuffled genes do as well or better, or if training
    cells are copied; good if everything holds.
    """
    distance, correlation, classifier = _distance(measured), _correlations(measured), _classifier(measured)
    checks = [distance, correlation, classifier, _library(measured)]
    checks += [*([_labels(measured)] if measured.n_conditions > 1 else ()), _copies(measured)]
    checks += [_responds(measured)] if MEAN_SHIFT in measured.scores else []
    failed = [check.asked for check in checks if not check.holds]
    reasons = {
        f"{len(failed)} of {len(checks)} checks fail": 2 * len(failed) > len(checks),
        "they are as far from real cells as cells with shuffled genes": _shuffled(measured, "mmd2", distance),
        "their genes vary together no more than shuffled ones": _shuffled(measured, CORRELATION, correlation),
        "a classifier tells them apart as easily as cells with shuffled genes": _shuffled(measured, AUC, classifier),
        "many are close to a training cell": measured.of("copied_fraction") > COPYING,
    }
    found = [reason for reason, holds in reasons.items() if holds]
    tone = "bad" if found else "mixed" if failed else "good"
    headline = {
        "good": f"Generated cells pass all {len(checks)} checks: in none are they further from held-out real cells than "
        "is tolerated below.",
        "mixed": f"Generated cells pass {len(checks) - len(failed)} of {len(checks)} checks. Not: {'; '.join(failed)}.",
        "bad": f"Warning: do not use these generated cells as they are: {'; '.join(found)}.",
    }[tone]
    text = (
        f"Compared with {measured.n_cells:,} real cells that the model was not trained on, in the same conditions. "
        "Generated cells are no new evidence: use them to plan, to extend and to test methods, not to raise the n of a study."
    )
    return Verdict(tone, headline, text, checks)


def _shuffled(measured: Measured, metric: str, check: Check) -> bool:
    """Whether a check fails, and real cells whose genes were shuffled do as well or better."""
    ours, shuffled = (measured.of(metric, who) for who in (MODEL, INDEPENDENT))
    return not check.holds and (ours <= shuffled if METRICS[metric].direction == "higher" else ours >= shuffled)


def _distance(measured: Measured) -> Check:
    ours, shuffled, floor = measured.of("mmd2"), measured.of("mmd2", INDEPENDENT), measured.mmd2_floor
    asked = f"as close to real cells as these are to each other, within {MMD_OVER_FLOOR} x"
    found = f"MMD2 {ours:.4f}; random parts of the real cells stay below {floor:.4f}, shuffled genes {shuffled:.4f}"
    return Check(asked, found, ours <= MMD_OVER_FLOOR * floor)


def _correlations(measured: Measured) -> Check:
    ours, floor, shuffled = (measured.of(CORRELATION, who) for who in (MODEL, FLOOR, INDEPENDENT))
    found = f"agreement {ours:.2f}; real cells {floor:.2f}, shuffled genes {shuffled:.2f}"
    asked = f"genes vary together as in real cells, within {CORRELATION_BELOW_FLOOR}"
    return Check(asked, found, ours >= floor - CORRELATION_BELOW_FLOOR)


def _classifier(measured: Measured) -> Check:
    ours, floor, shuffled = (measured.of(AUC, who) for who in (MODEL, FLOOR, INDEPENDENT))
    found = f"AUC {ours:.2f}; other real cells {floor:.2f}, shuffled genes {shuffled:.2f}"
    limit = max(LARGEST_AUC, floor + AUC_ABOVE_FLOOR)
    return Check(f"a classifier hardly tells them from real cells (AUC at most {limit:.2f})", found, ours <= limit)


def _library(measured: Measured) -> Check:
    ours, floor = (measured.of("library_size_distance", who) for who in (MODEL, FLOOR))
    found = f"{ours:.1%} of the mean apart; other real cells {floor:.1%}"
    asked = f"library sizes as in real cells, within {LIBRARY_ABOVE_FLOOR:.0%}"
    return Check(asked, found, ours <= floor + LIBRARY_ABOVE_FLOOR)


def _labels(measured: Measured) -> Check:
    ours = measured.of("label_transfer_accuracy")
    found = f"{ours:.0%} recognised as what was asked for; held-out real cells {measured.real_accuracy:.0%}"
    asked = f"cells are what they were asked to be, within {ACCURACY_BELOW_REAL:.0%}"
    return Check(asked, found, ours >= measured.real_accuracy - ACCURACY_BELOW_REAL)


def _copies(measured: Measured) -> Check:
    copied = measured.of("copied_fraction")
    found = f"{copied:.1%} closer to a training cell than 95 % of held-out cells are"
    return Check(f"no copies of training cells (at most {LARGEST_COPIED:.0%})", found, copied <= LARGEST_COPIED)


def _responds(measured: Measured) -> Check:
    ours, shift, floor = (measured.of("pearson_delta", who) for who in (MODEL, MEAN_SHIFT, FLOOR))
    found = f"Pearson-delta {ours:.2f}; mean shift {shift:.2f}, other real cells {floor:.2f}"
    return Check("responses are predicted better than by the mean shift", found, ours > shift)
