"""One layer's W[out, in] as a picture that is zoomed, panned and read cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QPointF, QRectF, Qt, QTimer
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QImage,
    QPainter,
    QPaintEvent,
    QPen,
    QShowEvent,
)
from PySide6.QtWidgets import QWidget

from ...engine.gemm import Gemm
from ...engine.info import LayerInfo
from ..look import theme as themes
from ..look.theme import Theme
from ..state.session import Session
from . import colormaps, frame, marks, rulers
from .camera import Camera
from .pan_zoom import RIGHT, PanZoom
from .shown import Shown
from .tiles import Asker, Tile, tiles

_REST_MS = 120
_HOVER_MS = 40


@dataclass(frozen=True)
class Remark:
    """A sentence over the picture, in the colour of a theme's role; `veil` dims what lies below."""

    head: str
    text: str
    role: str = "text"
    veil: bool = False


class GridView(PanZoom):
    """Shows the session's current layer; asks the engine only for what is in sight.

    The old picture stays, scaled, until the new one is there; while nobody looks nothing is asked.
    What is asked for and how it is painted, the methods under "What a view says" decide.
    """

    view = ""
    """The engine's name for the pictures that are asked for."""

    def __init__(self, session: Session, shown: Shown, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._shown = shown
        self.error = ""
        self.value: dict[str, Any] | None = None
        self._info: LayerInfo | None = None
        self._layer: str | None = None
        self._detail: Tile | None = None
        self._whole: Tile | None = None
        self._pictures: dict[tuple[int, str], QImage] = {}
        self._tiles = tiles(session.client, self, self._arrived)
        self._tiles.failed.connect(self._failed)
        self._wholes = tiles(session.client, self, self._whole_arrived)
        self._values = Asker(session.client, "value", self)
        self._values.answered.connect(self._value_arrived)
        self._rest = QTimer(self, singleShot=True, interval=_REST_MS)
        self._rest.timeout.connect(self._ask_whole)
        self._hovering = QTimer(self, singleShot=True, interval=_HOVER_MS)
        self._hovering.timeout.connect(self._ask_value)
        shown.changed.connect(self.refresh)
        themes.follow(self, self._restyle)
        self.refresh()

    # What a view says

    def _subject(self) -> dict[str, Any]:
        """What every question says of the layer and its mask."""
        return self._shown.question()

    def _colour(self, tile: Tile, theme: Theme) -> QImage:
        """A tile in colours."""
        raise NotImplementedError

    def _key(self, painter: QPainter, at: QPointF, tile: Tile, theme: Theme) -> float:
        """Paint what the colours mean, from `at` on to the right; returns the width."""
        raise NotImplementedError

    def _words(self, tile: Tile) -> str:
        """What stands at the right below the picture."""
        return ""

    def _empty(self, layer: LayerInfo | None) -> tuple[str, str]:
        """A headline and a line for where there is no matrix."""
        if layer is None:
            return "Select a layer to see its weights", "Layers are listed on the left."
        return f"{layer.path} has no picture", layer.reason or "It has no weight matrix."

    def _remark(self) -> Remark | None:
        """What is to be said over the picture."""
        return Remark("No picture", self.error, "rose", veil=True) if self.error else None

    def _cell_words(self, value: dict[str, Any]) -> tuple[str, str]:
        """The engine's answer about one cell: the value, and how it stands."""
        state = "kept" if value["kept"] else "pruned"
        return marks.number(float(value["value"])), state

    # What others say

    def refresh(self) -> None:
        """Show the session's layer and mask as they are now."""
        layer = self._shown.layer
        if layer != self._info:
            self._info = layer
            self._layer = layer.path if layer is not None and layer.gemm is not None else None
            self._detail = self._whole = self.camera = None
            self._pictures.clear()
            self.hover = self.value = None
            self.error = ""
            if layer is not None and layer.gemm is not None:
                self.show_matrix(*layer.gemm.shape)
        self._ask()
        if self.hover is not None:
            self._hovering.start()
        self.update()

    def tile(self) -> Tile | None:
        """The picture on the screen."""
        return self._detail

    # Asking

    def _ask(self) -> None:
        if self.camera is None:
            self._tiles.forget()
            self._wholes.forget()
            self._values.forget()
            return
        if not self.isVisible():
            return
        self._tiles.ask(self._question(self.camera))
        if self.camera.fits:
            self._rest.stop()
        else:
            self._rest.start()

    def _moved(self) -> None:
        self._ask()

    def _hover_over(self, cell: tuple[int, int] | None) -> None:
        if cell != self.hover:
            self.hover, self.value = cell, None
            if cell is not None and not self._hovering.isActive():
                self._hovering.start()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._ask()

    def _question(self, camera: Camera) -> dict[str, Any]:
        top, left, bottom, right = camera.visible()
        wide, high = camera.scale
        ratio = self.devicePixelRatioF()
        size = [max(1, round((bottom - top) * high * ratio)),
                max(1, round((right - left) * wide * ratio))]  # fmt: skip
        asked = {"view": self.view, "rect": [top, left, bottom, right], "size": size}
        return {**self._subject(), **asked}

    def _ask_whole(self) -> None:
        if self.camera is not None:
            self._wholes.ask(self._question(self.camera.fitted()))

    def _arrived(self, tile: Tile) -> None:
        if tile.layer != self._layer or self.camera is None:
            return
        self._detail, self.error = tile, ""
        if tile.rect == (0, 0, self.camera.out, self.camera.ins):
            self._whole = tile
        self._pictures.clear()
        self.update()

    def _whole_arrived(self, tile: Tile) -> None:
        if tile.layer == self._layer:
            self._whole = tile
            self._pictures.clear()
            self.update()

    def _failed(self, message: str) -> None:
        # While the engine opens a model, a question may come too early; it is asked again after.
        if not self._session.busy and self._session.engine_state == "ready":
            self.error = message
            self.update()

    def _ask_value(self) -> None:
        if self.hover is not None and self._layer is not None:
            row, column = self.hover
            self._values.ask({**self._subject(), "row": row, "column": column})

    def _value_arrived(self, asked: dict[str, Any], meta: dict[str, Any], arrays: Any) -> None:
        if asked["layer"] == self._layer and (asked["row"], asked["column"]) == self.hover:
            self.value = meta
            self.update()

    # Painting

    def _restyle(self) -> None:
        self._pictures.clear()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = themes.theme_of(self)
        painter = QPainter(self)
        painter.fillRect(self.rect(), theme.colour("bg"))
        layer, camera = self._shown.layer, self.camera
        whole = QRectF(self.rect())
        if layer is None or layer.gemm is None or camera is None:
            marks.sentence(painter, whole, *self._empty(layer), theme)
        else:
            self._paint_matrix(painter, layer.gemm, camera, theme)
        painter.end()

    def _paint_matrix(self, painter: QPainter, gemm: Gemm, camera: Camera, theme: Theme) -> None:
        stage = self.stage()
        lies = QRectF(stage.topLeft(), stage.size())
        lies.setSize(lies.size().boundedTo(QRectF(0, 0, *camera.extent).size()))
        painter.save()
        painter.setClipRect(lies)
        painter.fillRect(lies, QColor(colormaps.pruned(theme)))
        for tile in (self._whole, self._detail):
            if tile is not None and (tile is self._detail or not camera.fits or not self._detail):
                self._paint_tile(painter, tile, camera, theme)
        frame.grid(painter, stage, camera, theme)
        remark = self._remark()
        if remark is not None and remark.veil:
            painter.fillRect(lies, theme.colour("bg", 0.8))
        painter.restore()
        frame.scales(painter, stage, gemm, camera, theme)
        self._paint_foot(painter, theme)
        if remark is not None:
            marks.sentence(painter, self.room(), remark.head, remark.text, theme, remark.role)
        if not camera.fits and self._whole is not None:
            sight = QRectF(
                camera.left / camera.ins,
                camera.top / camera.out,
                min(1.0, camera.width / camera.scale[0] / camera.ins),
                min(1.0, camera.height / camera.scale[1] / camera.out),
            )
            picture = self._picture(self._whole, theme)
            marks.overview(painter, self.overview_box(), picture, sight, theme)
        if self.hover is not None and not self.error:
            self._paint_tip(painter, gemm, camera, theme)

    def _picture(self, tile: Tile, theme: Theme) -> QImage:
        key = (id(tile), theme.name)
        if key not in self._pictures:
            self._pictures[key] = self._colour(tile, theme)
        return self._pictures[key]

    def _paint_tile(self, painter: QPainter, tile: Tile, camera: Camera, theme: Theme) -> None:
        top, left, bottom, right = tile.rect
        stage = self.stage().topLeft()
        target = QRectF(
            QPointF(camera.x(left), camera.y(top)), QPointF(camera.x(right), camera.y(bottom))
        ).translated(stage)
        picture = self._picture(tile, theme)
        ratio = self.devicePixelRatioF()
        wide = target.width() * ratio / picture.width()
        high = target.height() * ratio / picture.height()
        exact = abs(wide - 1) * picture.width() < 0.5 and abs(high - 1) * picture.height() < 0.5
        if not exact and min(wide, high) < 4:
            # Cells of some one and a half pixels would come out uneven: draw them larger first.
            grown_wide, grown_high = (1 if s < 1.01 else -int(-s // 1) for s in (wide, high))
            picture = picture.scaled(picture.width() * grown_wide, picture.height() * grown_high)
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(target, picture)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)

    def _paint_foot(self, painter: QPainter, theme: Theme) -> None:
        """What the colours mean at the left, words at the right."""
        tile = self._detail
        if tile is None:
            return
        at = QPointF(self.room().left(), self.height() - 28)
        used = self._key(painter, at, tile, theme)
        font = themes.font(11)
        metrics = QFontMetricsF(font)
        end = self.overview_box().left() - 14 if self._zoomed() else self.width() - RIGHT
        room = end - at.x() - used - 24
        words = metrics.elidedText(self._words(tile), Qt.TextElideMode.ElideRight, room)
        painter.setFont(font)
        painter.setPen(theme.colour("dim"))
        x = end - metrics.horizontalAdvance(words)
        painter.drawText(QPointF(x, at.y() + metrics.ascent()), words)

    def _zoomed(self) -> bool:
        return self.camera is not None and not self.camera.fits

    def _paint_tip(self, painter: QPainter, gemm: Gemm, camera: Camera, theme: Theme) -> None:
        assert self.hover is not None
        row, column = self.hover
        wide, high = camera.scale
        if min(wide, high) >= 4:
            cell = QRectF(camera.x(column), camera.y(row), wide, high)
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.setPen(QPen(theme.colour("text"), 1))
            painter.drawRect(cell.translated(self.stage().topLeft()).adjusted(0, 0, -1, -1))
        head = self._cell_words(self.value) if self.value is not None else ("…", "")
        words = rulers.entry_words(gemm, row, column)
        marks.tip(painter, self.cursor_, QRectF(self.rect()), head, words, theme)
