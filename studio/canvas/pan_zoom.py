"""Moving over a matrix by mouse and keys: zoom, pan, the cell under the cursor."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QKeyEvent, QMouseEvent, QResizeEvent, QWheelEvent
from PySide6.QtWidgets import QWidget

from . import frame
from .camera import Camera

LEFT, TOP, RIGHT, BOTTOM = frame.LEFT, 34, 24, 46
_OVERVIEW = (112, 76)


class PanZoom(QWidget):
    """A stage with a `camera` on a matrix, None without one.

    Wheel zooms at the cursor, dragging pans, a double click or F fits; in the small picture of the
    whole, which lies in the corner while zoomed, a press jumps. `hover` is the (row, column) under
    the cursor, which is at `cursor_`.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(260, 200)
        self.camera: Camera | None = None
        self.hover: tuple[int, int] | None = None
        self.cursor_ = QPointF()
        self._grabbed: QPointF | None = None

    def fit(self) -> None:
        """Show the whole matrix."""
        if self.camera is not None:
            self._look_at(self.camera.fitted())

    def show_matrix(self, out: int, ins: int) -> None:
        """Look at the whole of a matrix of this shape."""
        self.camera = Camera(out, ins, self.room().width(), self.room().height())

    def _moved(self) -> None:
        """Another part of the matrix is in sight."""

    def _hover_over(self, cell: tuple[int, int] | None) -> None:
        """The cursor is over `cell` now."""
        self.hover = cell

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
        self._hover_over(None)
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
            self._moved()

    def _look_at(self, camera: Camera) -> None:
        if camera != self.camera:
            self.camera = camera
            self._moved()
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
        self.cursor_ = position
        at = position - self.stage().topLeft()
        cell = self.camera.cell(at.x(), at.y())
        if not self.camera.fits and self.overview_box().contains(position):
            cell = None
        self._hover_over(cell)
        self.update()
