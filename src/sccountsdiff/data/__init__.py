"""Counts on their way in and out: full scans, row access to any storage, count latents, splits, masks, panels, exports."""

from sccountsdiff.data._digest import Digest, digest
from sccountsdiff.data._export import export_perturbations
from sccountsdiff.data._gene_sums import GeneSums
from sccountsdiff.data._latents import from_counts, to_counts
from sccountsdiff.data._masks import cell_mask, mar_mask, mcar_mask, mnar_mask, panel_mask, thinning_split
from sccountsdiff.data._matrix import Rows, keep_measured, read_rows, row_chunks, row_readable, take_columns
from sccountsdiff.data._modalities import MODALITY_KEY, boolean_layers, join_modalities, split_modalities, write_back
from sccountsdiff.data._nulls import plant_null_genes
from sccountsdiff.data._on_disk import open_cells
from sccountsdiff.data._panels import AllOf, Panels, concat_panels, measured_names
from sccountsdiff.data._result_store import ResultStore, seed_begun_with
from sccountsdiff.data._scan import MAX_COUNT, CountScan, InvalidCountsError, check_counts, scan_counts
from sccountsdiff.data._sink import Chunks, MemorySink, Sink, smaller_form, sparse_counts

__all__ = [
    "MAX_COUNT",
    "MODALITY_KEY",
    "AllOf",
    "Chunks",
    "CountScan",
    "Digest",
    "GeneSums",
    "InvalidCountsError",
    "MemorySink",
    "Panels",
    "ResultStore",
    "Rows",
    "Sink",
    "boolean_layers",
    "cell_mask",
    "check_counts",
    "concat_panels",
    "digest",
    "export_perturbations",
    "from_counts",
    "join_modalities",
    "keep_measured",
    "mar_mask",
    "mcar_mask",
    "measured_names",
    "mnar_mask",
    "open_cells",
    "panel_mask",
    "plant_null_genes",
    "read_rows",
    "row_chunks",
    "row_readable",
    "scan_counts",
    "seed_begun_with",
    "smaller_form",
    "sparse_counts",
    "split_modalities",
    "take_columns",
    "thinning_split",
    "to_counts",
    "write_back",
]
