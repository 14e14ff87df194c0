"""Files for cell-eval hold what it asks for, and nothing is exported that cannot be compared."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest
import scipy.sparse as sp

from sccountsdiff.data import InvalidCountsError, export_perturbations

KEYS = {"perturbation_key": "drug", "control": "ctrl"}


def cells(drugs, genes=5, seed=0):
    counts = sp.csr_matrix(np.random.default_rng(seed).poisson(2.0, (len(drugs), genes)).astype(np.float32))
    adata = ad.AnnData(counts, layers={"counts": counts})
    adata.obs["drug"], adata.obs["donor"] = drugs, "d1"
    adata.var_names = [f"g{k}" for k in range(genes)]
    return adata


@pytest.fixture
def real():
    measured = cells(["ctrl", "A", "B", "A", "ctrl", "C"], genes=6)
    measured.obs["batch"] = "x"
    return measured[:, ::-1].copy()


@pytest.fixture
def predicted():
    return cells(["A", "B", "B", "ctrl"], seed=1)


def test_the_pair_shares_genes_perturbations_and_the_measured_control(predicted, real, tmp_path):
    one, other = (ad.read_h5ad(path) for path in export_perturbations(predicted, real, tmp_path / "new", **KEYS))
    assert list(one.var_names) == list(other.var_names) == list(predicted.var_names)
    assert sorted(one.obs["drug"]) == ["A", "B", "B", "ctrl", "ctrl"]
    assert sorted(other.obs["drug"]) == ["A", "A", "B", "ctrl", "ctrl"]
    assert one.obs_names.is_unique
    assert list(one.obs) == list(other.obs) == ["drug", "donor"]
    assert one.X.dtype == other.X.dtype == np.int32
    controls = (adata[adata.obs["drug"] == "ctrl"].X.toarray() for adata in (one, other))
    np.testing.assert_array_equal(*controls)
    np.testing.assert_array_equal(one[one.obs["drug"] == "B"].X.toarray(), predicted[1:3].X.toarray())


def test_logarithms_only_if_asked_for(predicted, real, tmp_path):
    path, _ = export_perturbations(predicted, real, tmp_path, layer="counts", log1p=True, **KEYS)
    adata = ad.read_h5ad(path)
    np.testing.assert_allclose(np.expm1(adata.X.toarray()).sum(1), 1e4, rtol=1e-4)
    assert adata.layers["counts"].dtype == np.int32


@pytest.mark.parametrize(
    ("change", "keys", "error", "message"),
    [
        (lambda p, r: (p, r), {"perturbation_key": "dose"}, KeyError, "predicted.obs has no column 'dose'"),
        (lambda p, r: (p, r[:, :3]), {}, ValueError, "predicted genes are not in real, the first being 'g0'"),
        (lambda p, r: (p, r), {"control": "DMSO"}, ValueError, "no cells of the control 'DMSO'"),
        (lambda p, r: (p, r[r.obs["drug"] != "B"]), {}, ValueError, r"Predicted but not measured: \['B'\]"),
        (lambda p, r: (p, r), {"layer": "umis"}, KeyError, "No layer 'umis'"),
        (lambda p, r: (ad.AnnData(p.X * 0.3, p.obs, p.var), r), {}, InvalidCountsError, "no counts"),
    ],
    ids=["column", "genes", "control", "perturbation", "layer", "counts"],
)
def test_what_cannot_be_compared_is_refused(predicted, real, tmp_path, change, keys, error, message):
    with pytest.raises(error, match=message):
        export_perturbations(*change(predicted, real), tmp_path, **{**KEYS, **keys})


def test_cell_eval_takes_the_pair(predicted, real, tmp_path):
    cell_eval = pytest.importorskip("cell_eval", reason="what the files are for")
    paths = export_perturbations(predicted, real, tmp_path, **KEYS)
    evaluator = cell_eval.MetricsEvaluator(
        *map(str, paths), control_pert="ctrl", pert_col="drug", num_threads=1, outdir=str(tmp_path / "out")
    )
    found = evaluator.compute(profile="minimal", write_csv=False)[0].to_pandas()
    assert sorted(found["perturbation"]) == ["A", "B"]
