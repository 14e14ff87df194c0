"""Drawn counts made sparse: the same on either way, and minibatches that fit the device."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import scvi
import torch

from sccountsdiff.model._module import CountDiffusionModule
from sccountsdiff.model._sparse import found_on_device, sparse_block
from sccountsdiff.nets import DENOISERS


@pytest.mark.parametrize("shape", [(30, 20), (3, 0), (0, 5), (1, 1)])
@pytest.mark.filterwarnings("error")
def test_both_ways_give_the_same(shape):
    counts = torch.poisson(torch.full(shape, 0.3), torch.Generator().manual_seed(0))
    found = [way(counts) for way in (sparse_block, found_on_device)]
    for matrix in found:
        assert matrix.has_sorted_indices
        assert (matrix.dtype, matrix.indices.dtype) == (np.int32, np.int32)
        np.testing.assert_array_equal(matrix.toarray(), counts.numpy())


NETWORKS = {  # cells of 2,000 genes that a GPU takes at a time
    "mlp": (DENOISERS["mlp"](20), 4194),
    "tokens": (DENOISERS["mlp"](20, head="tokens"), 986),
    "transformer": (DENOISERS["transformer"](20), 246),
}


@pytest.mark.parametrize(("denoiser", "on_gpu"), NETWORKS.values(), ids=NETWORKS)
def test_minibatches_of_a_gpu_are_larger_the_less_they_take(denoiser, on_gpu):
    def size(device, wanted=None, n_genes=2000):
        module = SimpleNamespace(device=torch.device(device), denoiser=denoiser)
        return CountDiffusionModule.minibatch_size(module, wanted, n_genes)

    assert size("cuda") == on_gpu
    assert size("cpu") == size("cuda", n_genes=10**8) == scvi.settings.batch_size
    assert size("cuda", 7) == size("cpu", 7) == 7
