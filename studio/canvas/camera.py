"""Where the matrix lies on the screen: fitting, zooming, panning. Plain arithmetic, no Qt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, floor

LARGEST_FITTED = 36.0
"""A small matrix is not blown up beyond this many pixels per cell …"""
LARGEST = 44.0
"""… and nothing is zoomed in beyond this many."""


@dataclass(frozen=True)
class Camera:
    """Shows W[out, in] on a stage of `width` x `height` pixels.

    At `zoom` 1 the matrix fills the stage; its cells need not be square. Zooming in grows both
    sides until a cell is square at its largest. `left` and `top` are the first visible column and
    row, in cells with a fraction.
    """

    out: int
    ins: int
    width: float
    height: float
    zoom: float = 1.0
    left: float = 0.0
    top: float = 0.0

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels per cell, (horizontally, vertically)."""
        x, y = self._fitted()
        return min(x * self.zoom, LARGEST), min(y * self.zoom, LARGEST)

    @property
    def fits(self) -> bool:
        """Whether the whole matrix is visible."""
        return self.zoom <= 1.0

    @property
    def extent(self) -> tuple[float, float]:
        """Pixels that the visible part takes, (width, height)."""
        x, y = self.scale
        return min(self.width, self.ins * x), min(self.height, self.out * y)

    def _fitted(self) -> tuple[float, float]:
        return (
            min(self.width / self.ins, LARGEST_FITTED),
            min(self.height / self.out, LARGEST_FITTED),
        )

    def fitted(self) -> Camera:
        """The whole matrix."""
        return replace(self, zoom=1.0, left=0.0, top=0.0)

    def resized(self, width: float, height: float) -> Camera:
        """The same place on a stage of another size."""
        return replace(self, width=max(1.0, width), height=max(1.0, height))._inside()

    def zoomed(self, factor: float, x: float, y: float) -> Camera:
        """Closer by `factor`, keeping the cell at the stage's pixel (x, y) where it is."""
        old_x, old_y = self.scale
        most = max(1.0, LARGEST / min(self._fitted()))
        closer = replace(self, zoom=min(max(self.zoom * factor, 1.0), most))
        new_x, new_y = closer.scale
        left = self.left + x / old_x - x / new_x
        top = self.top + y / old_y - y / new_y
        return replace(closer, left=left, top=top)._inside()

    def moved(self, x: float, y: float) -> Camera:
        """The matrix pushed by (x, y) pixels."""
        wide, high = self.scale
        return replace(self, left=self.left - x / wide, top=self.top - y / high)._inside()

    def centred(self, column: float, row: float) -> Camera:
        """The cell (row, column) in the middle of the stage, as far as the edges allow."""
        wide, high = self.scale
        left, top = column - self.width / wide / 2, row - self.height / high / 2
        return replace(self, left=left, top=top)._inside()

    def visible(self) -> tuple[int, int, int, int]:
        """The cells in sight: (top, left, bottom, right), whole cells."""
        wide, high = self.scale
        # A last cell that would show less than a thousandth of its side is not in sight.
        right = min(self.ins, ceil(self.left + self.width / wide - 1e-3))
        bottom = min(self.out, ceil(self.top + self.height / high - 1e-3))
        return floor(self.top), floor(self.left), bottom, right

    def x(self, column: float) -> float:
        """The stage's pixel at the left of a column."""
        return (column - self.left) * self.scale[0]

    def y(self, row: float) -> float:
        """The stage's pixel at the top of a row."""
        return (row - self.top) * self.scale[1]

    def cell(self, x: float, y: float) -> tuple[int, int] | None:
        """The (row, column) under a pixel of the stage, None beside the matrix."""
        if not (0 <= x < self.width and 0 <= y < self.height):
            return None
        wide, high = self.scale
        row, column = floor(self.top + y / high), floor(self.left + x / wide)
        return (row, column) if row < self.out and column < self.ins else None

    def _inside(self) -> Camera:
        wide, high = self.scale
        left = min(max(0.0, self.left), max(0.0, self.ins - self.width / wide))
        top = min(max(0.0, self.top), max(0.0, self.out - self.height / high))
        return replace(self, left=left, top=top)
