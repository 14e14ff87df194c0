"""Names beside the points of a scatter plot that do not lie on each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sccountsdiff.pl._style import role_color

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes

FONT_SIZE = 7.5
#: Of a letter and of a line, in sizes of the font; the true ones are known only once the figure is drawn.
LETTER, LINE = 0.66, 1.25
BESIDE = 4.0
N_LINES = 8


class _Box(NamedTuple):
    """A rectangle, in points."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: _Box) -> bool:
        return not (
            self.right <= other.left or other.right <= self.left or self.top <= other.bottom or other.top <= self.bottom
        )

    def within(self, other: _Box) -> bool:
        return np.all(np.array(self[:2]) >= other[:2]) and np.all(np.array(self[2:]) <= other[2:])


def name_points(ax: Axes, points: npt.NDArray, names: Sequence[str]) -> None:
    """Write each name at the first free place to the right or left of its point, with a line to it if it is far.

    Parameters
    ----------
    ax
        Axes that hold the points already.
    points
        Positions in data coordinates, ``(n_points, 2)``.
    names
        Names ``(n_points,)``; the first ones choose first.
    """
    ax.autoscale_view()  # limits follow the data lazily, and positions in points follow the limits
    to_points = 72 / ax.figure.dpi
    frame = _Box(*(ax.get_window_extent().extents * to_points))
    centers = ax.transData.transform(points) * to_points
    taken = [_Box(x - 1.5, y - 1.5, x + 1.5, y + 1.5) for x, y in centers]
    for point, center, name in zip(points, centers, names, strict=True):
        side, rise, box = _first_free(center, name, taken, frame)
        taken.append(box)
        line = {"arrowstyle": "-", "linewidth": 0.5, "color": role_color("baseline"), "shrinkA": 0, "shrinkB": 0}
        ax.annotate(
            name, point, (side * BESIDE, rise), textcoords="offset points", fontsize=FONT_SIZE, va="center",
            ha="left" if side > 0 else "right", arrowprops=line if abs(rise) > FONT_SIZE else None,
        )  # fmt: skip


def _first_free(center: npt.NDArray, name: str, taken: Iterable[_Box], frame: _Box) -> tuple[int, float, _Box]:
    """Side, rise and box of the first place that meets nothing; of the first place of all if none is free."""
    places = list(_places(center, name))
    free = (place for place in places if place[2].within(frame) and not any(place[2].meets(box) for box in taken))
    return next(free, places[0])


def _places(center: npt.NDArray, name: str) -> Iterator[tuple[int, float, _Box]]:
    """Places beside a point, the nearest ones first."""
    width, height = LETTER * FONT_SIZE * len(name), LINE * FONT_SIZE
    for rise in sorted(np.arange(-N_LINES, N_LINES + 0.5, 0.5) * height, key=abs):
        for side in (1, -1):
            x, y = center[0] + side * BESIDE, center[1] + rise
            left, right = sorted((x, x + side * width))
            yield side, float(rise), _Box(left, y - height / 2, right, y + height / 2)
