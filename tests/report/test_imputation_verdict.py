"""What makes imputed values good, doubtful or bad."""

import numpy as np
import pandas as pd
import pytest

from sccountsdiff.report._imputation import ENTRIES, MOLECULES, Answer
from sccountsdiff.report._imputation_verdict import judge
from sccountsdiff.report._laws import Law, score_laws

rng = np.random.default_rng(0)
RATE = rng.gamma(2.0, 2.0, (120, 40))
TRUTH = rng.poisson(RATE).astype(float)
EVERYWHERE = np.ones(RATE.shape, dtype=bool)
UNIFORM = np.linspace(0, 1, 1001)


def law(mean, size=1e6):
    return Law(mean, np.full(mean.shape, size))


RIVALS = {"gene mean": law(np.broadcast_to(RATE.mean(0), RATE.shape)), "conditional mean": law(0.5 * RATE + 2.0)}


def verdict(molecules, entries, rivals=RIVALS, pit=UNIFORM):
    laws = {MOLECULES: {"sccountsdiff": molecules} | RIVALS, ENTRIES: {"sccountsdiff": entries} | rivals}
    answers = {name: Answer(part, TRUTH, EVERYWHERE) for name, part in laws.items()}
    scores = pd.concat([score_laws(name, answer.flat(), TRUTH[EVERYWHERE], 0) for name, answer in answers.items()])
    return judge(scores, answers, pit)


def failed(found):
    return [check.asked for check in found.checks if not check.holds]


def test_the_right_laws_are_good():
    found = verdict(law(RATE), law(RATE))
    assert (found.tone, failed(found)) == ("good", [])


def test_no_lower_deviance_than_the_gene_mean_is_bad():
    assert verdict(RIVALS["gene mean"], law(RATE)).tone == "bad"


def test_a_lower_deviance_with_a_higher_crps_is_mixed_and_says_where():
    wide = law(RATE, 0.2)  # right means, but laws with far too much spread
    found = verdict(law(RATE), wide)
    assert found.tone == "mixed"
    assert "hidden entries: gene mean (CRPS); hidden entries: conditional mean (CRPS)" in found.headline
    assert "hidden entries: better than the gene mean" in failed(found)


def test_a_lower_mean_deviance_in_a_minority_of_cells_is_mixed():
    mean = RATE.copy()
    rival = RATE.copy()
    mean[:70] *= 1.5  # worse in most cells,
    rival[70:] *= 3.0  # and much better in the others
    found = verdict(law(RATE), law(mean), rivals={"gene mean": law(rival)})
    assert found.tone == "mixed"
    assert "hidden entries: gene mean (most cells)" in found.headline
    assert "not better in most cells" in next(check.found for check in found.checks if not check.holds)


@pytest.mark.parametrize(("size", "holds"), [(1e6, True), (2.0, False)])
def test_laws_that_are_too_wide_are_said_to_be(size, holds):
    found = verdict(law(RATE), law(RATE, size))
    check = next(check for check in found.checks if "not too wide" in check.asked)
    assert check.holds is holds
    assert ("they are too wide" in check.found) is not holds


def test_intervals_must_hold_what_they_promise():
    assert failed(verdict(law(RATE), law(RATE), pit=0.3 + 0.4 * UNIFORM)) == [
        "90 % intervals hold 88% to 92% of the hidden counts"
    ]
