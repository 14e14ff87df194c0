"""Every cell once an epoch, whatever the order and the number of processes."""

from __future__ import annotations

import numpy as np
import pytest

from sccountsdiff.model._order import BlockShuffled, InOrder, MinibatchSampler, Shuffled, Spread

ORDERS = {
    "in order": InOrder(),
    "spread": Spread(),
    "shuffled": Shuffled(),
    "blocks": BlockShuffled(4, 32),
    "one cell a block": BlockShuffled(1, 64),
    "all in one buffer": BlockShuffled(16, 10_000),
}


def samplers(n_cells, batch_size, order, world_size, epoch=0):
    """One sampler per process."""
    found = [MinibatchSampler(n_cells, batch_size, order, 5, rank, world_size) for rank in range(world_size)]
    for sampler in found:
        sampler.set_epoch(epoch)
    return found


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
@pytest.mark.parametrize(("n_cells", "batch_size"), [(1000, 128), (130, 128), (7, 128), (256, 64), (257, 2)])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_processes_share_the_cells(order, n_cells, batch_size, world_size):
    batches = [list(sampler) for sampler in samplers(n_cells, batch_size, order, world_size)]
    assert len({len(own) for own in batches}) == 1, "no process waits for another"
    seen = np.concatenate([batch.cells for own in batches for batch in own])
    np.testing.assert_array_equal(np.sort(seen), np.arange(n_cells))
    for step in zip(*batches, strict=True):
        assert all(len(batch.cells) for batch in step)
        assert sum(len(batch.cells) for batch in step) <= batch_size + world_size
        assert all(np.isin(batch.cells, batch.read).all() for batch in step)


@pytest.mark.parametrize("order", [Shuffled(), BlockShuffled(4, 32)], ids=["shuffled", "blocks"])
def test_epochs_differ_and_repeat_by_seed(order):
    epochs = [np.concatenate([b.cells for b in samplers(500, 50, order, 1, epoch)[0]]) for epoch in (0, 1, 0)]
    assert not np.array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(epochs[0], epochs[2])


def test_the_first_minibatches_are_spread_over_all_cells():
    batches = list(samplers(1000, 10, Spread(), 1)[0])
    assert [int(batch.cells[0]) for batch in batches[:4]] == [0, 640, 320, 960]
    assert all((np.diff(batch.cells) == 1).all() for batch in batches), "neighbours stay together"
    for n in (8, 16, 64):
        firsts = np.sort([batch.cells[0] for batch in batches[:n]])
        assert np.diff(firsts).max() <= 1280 / n


def test_blocks_are_read_whole_and_once():
    reads, last = [], None
    for batch in samplers(4096, 32, BlockShuffled(16, 512), 1)[0]:
        if last is None or batch.read is not last:
            reads.append(batch.read)
            last = batch.read
    assert len(reads) == 4096 // 512
    runs = sum(1 + np.count_nonzero(np.diff(read) != 1) for read in reads)
    assert runs <= 4096 // 16 + len(reads) + 1, "neighbours in the file are read together"


def test_blocks_mix_sorted_cells_as_well_as_promised():
    """Cells sorted by type: the variance of the share of a type in a minibatch, against that of a full shuffle."""
    order, n_batch = BlockShuffled(), 128
    is_first = np.arange(50_000) < 5_000

    def variance(order):
        shares = [
            is_first[batch.cells].mean()
            for epoch in range(4)
            for batch in samplers(50_000, n_batch, order, 1, epoch)[0]
        ]
        return np.var(shares)

    promised = 1 + (n_batch - 1) * order.block_size / order.buffer_size
    assert variance(order) / variance(Shuffled()) < 1.25 * promised
    assert variance(InOrder()) / variance(Shuffled()) > 50


def test_impossible_orders_are_refused():
    with pytest.raises(ValueError, match="3 processes cannot share 2 cells"):
        MinibatchSampler(2, 128, InOrder(), world_size=3)
    with pytest.raises(ValueError, match="block_size=64 and buffer_size=32"):
        BlockShuffled(64, 32)
