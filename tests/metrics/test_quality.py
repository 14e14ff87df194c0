"""Quality is where a score lies between a baseline and other real cells."""

import numpy as np
import pandas as pd

from sccountsdiff import metrics


def test_quality_is_one_at_the_floor_and_zero_at_the_baseline_whichever_way_is_better():
    floor = pd.DataFrame({"mmd2": [0.0, 0.0], "pearson_delta": [0.9, 0.5]}, index=["B", "T"])
    baseline = pd.DataFrame({"mmd2": [0.2, 0.1], "pearson_delta": [0.1, 0.5]}, index=["B", "T"])
    scores = pd.DataFrame({"mmd2": [0.05, 0.3], "pearson_delta": [1.0, 0.5]}, index=["B", "T"])
    found = metrics.quality(scores, baseline, floor)
    np.testing.assert_allclose(found, [[0.75, 1.0], [0.0, np.nan]])
    pd.testing.assert_series_equal(metrics.quality(scores.T["B"], baseline.T["B"], floor.T["B"]), found.T["B"])
