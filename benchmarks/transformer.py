"""What does a training step of the transformer cost? Time and memory for each cell of a minibatch.

``GeneTransformer`` with the head of DCM (width 64, 3 layers, 4 heads, full precision) on one thread, Poisson counts of
as many genes as the data are named after. A row is a process of its own: ``seconds`` is processor time of the second
step, ``megabytes`` the growth of peak resident memory over that of the imported packages, both per cell.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

from _record import Record, arguments, run

CELLS = {"2000": 8, "17000": 4}
METHODS = {
    "full": {"attention": "full"},
    "latent": {"attention": "latent"},
    "latent_recomputed": {"attention": "latent", "checkpoint_activations": True},
}
SCORES = {"seconds": 2, "megabytes": 0}


def peak_megabytes() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def step_cost(n_genes: int, n_cells: int, options: dict[str, object], seed: int) -> dict[str, float]:
    """Return the cost of a training step in this process."""
    import torch

    from sccountsdiff.nets import GeneTransformer
    from sccountsdiff.objective import BoundWeighting, Objective, UniformSurvival
    from sccountsdiff.process import Absorbing

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    before = peak_megabytes()
    net = GeneTransformer(n_genes, head="tokens", n_hidden=64, n_layers=3, n_heads=4, **options)
    counts = torch.poisson(torch.rand(n_cells, n_genes) / 2)
    objective = Objective(Absorbing(), UniformSurvival(log_fraction=0.0), BoundWeighting())
    for _ in range(2):
        start = time.process_time()
        objective.loss(net, counts, {}).mean().backward()
    seconds = time.process_time() - start
    return {"seconds": seconds / n_cells, "megabytes": (peak_megabytes() - before) / n_cells}


def main() -> None:
    """Fill the record and print the tables."""
    options = arguments(__doc__, METHODS, CELLS).parse_args()
    record = Record(options.results / "transformer.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        asked = json.dumps([int(data), CELLS[data], METHODS[method], seed])
        done = subprocess.run([sys.executable, __file__, asked], check=True, capture_output=True, text=True)
        return json.loads(done.stdout)

    if not options.table:
        run(record, options, job)
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("["):
        print(json.dumps(step_cost(*json.loads(sys.argv[1]))))
    else:
        main()
