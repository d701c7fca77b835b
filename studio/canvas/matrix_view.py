"""The hero: one layer's weights, or what its mask keeps, as a `GridView` in the colours chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PySide6.QtCore import QPointF, Signal
from PySide6.QtGui import QImage, QPainter
from PySide6.QtWidgets import QWidget

from ..look.theme import Theme
from ..state.session import Session
from . import colormaps, marks
from .grid_view import GridView, Remark
from .looks import LEGENDS, ONE_CELL, Look
from .shown import Shown
from .tiles import Tile


class MatrixView(GridView):
    """Shows the weights of the session's current layer; `Look` says how they are painted."""

    look_changed = Signal()

    def __init__(self, session: Session, shown: Shown, parent: QWidget | None = None) -> None:
        self.look = Look()
        self.view = self.look.view
        super().__init__(session, shown, parent)
        self.setObjectName("matrix_view")
        self.setAccessibleName("Picture of the layer's weight matrix")

    def set_look(self, **changes: Any) -> None:
        """Change how the matrix is painted: fields of `Look` by name."""
        look = replace(self.look, **changes)
        if look == self.look:
            return
        ask = look.view != self.look.view
        self.look, self.view = look, look.view
        self._pictures.clear()
        if ask:
            self._ask()
        self.look_changed.emit()
        self.update()

    def _colour(self, tile: Tile, theme: Theme) -> QImage:
        return colormaps.image(tile.value, tile.density, self.look.table(theme))

    def _key(self, painter: QPainter, at: QPointF, tile: Tile, theme: Theme) -> float:
        if self.look.mode == "mask":
            entries = [(theme.leaf, "kept"), (colormaps.pruned(theme), "pruned")]
            return marks.key(painter, at, entries, theme)
        low, high, view = tile.meta["lo"], tile.meta["hi"], str(tile.asked["view"])
        top, left, bottom, right = tile.rect
        single = tile.value.shape == (bottom - top, right - left)
        title = (ONE_CELL if single else LEGENDS)[view]
        return marks.legend(painter, at, self.look.colour_map(theme), low, high, title, theme)

    def _words(self, tile: Tile) -> str:
        if tile.meta.get("misfit"):
            return ""
        if tile.meta.get("waits"):
            return f"No preview: {self._layer} {tile.meta['waits']}"
        return self._shown.words(float(tile.meta["achieved"]))

    def _remark(self) -> Remark | None:
        if self.error or self._detail is None:
            return super()._remark()
        if misfit := self._detail.meta.get("misfit"):
            head = "The pattern does not fit this layer"
            return Remark(head, f"{self._layer} {misfit}.", "amber", veil=True)
        weights = self.look.mode == "weights" and self.look.view == "change"
        if weights and not self._detail.meta["hi"]:
            text = "The weights are as they were loaded: no run has trained them."
            return Remark("Nothing has changed", text)
        return None
