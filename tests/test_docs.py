"""The code that readers copy from the pages runs as printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from sccountsdiff.sampling import ATTRITIONS

ROOT = Path(__file__).parent.parent


def _run_blocks(page: str) -> dict[str, object]:
    """Run the Python blocks of a page one after the other, as a reader would, and return what they define."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)  # the block's own names, as in a notebook
    return namespace


def test_extending_page(monkeypatch):
    monkeypatch.setattr(ATTRITIONS, "_classes", dict(ATTRITIONS._classes))  # what the page registers stays on the page
    torch.manual_seed(0)
    draws = _run_blocks("docs/extending.md")["draws"]
    assert draws.shape == (100, 50)
    assert torch.equal(draws, draws.round())
    assert draws.sum(1).mean().item() == pytest.approx(125, rel=0.2)  # 50 genes of mean rate 2.5


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/get_started.md"])
def test_first_pages(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = _run_blocks(page)
    cells = names["cells"]
    assert cells.shape == (200, names["adata"].n_vars)
    assert (cells.obs["cell_type"] == "Dendritic").all()
    assert (tmp_path / "pbmc_model" / "model.pt").exists()
