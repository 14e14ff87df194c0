"""Drawn counts on their way from the device of the network to sparse matrices in memory."""

from __future__ import annotations

import warnings

import torch
from scipy import sparse
from torch import Tensor

from sccountsdiff.data import sparse_counts


def sparse_block(counts: Tensor) -> sparse.csr_matrix:
    """Counts of a minibatch in sparse form.

    Most are 0: a GPU finds those that are not, faster than the whole gets to memory and a processor through it.

    Parameters
    ----------
    counts
        Integer-valued, ``(n_cells, n_genes)``.
    """
    return sparse_counts(counts.numpy()) if counts.device.type == "cpu" else found_on_device(counts)


def found_on_device(counts: Tensor) -> sparse.csr_matrix:
    """The same, made sparse where the counts are."""
    with warnings.catch_warnings():  # torch calls its sparse csr layout beta, once per process
        warnings.simplefilter("ignore", UserWarning)
        there = counts.to(torch.int32).to_sparse_csr()
    parts = (there.values(), there.col_indices().to(torch.int32), there.crow_indices())
    return sparse.csr_matrix(tuple(part.cpu().numpy() for part in parts), shape=counts.shape)
