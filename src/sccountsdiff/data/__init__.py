"""Counts on their way in: full scans, row access to any storage, splits and masks. NumPy and SciPy only."""

from sccountsdiff.data._masks import mcar_mask, thinning_split
from sccountsdiff.data._matrix import read_rows, row_chunks, row_readable
from sccountsdiff.data._scan import MAX_COUNT, CountScan, InvalidCountsError, check_counts, scan_counts

__all__ = [
    "MAX_COUNT",
    "CountScan",
    "InvalidCountsError",
    "check_counts",
    "mcar_mask",
    "read_rows",
    "row_chunks",
    "row_readable",
    "scan_counts",
    "thinning_split",
]
