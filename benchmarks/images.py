r"""Images as counts: the paper's other experiment, on the core alone.

A pixel is a count, its brightness the number of its molecules. A small U-Net (``_unet.py``) learns to undo thinning
under the paper's cosine schedule and loss, the class of the image is the condition, and samples are drawn with rounded
binomial births, at several guidance scales (``guidance_2``) and attrition rates (``attrition_0.02``, of the admissible
maximum, at guidance 1).

``digits``, the 8 x 8 digits of scikit-learn (counts 0 to 16), run anywhere in five minutes a seed: 1,000 images train the network
and the classifiers that judge, 500 are what samples are compared with, and samples are asked for with the labels of the
other 297, which are themselves scored as ``real``, the floor. Scores: ``accuracy`` of a classifier of real digits on
samples, ``frechet`` distance in the features of a perceptron, ``nearest`` (distance to the nearest training image over
that of held-out images; far below 1 is copying), and ``mean_ratio`` (brightness over that of held-out images).

``cifar10`` and ``celeba`` need torchvision, ``torchmetrics[image]``, the data in ``SCCOUNTSDIFF_IMAGES`` and days of a
GPU; their score is the FID. They have not been run for the tables of this repository.

``--figure FILE`` draws samples of the first seed, one column per class; ``--curves FILE`` draws the recorded scores over
guidance scale and attrition.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from _core import fit
from _pictures import LABEL, PICTURES, Pictures
from _pictures_figure import draw_curves, draw_tiles
from _record import Record, arguments, run
from _unet import UNet
from torch import Tensor

from sccountsdiff.conditioning import ClassifierFreeGuidance
from sccountsdiff.objective import Objective, PaperWeighting, ScheduledSurvival
from sccountsdiff.process import BinomialBirths, CosineSchedule, Thinning
from sccountsdiff.sampling import RescaledAttrition, Sampler, survival_grid

GUIDANCE = {f"guidance_{scale:g}": (scale, 0.0) for scale in (0, 0.5, 1, 1.5, 2, 3, 4)}
ATTRITION = {f"attrition_{eta:g}": (1.0, eta) for eta in (0.02, 0.05, 0.1, 0.2, 0.5)}
#: Name of a setting -> (guidance scale, attrition).
SETTINGS = {**GUIDANCE, **ATTRITION}
SCORES = {"accuracy": 3, "frechet": 1, "nearest": 2, "mean_ratio": 3, "fid": 2}
#: Images that are drawn at a time.
BLOCK = 500


@functools.lru_cache(maxsize=1)
def trained(data: str, seed: int, n_steps: int | None, device: str) -> tuple[Pictures, UNet]:
    """Return a data set and a network trained on it."""
    pictures = PICTURES[data](seed)
    torch.manual_seed(seed)
    network = UNet(pictures.train.shape[1], pictures.max_count, pictures.key, pictures.widths, pictures.n_blocks).to(
        device
    )
    objective = Objective(Thinning(), ScheduledSurvival(CosineSchedule()), PaperWeighting())
    counts, condition = pictures.train.to(device), {LABEL: pictures.train_labels.to(device)}
    steps = n_steps or pictures.n_steps
    return pictures, fit(network, objective, counts, condition, steps, seed, pictures.batch_size)


def draw(pictures: Pictures, network: UNet, labels: Tensor, setting: tuple[float, float], seed: int) -> Tensor:
    """Return images of given labels ``(n, n_channels, height, width)``."""
    scale, eta = setting
    device = next(network.parameters()).device
    denoiser = ClassifierFreeGuidance(scale).wrap(network)
    sampler = Sampler(Thinning(), denoiser, BinomialBirths(), RescaledAttrition(eta))
    grid = survival_grid(CosineSchedule(), pictures.n_walk)
    generator = torch.Generator(device).manual_seed(seed)
    drawn = [
        sampler.sample(
            torch.zeros(len(asked), *pictures.train.shape[1:], device=device),
            {LABEL: asked.to(device)},
            grid,
            generator=generator,
        ).cpu()
        for asked in labels.split(BLOCK)
    ]
    # Guidance can push a pixel beyond what it can hold.
    return torch.cat(drawn).clamp(0, pictures.max_count)


def main() -> None:
    """Fill the record and print the tables."""
    parser = arguments(__doc__, ("real", *SETTINGS), PICTURES)
    parser.set_defaults(data=["digits"])
    parser.add_argument("--training-steps", type=int, default=None, help="fewer are a smoke test")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--figure", type=Path, default=None, help="also draw samples into this file")
    parser.add_argument("--curves", type=Path, default=None, help="also draw scores into this file")
    options = parser.parse_args()
    record = Record(options.results / "images.csv")

    def job(method: str, data: str, seed: int) -> dict[str, float]:
        pictures, network = trained(data, seed, options.training_steps, options.device)
        if method == "real":
            return pictures.judge.scores(pictures.real, pictures.real_labels)
        images = draw(pictures, network, pictures.real_labels, SETTINGS[method], seed)
        return pictures.judge.scores(images, pictures.real_labels)

    if not options.table:
        run(record, options, job)
    if options.figure is not None:
        seed = options.seeds[0]
        pictures, network = trained(options.data[0], seed, options.training_steps, options.device)
        labels = torch.unique(pictures.real_labels, dim=0)[:10]
        tiles = {name: draw(pictures, network, labels, setting, seed) for name, setting in SETTINGS.items()}
        draw_tiles(options.figure, {name: images / pictures.max_count for name, images in tiles.items()})
    if options.curves is not None:
        guidance = {name: scale for name, (scale, _) in GUIDANCE.items()}
        attrition = {"guidance_1": 0.0} | {name: eta for name, (_, eta) in ATTRITION.items()}
        draw_curves(options.curves, record, options.data[0], {"guidance scale": guidance, "attrition": attrition})
    for score, digits in SCORES.items():
        print(f"\n{score}\n\n{record.table(score, digits)}")


if __name__ == "__main__":
    main()
