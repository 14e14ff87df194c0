"""``sccountsdiff info``: what runs here."""

from __future__ import annotations

import os

from sccountsdiff.cli._console import calm, console


def info() -> None:
    """Print versions and device: paste this into an issue."""
    import session_info2

    calm()  # loads what there is to list
    from sccountsdiff.report import versions

    console.print(f"Models train on: {device()}")
    for name, number in versions().items():
        console.print(f"{name}\t{number}")
    session = session_info2.session_info(os=True, cpu=True, gpu=True, dependencies=True)
    console.print(str(session), markup=False)


def device() -> str:
    """What a model trains on unless told otherwise, in words."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()} (CUDA {torch.version.cuda})"
    return f"CPU ({os.cpu_count()} cores, {torch.get_num_threads()} threads used)"
