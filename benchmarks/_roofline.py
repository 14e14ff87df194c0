"""How near an operation comes to what its device can do: matrix products and memory traffic."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

SIDE, COPIED, REPEATS = 2048, 2**26, 5


class Traffic(TorchDispatchMode):
    """Counts the bytes of all operands and results of all operations, views left out."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation and count."""
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            touched = (value for value in tree_leaves((args, kwargs, result)) if isinstance(value, Tensor))
            self.n_bytes += sum(value.numel() * value.element_size() for value in touched)
        return result


def seconds(work: Callable[[], object], device: str) -> float:
    """Return the shortest time of some work."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def ceilings(device: str) -> tuple[float, float]:
    """Return operations and bytes a second of a large matrix product and a large copy, both float32."""
    square = torch.randn(SIDE, SIDE, device=device)
    source, target = torch.randn(COPIED, device=device), torch.empty(COPIED, device=device)
    product = 2 * SIDE**3 / seconds(lambda: square @ square, device)
    return product, 2 * 4 * COPIED / seconds(lambda: target.copy_(source), device)


def roofline(model, device: str, batch_size: int) -> dict[str, float]:
    """Return the fractions that a training step and a walk of 20 steps reach, and the ceilings."""
    model.to_device(device)
    product, memory = ceilings(device)
    scores = {"product_ceiling": product, "memory_ceiling": memory}
    for name, work in {"train": training_step(model, batch_size), "walk": walk(model, batch_size)}.items():
        work()
        with FlopCounterMode(display=False) as products, Traffic() as traffic:
            work()
        taken = seconds(work, device)
        scores[f"{name}_product"] = products.get_total_flops() / taken / product
        scores[f"{name}_memory"] = traffic.n_bytes / taken / memory
    return scores


def training_step(model, batch_size: int) -> Callable[[], None]:
    """Return one step of the optimiser on the first cells, which are on the device already."""
    module = model.module.train()
    (batch,) = (tensors for tensors in model._make_data_loader(model.adata, range(batch_size), batch_size=batch_size))
    batch = {name: torch.as_tensor(values).to(module.device) for name, values in batch.items()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        module.cell_loss(batch).mean().backward()
        optimizer.step()

    return step


def walk(model, batch_size: int) -> Callable[[], None]:
    """Return the generation of one minibatch of cells in 20 steps."""
    return lambda: model.generate(n_cells=batch_size, batch_size=batch_size, n_steps=20, seed=0)
