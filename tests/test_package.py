"""What holds for the package as a whole: rooms, version, docstrings, and no trace of the machine it was written on."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name, walk_packages

import pytest
from importlinter.cli import lint_imports
from numpydoc.validate import validate

import sccountsdiff

ROOT = Path(__file__).parent.parent
SOURCE = Path(sccountsdiff.__file__).parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
CORE = ("process", "conditioning", "nets", "objective", "sampling")
ROOMS = (*CORE, "data", "metrics", "stats", "pl", "datasets", "model", "report")
TEXT_SUFFIXES = {".cff", ".ipynb", ".md", ".py", ".toml", ".txt", ".yaml", ".yml"}
CHECKS = frozenset(SETTINGS["tool"]["numpydoc_validation"]["checks"])


def _public_objects() -> Iterator[str]:
    """Dotted names of everything that a room exports, and of the public methods that this package wrote for it."""
    for room in ("", *ROOMS):
        module = importlib.import_module(f"sccountsdiff.{room}".rstrip("."))
        for name in module.__all__:
            member = getattr(module, name)
            if not (inspect.isclass(member) or inspect.isfunction(member)):
                continue
            yield f"{module.__name__}.{name}"
            if inspect.isclass(member):
                yield from (f"{module.__name__}.{name}.{method}" for method in _own_methods(member))


def _own_methods(cls: type) -> Iterator[str]:
    for name, member in vars(cls).items():
        function = inspect.unwrap(getattr(member, "__func__", member))
        if not name.startswith("_") and inspect.isfunction(function):
            yield name


def _modules() -> list[str]:
    names = [module.name for module in walk_packages([str(SOURCE)], "sccountsdiff.")]
    return [name for name in names if not name.endswith("__main__")]  # importing that one runs it


def test_rooms_import_only_what_lies_below(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert lint_imports(no_cache=True) == 0


@pytest.mark.parametrize("room", CORE)
def test_core_imports_torch_only(room):
    """The contract of import-linter forbids known packages; this allows only one, and what compiles draws on a CPU."""
    path = SOURCE / room
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    allowed = {*sys.stdlib_module_names, "torch", "sccountsdiff"}
    for file in files:
        also = {"numba", "numpy"} if file.name == "_cpu_draws.py" else set()
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert {name.split(".")[0] for name in names} <= allowed | also, f"{file.name} imports {names}"


def test_core_loads_without_the_single_cell_stack():
    rooms = ", ".join(f"sccountsdiff.{room}" for room in CORE)
    code = f"import sys, {rooms}; print(*{{'scvi', 'lightning', 'anndata', 'scanpy'}} & sys.modules.keys())"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == []


def test_version_is_that_of_the_metadata():
    assert sccountsdiff.__version__ == version("sccountsdiff") == SETTINGS["project"]["version"]


def test_extras_mirror_the_dependency_groups():
    extras = SETTINGS["project"]["optional-dependencies"]
    for name, packages in SETTINGS["dependency-groups"].items():
        assert extras[name] == packages, f"The extra and the group {name!r} differ."


@pytest.mark.parametrize("name", _modules())
def test_every_module_says_what_it_is(name):
    assert (importlib.import_module(name).__doc__ or "").strip(), f"{name} has no docstring."


def _documented_above(name: str) -> bool:
    """Whether the arguments are documented on a base: those of an overriding method, or of the same constructor."""
    member = resolve_name(name)
    if inspect.isclass(member):
        own, base = (inspect.signature(cls.__init__).parameters for cls in member.__mro__[:2])
        return getattr(member, "_is_protocol", False) or ("__new__" not in vars(member) and own.keys() == base.keys())
    owner, _, method = name.rpartition(".")
    cls = resolve_name(owner)
    return inspect.isclass(cls) and any(method in vars(base) for base in cls.__mro__[1:])


@pytest.mark.parametrize("name", sorted(set(_public_objects())))
def test_docstring(name):
    """Every public name has a valid numpydoc docstring, into which no template placeholder has slipped."""
    report = validate(name)
    checks = CHECKS - {"PR01", "RT01"} if _documented_above(name) else CHECKS
    errors = [f"{code}: {text}" for code, text in report["errors"] if code in checks]
    assert not errors, "\n".join([f"{report['file']}:{report['file_line']} {name}", *errors])
    assert not re.search(r"%\(\w+\)s", report["docstring"])


def _tracked_text() -> Iterator[Path]:
    folders = [ROOT / name for name in (".ci", ".github", "benchmarks", "docs", "src", "tests", "tutorials")]
    paths = [*ROOT.glob("*"), *(path for folder in folders for path in folder.rglob("*"))]
    built = {"_build", "generated", "__pycache__"}
    for path in paths:
        if path.suffix in TEXT_SUFFIXES and path != Path(__file__) and not built & set(path.parts):
            yield path


def test_nothing_names_the_machine_it_was_written_on():
    home = re.compile(r"(?<![\w.])/(?:work|root|tmp|home/\w+|Users/\w+)/")
    for path in _tracked_text():
        found = home.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(ROOT)} holds a path of one machine: {found.group()}"
