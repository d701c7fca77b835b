"""The panels around the centre: docks with quiet handles, and their layout between sittings."""

from __future__ import annotations

from PySide6.QtCore import QSettings, QSize, Qt
from PySide6.QtGui import QAction, QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QDockWidget, QMainWindow, QWidget

from .look import theme
from .look.widgets import named

_LAYOUT = "layout/docks"
_GEOMETRY = "layout/window"
_VERSION = 1
_LAYERS, _PLAN = 412, 318
_LAYERS_SHARE = 0.286
"""Of a window that is too narrow for both, so that the matrix in the middle stays the largest."""
_Area = Qt.DockWidgetArea


class Grip(QWidget):
    """Eight pixels to take a panel by, shown under the pointer."""

    def __init__(self, beside: QWidget | None = None) -> None:
        super().__init__()
        self.setFixedHeight(8)
        self.setCursor(Qt.CursorShape.SizeAllCursor)
        self.setToolTip("Drag to move this panel, double-click to float it")
        self.setAttribute(Qt.WidgetAttribute.WA_Hover)
        self._beside = beside

    def sizeHint(self) -> QSize:
        return QSize(40, 8)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        panel = self._beside
        # Qt draws no separator beside a panel of fixed height.
        if panel is not None and panel.minimumHeight() == panel.maximumHeight():
            painter.fillRect(0, 0, self.width(), 1, QColor(theme.current().line))
        if not self.underMouse():
            return
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.current().faint))
        for step in (-8, 0, 8):
            painter.drawEllipse(self.width() // 2 + step, 3, 3, 3)
        painter.end()


class Docks:
    """Layers at the left, plan at the right over the full height, the run below the centre."""

    def __init__(self, window: QMainWindow, layers: QWidget, heading: QWidget, plan: QWidget,
                 run: QWidget) -> None:  # fmt: skip
        self._window = window
        window.setDockNestingEnabled(True)
        window.setDockOptions(window.dockOptions() & ~QMainWindow.DockOption.AnimatedDocks)
        window.setCorner(Qt.Corner.BottomRightCorner, _Area.RightDockWidgetArea)
        window.setCorner(Qt.Corner.BottomLeftCorner, _Area.BottomDockWidgetArea)
        self.layers = self._dock("Layers", "dock_layers", layers, heading, "Ctrl+1")
        self.plan = self._dock("Plan", "dock_plan", plan, Grip(), "Ctrl+2")
        self.run = self._dock("Run", "dock_run", run, Grip(run), "Ctrl+3")
        self.reset()

    def _dock(
        self, title: str, name: str, panel: QWidget, handle: QWidget, shortcut: str
    ) -> QDockWidget:
        dock = named(QDockWidget(title), name, title)
        dock.setWidget(panel)
        dock.setTitleBarWidget(handle)
        dock.toggleViewAction().setShortcut(shortcut)
        dock.toggleViewAction().setToolTip(f"Show or hide the {title.lower()} panel  {shortcut}")
        return dock

    def toggles(self) -> list[QAction]:
        """The actions that show and hide the panels."""
        return [dock.toggleViewAction() for dock in (self.layers, self.plan, self.run)]

    def reset(self) -> None:
        """Put every panel back in its place."""
        places = (
            (self.layers, _Area.LeftDockWidgetArea),
            (self.plan, _Area.RightDockWidgetArea),
            (self.run, _Area.BottomDockWidgetArea),
        )
        for dock, area in places:
            dock.setFloating(False)
            self._window.addDockWidget(area, dock)
            dock.show()
        widths = [min(_LAYERS, round(_LAYERS_SHARE * self._window.width())), _PLAN]
        self._window.resizeDocks([self.layers, self.plan], widths, Qt.Orientation.Horizontal)
        self._window.resizeDocks([self.run], [172], Qt.Orientation.Vertical)

    def save(self, settings: QSettings) -> None:
        """Keep the layout and the window's place."""
        settings.setValue(_LAYOUT, self._window.saveState(_VERSION))
        settings.setValue(_GEOMETRY, self._window.saveGeometry())

    def restore(self, settings: QSettings) -> bool:
        """Take the kept layout, if there is one that fits; whether there was."""
        geometry, layout = settings.value(_GEOMETRY), settings.value(_LAYOUT)
        if geometry is not None:
            self._window.restoreGeometry(geometry)
        return layout is not None and self._window.restoreState(layout, _VERSION)
