"""Sphinx configuration; build with ``python -m sphinx -W -b html docs docs/_build/html``."""

from __future__ import annotations

import importlib
import os
import shutil
from importlib.metadata import version as installed_version
from pathlib import Path

from docutils.nodes import Element, TextElement
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

HERE = Path(__file__).parent

project = "sccountsdiff"
author = "The sccountsdiff developers"
copyright = "2026, the sccountsdiff developers"
version = release = installed_version("sccountsdiff")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]

# Every reference to this package must resolve; those to others do where their inventories can be fetched.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"^(?!sccountsdiff\b).*"),  # others
    (r"py:.*", r".*\.[A-Z]$"),  # type variables
    (r"py:class", r"sccountsdiff\.model\._.*"),  # types inside the shell, in signatures of its base classes
]
intersphinx_mapping = (
    {
        "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
        "numpy": ("https://numpy.org/doc/stable/", None),
        "pandas": ("https://pandas.pydata.org/docs/", None),
        "python": ("https://docs.python.org/3", None),
        "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
        "scvi-tools": ("https://docs.scvi-tools.org/en/stable/", None),
        "torch": ("https://docs.pytorch.org/docs/stable/", None),
    }
    if os.environ.get("READTHEDOCS")
    else {}
)

myst_enable_extensions = ["amsmath", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

autosummary_generate = True
autosummary_ignore_module_all = False
autosummary_imported_members = True
autodoc_class_signature = "mixed"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_maximum_signature_line_length = 88
napoleon_google_docstring = False
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_title = "sccountsdiff"
html_theme_options = {"use_download_button": True, "show_navbar_depth": 1}

# Tutorials live beside the package, where users look for them; Sphinx reads only what lies below its source folder.
(HERE / "tutorials").mkdir(exist_ok=True)
for notebook in (HERE.parent / "tutorials").glob("*.ipynb"):
    shutil.copy(notebook, HERE / "tutorials")

# Public objects are defined in private modules; signatures name those, while the pages stand under the public names.
ROOMS = (
    "model",
    "conditioning",
    "data",
    "datasets",
    "metrics",
    "nets",
    "objective",
    "pl",
    "process",
    "report",
    "sampling",
    "stats",
)


def _public_names() -> dict[str, str]:
    names = {}
    for room in ("sccountsdiff", *(f"sccountsdiff.{room}" for room in ROOMS)):
        module = importlib.import_module(room)
        for name in module.__all__:
            member = getattr(module, name)
            names[f"{getattr(member, '__module__', '')}.{getattr(member, '__qualname__', '')}"] = f"{room}.{name}"
    return names


PUBLIC_NAMES = _public_names()


def _resolve_private_name(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, contnode: TextElement
) -> Element | None:
    public = PUBLIC_NAMES.get(node.get("reftarget", ""))
    if public is None:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], public, node, contnode)


def setup(app: Sphinx) -> None:
    """Let references to private modules find the public pages."""
    app.connect("missing-reference", _resolve_private_name)
