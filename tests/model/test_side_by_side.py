"""Several pieces of work at a time: the same results in the same order, whatever the number of cores."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sccountsdiff.model._side_by_side import _MAX_ENTRIES, side_by_side


@pytest.fixture(autouse=True)
def three_threads():
    """Three cores, or what is taken for them."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_come_in_order_from_several_threads():
    meeting = threading.Barrier(3, timeout=30)

    def work(item):
        meeting.wait()  # passes only if three are at work at the same time
        return item, torch.get_num_threads(), threading.current_thread()

    items, numbers, threads = zip(*side_by_side(work, range(9), 1), strict=True)
    assert items == tuple(range(9))
    assert set(numbers) == {1}
    assert threading.main_thread() not in threads
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("n_entries", "shared"), [(_MAX_ENTRIES, True), (1, False)], ids=["large", "not shared"])
def test_one_at_a_time(n_entries, shared):
    threads = set(side_by_side(lambda _: threading.current_thread(), range(4), n_entries, shared))
    assert threads == {threading.main_thread()}


def test_items_are_taken_as_they_are_needed():
    taken = []
    results = side_by_side(lambda item: item, (taken.append(i) or i for i in range(100)), 1)
    assert next(results) == 0
    assert len(taken) == 4, "three in the making, and the first"
    results.close()
    assert torch.get_num_threads() == 3


def test_an_error_comes_through_and_the_rest_is_dropped():
    done = []

    def work(item):
        if item == 2:
            raise ValueError("cell 2")
        done.append(item)
        return item

    with pytest.raises(ValueError, match="cell 2"):
        list(side_by_side(work, range(100), 1))
    assert len(done) < 10
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("inference", [False, True])
def test_inference_mode_holds_in_the_threads(inference):
    with torch.inference_mode(inference):
        assert set(side_by_side(lambda _: torch.is_inference_mode_enabled(), range(4), 1)) == {inference}


def test_methods_give_the_same_on_any_number_of_cores(model):
    made = []
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        generated = model.generate(n_cells=50, n_steps=3, batch_size=16, seed=1).X.toarray()
        (drawn, _) = model.impute(replace="zeros", n_samples=2, batch_size=16, seed=1, layer_added=None)
        made.append((generated, drawn.toarray()))
    for alone, together in zip(*made, strict=True):
        np.testing.assert_array_equal(alone, together)
