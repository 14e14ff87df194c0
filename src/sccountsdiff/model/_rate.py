"""The learning rate: one cycle, that can be told to come down early."""

from __future__ import annotations

import math

#: Product of steps and rate that trains a model on up to this many cells well: half the steps at twice the rate end at
#: the same held-out bound. More cells bear a larger product before they are overfitted.
_STEPS_TIMES_RATE, _FEW_CELLS = 1.2, 2000
_SMALLEST, _LARGEST = 4e-4, 1.6e-3
#: Learning rate at the first step, as a part of the largest.
_START = 0.04


def default_rate(n_steps: int, n_cells: int) -> float:
    """Largest learning rate of a cycle, between 4e-4 and 1.6e-3: short trainings and many cells are learned faster.

    Parameters
    ----------
    n_steps
        Length of the cycle.
    n_cells
        Number of training cells.
    """
    product = _STEPS_TIMES_RATE * max(1.0, n_cells / _FEW_CELLS)
    return min(max(product / max(n_steps, 1), _SMALLEST), _LARGEST)


class OneCycle:
    """Factor of the learning rate at each step: a cosine up, a cosine down to zero.

    :meth:`cool_down` replaces the rest of the cycle by a straight line to zero: a training that starts to overfit
    then still ends annealed. The state is plain numbers, which a checkpoint stores.

    Parameters
    ----------
    n_steps
        Length of the cycle.
    warmup
        Part of the steps in which the rate rises.
    """

    def __init__(self, n_steps: int, warmup: float) -> None:
        self.n_steps = max(n_steps, 2)
        self.n_up = min(max(warmup * n_steps, 1.0), self.n_steps - 1.0)
        self.cooling_from: int | None = None
        self.cooling_level = 0.0
        self.cooling_steps = 1

    def __call__(self, step: int) -> float:
        """Factor at a step, between 0 and 1."""
        if self.cooling_from is not None:
            return self.cooling_level * max(0.0, 1 - (step - self.cooling_from) / self.cooling_steps)
        if step < self.n_up:
            return 1 - (1 - _START) * _cosine(step / self.n_up)
        return _cosine(min((step - self.n_up) / (self.n_steps - self.n_up), 1.0))

    def cool_down(self, step: int, n_steps: int) -> None:
        """Come down to zero within ``n_steps``, from ``step`` on."""
        self.cooling_level = self(step)
        self.cooling_from, self.cooling_steps = step, max(n_steps, 1)


def _cosine(part: float) -> float:
    """From 1 at 0 to 0 at 1."""
    return (1 + math.cos(math.pi * part)) / 2
