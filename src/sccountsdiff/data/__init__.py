"""Counts on their way in: full scans, row access to any storage, splits, masks and panels."""

from sccountsdiff.data._masks import mcar_mask, thinning_split
from sccountsdiff.data._matrix import keep_measured, read_rows, row_chunks, row_readable, take_columns
from sccountsdiff.data._panels import AllOf, Panels, concat_panels, measured_names
from sccountsdiff.data._scan import MAX_COUNT, CountScan, InvalidCountsError, check_counts, scan_counts

__all__ = [
    "MAX_COUNT",
    "AllOf",
    "CountScan",
    "InvalidCountsError",
    "Panels",
    "check_counts",
    "concat_panels",
    "keep_measured",
    "mcar_mask",
    "measured_names",
    "read_rows",
    "row_chunks",
    "row_readable",
    "scan_counts",
    "take_columns",
    "thinning_split",
]
