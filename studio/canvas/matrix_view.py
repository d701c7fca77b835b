"""The hero: one layer's W[out, in] as a picture that is zoomed, panned and read cell by cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PySide6.QtCore import QPointF, QRectF, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QWidget

from ...engine.gemm import Gemm
from ...engine.info import LayerInfo
from ..look import theme as themes
from ..look.theme import Theme
from ..state.session import Session
from . import colormaps, frame, marks, rulers
from .camera import Camera
from .looks import LEGENDS, ONE_CELL, Look
from .shown import Shown
from .tiles import Asker, Tile, tiles

LEFT, TOP, RIGHT, BOTTOM = frame.LEFT, 34, 24, 46
_OVERVIEW = (112, 76)
_REST_MS = 120
_HOVER_MS = 40


class MatrixView(QWidget):
    """Shows the session's current layer; asks the engine only for what is in sight.

    Wheel zooms at the cursor, dragging pans, a double click or F fits. `Look` says how it is
    painted. The old picture stays, scaled, until the new one is there.
    """

    look_changed = Signal()

    def __init__(self, session: Session, shown: Shown, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("matrix_view")
        self.setAccessibleName("Picture of the layer's weight matrix")
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(260, 200)
        self._session = session
        self._shown = shown
        self.look = Look()
        self.camera: Camera | None = None
        self.error = ""
        self.hover: tuple[int, int] | None = None
        self.value: dict[str, Any] | None = None
        self._info: LayerInfo | None = None
        self._layer: str | None = None
        self._detail: Tile | None = None
        self._whole: Tile | None = None
        self._pictures: dict[tuple[int, str], QImage] = {}
        self._grabbed: QPointF | None = None
        self._cursor = QPointF()
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

    # What others say

    def set_look(self, **changes: Any) -> None:
        """Change how the matrix is painted: fields of `Look` by name."""
        look = replace(self.look, **changes)
        if look == self.look:
            return
        ask = look.view != self.look.view
        self.look = look
        self._pictures.clear()
        if ask:
            self._ask()
        self.look_changed.emit()
        self.update()

    def fit(self) -> None:
        """Show the whole matrix."""
        if self.camera is not None:
            self._look_at(self.camera.fitted())

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
                room = self.room()
                self.camera = Camera(*layer.gemm.shape, room.width(), room.height())
        self._ask()
        if self.hover is not None:
            self._hovering.start()
        self.update()

    # Geometry

    def room(self) -> QRectF:
        """Where there is room for the matrix, in the widget's pixels."""
        width = max(8, self.width() - LEFT - RIGHT)
        return QRectF(LEFT, TOP, width, max(8, self.height() - TOP - BOTTOM))

    def stage(self) -> QRectF:
        """The room from the matrix's upper left corner on: a narrow matrix stands in the middle."""
        room = self.room()
        spare = room.width() - self.camera.extent[0] if self.camera is not None else 0.0
        return room.translated(round(max(0.0, spare) / 2), 0)

    def overview_box(self) -> QRectF:
        """Where the small picture of the whole lies while zoomed."""
        wide, high = _OVERVIEW
        return QRectF(self.width() - wide - 16, self.height() - high - 16, wide, high)

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
        self._tiles.ask(self._question(self.camera))
        if self.camera.fits:
            self._rest.stop()
        else:
            self._rest.start()

    def _question(self, camera: Camera) -> dict[str, Any]:
        top, left, bottom, right = camera.visible()
        wide, high = camera.scale
        ratio = self.devicePixelRatioF()
        size = [max(1, round((bottom - top) * high * ratio)),
                max(1, round((right - left) * wide * ratio))]  # fmt: skip
        asked = {"view": self.look.view, "rect": [top, left, bottom, right], "size": size}
        return {**self._shown.question(), **asked}

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
            question = {**self._shown.question(), "row": row, "column": column}
            self._values.ask(question)

    def _value_arrived(self, asked: dict[str, Any], meta: dict[str, Any], arrays: Any) -> None:
        if asked["layer"] == self._layer and (asked["row"], asked["column"]) == self.hover:
            self.value = meta
            self.update()

    # Mouse and keys

    def wheelEvent(self, event: QWheelEvent) -> None:
        if self.camera is None:
            event.ignore()
            return
        steps = (event.angleDelta().y() or event.angleDelta().x()) / 120
        at = event.position() - self.stage().topLeft()
        self._look_at(self.camera.zoomed(1.25**steps, at.x(), at.y()))
        self._point(event.position())
        event.accept()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton or self.camera is None:
            event.ignore()
            return
        if not self.camera.fits and self.overview_box().contains(event.position()):
            self._jump(event.position())
            return
        self._grabbed = event.position()
        if not self.camera.fits:
            self.setCursor(Qt.CursorShape.ClosedHandCursor)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self.camera is None:
            return
        if event.buttons() & Qt.MouseButton.LeftButton:
            if self._grabbed is not None:
                moved = event.position() - self._grabbed
                self._grabbed = event.position()
                self._look_at(self.camera.moved(moved.x(), moved.y()))
            else:
                self._jump(event.position())
        self._point(event.position())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self._grabbed = None
        self.unsetCursor()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self.fit()

    def leaveEvent(self, event: Any) -> None:
        self.hover = self.value = None
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        keys = Qt.Key
        middle = self.stage().width() / 2, self.stage().height() / 2
        camera, pressed = self.camera, event.key()
        pan = {keys.Key_Left: (60, 0), keys.Key_Right: (-60, 0),
               keys.Key_Up: (0, 60), keys.Key_Down: (0, -60)}  # fmt: skip
        zoom = {keys.Key_Plus: 1.5, keys.Key_Equal: 1.5, keys.Key_Minus: 1 / 1.5}
        if camera is None or event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            super().keyPressEvent(event)
        elif pressed == keys.Key_F:
            self.fit()
        elif pressed in pan:
            self._look_at(camera.moved(*pan[keys(pressed)]))
        elif pressed in zoom:
            self._look_at(camera.zoomed(zoom[keys(pressed)], *middle))
        else:
            super().keyPressEvent(event)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self.camera is not None:
            room = self.room()
            self.camera = self.camera.resized(room.width(), room.height())
            self._ask()

    def _look_at(self, camera: Camera) -> None:
        if camera != self.camera:
            self.camera = camera
            self._ask()
            self.update()

    def _jump(self, position: QPointF) -> None:
        """Bring what the overview shows at `position` to the middle."""
        assert self.camera is not None
        box = self.overview_box()
        column = (position.x() - box.left()) / box.width() * self.camera.ins
        row = (position.y() - box.top()) / box.height() * self.camera.out
        self._look_at(self.camera.centred(column, row))

    def _point(self, position: QPointF) -> None:
        """The cursor is here: name the cell under it."""
        if self.camera is None:
            return
        self._cursor = position
        at = position - self.stage().topLeft()
        cell = self.camera.cell(at.x(), at.y())
        if not self.camera.fits and self.overview_box().contains(position):
            cell = None
        if cell != self.hover:
            self.hover, self.value = cell, None
            if cell is not None and not self._hovering.isActive():
                self._hovering.start()
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
        if layer is None:
            head = "Select a layer to see its weights"
            marks.sentence(painter, whole, head, "Layers are listed on the left.", theme)
        elif layer.gemm is None or camera is None:
            reason = layer.reason or "It has no weight matrix."
            marks.sentence(painter, whole, f"{layer.path} has no picture", reason, theme)
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
        misfit = self._detail.meta.get("misfit") if self._detail is not None else None
        if misfit or self.error:
            painter.fillRect(lies, theme.colour("bg", 0.8))
        painter.restore()
        frame.scales(painter, stage, gemm, camera, theme)
        self._paint_legend(painter, theme)
        if self.error:
            marks.sentence(painter, self.room(), "No picture", self.error, theme, "rose")
        elif misfit:
            head = "The pattern does not fit this layer"
            marks.sentence(painter, self.room(), head, f"{self._layer} {misfit}.", theme, "amber")
        elif self._unchanged():
            text = "The weights are as they were loaded: no run has trained them."
            marks.sentence(painter, self.room(), "Nothing has changed", text, theme)
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

    def _unchanged(self) -> bool:
        weights = self.look.mode == "weights" and self.look.view == "change"
        return weights and self._detail is not None and not self._detail.meta["hi"]

    def _picture(self, tile: Tile, theme: Theme) -> QImage:
        key = (id(tile), theme.name)
        if key not in self._pictures:
            table = self.look.table(theme)
            self._pictures[key] = colormaps.image(tile.value, tile.density, table)
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
            grown_wide, grown_high = (
                1 if s < 1.01 else min(4, -int(-s // 1)) for s in (wide, high)
            )
            picture = picture.scaled(picture.width() * grown_wide, picture.height() * grown_high)
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawImage(target, picture)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, False)

    def _paint_legend(self, painter: QPainter, theme: Theme) -> None:
        tile = self._detail
        if tile is None:
            return
        at = QPointF(self.room().left(), self.height() - 28)
        if self.look.mode == "mask":
            entries = [(theme.leaf, "kept"), (colormaps.pruned(theme), "pruned")]
            used = marks.key(painter, at, entries, theme)
        else:
            low, high, view = tile.meta["lo"], tile.meta["hi"], str(tile.asked["view"])
            top, left, bottom, right = tile.rect
            single = tile.value.shape == (bottom - top, right - left)
            title = (ONE_CELL if single else LEGENDS)[view]
            colours = self.look.colour_map(theme)
            used = marks.legend(painter, at, colours, low, high, title, theme)
        font = themes.font(11)
        metrics = QFontMetricsF(font)
        words = self._shown.words(float(tile.meta["achieved"]))
        if tile.meta.get("misfit"):
            words = ""
        elif tile.meta.get("waits"):
            words = f"No preview: {self._layer} {tile.meta['waits']}"
        end = self.overview_box().left() - 14 if self._zoomed() else self.width() - RIGHT
        room = end - at.x() - used - 24
        words = metrics.elidedText(words, Qt.TextElideMode.ElideRight, room)
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
        head = ("…", "")
        if self.value is not None:
            state = "kept" if self.value["kept"] else "pruned"
            head = (marks.number(float(self.value["value"])), state)
        words = rulers.entry_words(gemm, row, column)
        marks.tip(painter, self._cursor, QRectF(self.rect()), head, words, theme)
