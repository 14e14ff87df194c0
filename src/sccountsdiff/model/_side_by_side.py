"""Several pieces of work at a time on the cores of a CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Entries of counts that are worked on at a time, at most: each takes some twenty numbers of memory.
_MAX_ENTRIES = 2**23


def at_a_time(n_items: int, n_entries: int) -> int:
    """Pieces of work in the making at a time: no more than there are cores, or than memory should hold.

    Parameters
    ----------
    n_items
        Pieces of work.
    n_entries
        Cells times genes of each.
    """
    return max(1, min(torch.get_num_threads(), n_items, _MAX_ENTRIES // max(n_entries, 1)))


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item], n_workers: int) -> Iterator[Result]:
    """Results in the order of the items, several in the making at a time.

    Whole minibatches share out better among cores than the operations within each of them. Results must follow from
    their items alone.

    Parameters
    ----------
    work
        What to do.
    items
        What to do it to; taken as they are needed.
    n_workers
        Items in the making at a time, see :func:`at_a_time`; they share out the cores that a single one would use.

    Yields
    ------
    The results.
    """
    if n_workers == 1:
        yield from map(work, items)
        return
    n_threads, inference = torch.get_num_threads(), torch.is_inference_mode_enabled()
    each = n_threads // n_workers

    def do(item: Item) -> Result:
        with torch.inference_mode(inference):  # a thread starts without it
            return work(item)

    pool = ThreadPoolExecutor(n_workers, initializer=torch.set_num_threads, initargs=(each,))
    running: deque[Future[Result]] = deque()
    torch.set_num_threads(each)  # here too: PyTorch's threads wait for work without sleep, on cores that have some
    try:
        for item in items:
            running.append(pool.submit(do, item))
            if len(running) > n_workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)  # what a thread sets holds for threads to come
