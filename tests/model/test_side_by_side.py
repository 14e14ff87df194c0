"""Several pieces of work at a time: the same results in the same order, whatever the number of cores."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from sccountsdiff.model._side_by_side import _MAX_ENTRIES, at_a_time, side_by_side


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

    callers = []
    numbered = (callers.append(torch.get_num_threads()) or item for item in range(9))
    items, numbers, threads = zip(*side_by_side(work, numbered, 3), strict=True)
    assert items == tuple(range(9))
    assert set(numbers) == set(callers) == {1}, "whoever reads the minibatches is one more on the same cores"
    assert threading.main_thread() not in threads
    assert torch.get_num_threads() == 3


def test_one_at_a_time():
    threads = set(side_by_side(lambda _: threading.current_thread(), range(4), 1))
    assert threads == {threading.main_thread()}


@pytest.mark.parametrize(
    ("n_items", "n_entries", "number"),
    [
        (100, 1, 3),
        (2, 1, 2),
        (1, 1, 1),
        (0, 1, 1),
        (100, _MAX_ENTRIES // 2, 2),
        (100, 2 * _MAX_ENTRIES, 1),
        (100, 0, 3),
    ],
)
def test_as_many_as_cores_items_and_memory_allow(n_items, n_entries, number):
    assert at_a_time(n_items, n_entries) == number


def test_a_compiled_network_takes_one_minibatch_at_a_time(model):
    assert model.module.at_a_time(100, 1) == 3
    model.compile()
    assert model.module.at_a_time(100, 1) == 1


def test_items_are_taken_as_they_are_needed():
    taken = []
    results = side_by_side(lambda item: item, (taken.append(i) or i for i in range(100)), 3)
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
        list(side_by_side(work, range(100), 3))
    assert len(done) < 10
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("inference", [False, True])
def test_inference_mode_holds_in_the_threads(inference):
    with torch.inference_mode(inference):
        assert set(side_by_side(lambda _: torch.is_inference_mode_enabled(), range(4), 3)) == {inference}


def test_methods_give_the_same_on_any_number_of_cores(model):
    made = []
    for n_threads in (1, 3):
        torch.set_num_threads(n_threads)
        generated = model.generate(n_cells=50, n_steps=3, batch_size=16, seed=1).X.toarray()
        (drawn, _) = model.impute(replace="zeros", n_samples=2, batch_size=16, seed=1, layer_added=None)
        made.append((generated, drawn.toarray()))
    for alone, together in zip(*made, strict=True):
        np.testing.assert_array_equal(alone, together)
