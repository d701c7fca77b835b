"""The topology of one layer: which weights it has, and which came and went at the last step."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QPointF
from PySide6.QtGui import QImage, QPainter
from PySide6.QtWidgets import QWidget

from ...engine.info import LayerInfo
from ..look.theme import Theme
from ..state.plan_edits import from_scratch
from ..state.session import Session
from . import colormaps, marks
from .grid_view import GridView, Remark
from .shown import Shown
from .tiles import Tile

WORDS = ("", "kept", "grown", "dropped")
"""What the engine's codes of a topology's cells mean."""


class TopologyMatrix(GridView):
    """Shows the masks of the run, by what the last evolution step did to each weight."""

    view = "topology"

    def __init__(self, session: Session, shown: Shown, parent: QWidget | None = None) -> None:
        super().__init__(session, shown, parent)
        self.setObjectName("topology_matrix")
        self.setAccessibleName("Picture of the layer's topology")

    def _subject(self) -> dict[str, Any]:
        return self._shown.question("run")

    def _ask(self) -> None:
        if self._shown.has_topology:
            super()._ask()
        else:
            self._detail = self._whole = None

    def _colour(self, tile: Tile, theme: Theme) -> QImage:
        return colormaps.image(tile.value, tile.density, colormaps.evolved(theme))

    def _key(self, painter: QPainter, at: QPointF, tile: Tile, theme: Theme) -> float:
        _, *colours = colormaps.evolution(theme)
        return marks.key(painter, at, list(zip(colours, WORDS[1:], strict=True)), theme)

    def _words(self, tile: Tile) -> str:
        return f"{float(tile.meta['achieved']) * 100:.1f} % sparse"

    def _empty(self, layer: LayerInfo | None) -> tuple[str, str]:
        if layer is None:
            return "Select a layer to see its topology", "Layers are listed on the left."
        return super()._empty(layer)

    def _remark(self) -> Remark | None:
        if not self._shown.has_topology:
            fresh = from_scratch(self._session.plan)
            begin = "Press Train" if fresh else "Train a sparse network, or prune this model"
            text = f"{begin}: its weights then show here as they are kept, grown and dropped."
            return Remark("No topology yet", text)
        return super()._remark()

    def _cell_words(self, value: dict[str, Any]) -> tuple[str, str]:
        state = self._state_of(*self.hover) if self.hover is not None else ""
        if value["kept"]:
            return marks.number(float(value["value"])), state or "kept"
        return "no weight", state

    def _state_of(self, row: int, column: int) -> str:
        """What the picture says of one cell; empty where a pixel covers several."""
        tile = self._detail
        if tile is None:
            return ""
        top, left, bottom, right = tile.rect
        single = tile.value.shape == (bottom - top, right - left)
        if not single or not (top <= row < bottom and left <= column < right):
            return ""
        return WORDS[tile.value[row - top, column - left]]
