"""Words for error messages."""

from __future__ import annotations

from collections.abc import Iterable

#: How many offenders an error message names.
_SHOWN = 5


def listed(names: Iterable[object]) -> str:
    """Name the first few of many: ``'a', 'b', ... (12 in all)``."""
    names = [str(name) for name in names]
    shown = ", ".join(repr(name) for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown}, ... ({len(names)} in all)"
