"""The chips at the right of the tabs: what to measure, and exporting what is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtWidgets import QMenu, QToolButton

from ...engine.errors import BadInput
from ..look import theme
from ..look.chip_row import ChipRow
from ..look.dialogs import ask_save
from ..look.icons import icon
from ..look.widgets import named, wrapped
from ..state.session import Session
from .ask_panel import AskPanel
from .view import LatencyView

_EXPORTS = (
    ("png", "Picture as PNG…", "PNG (*.png)"),
    ("svg", "Picture as SVG…", "SVG (*.svg)"),
    ("csv", "Table as CSV…", "CSV (*.csv)"),
    ("html", "Report as HTML…", "HTML (*.html)"),
)


class LatencyTools(ChipRow):
    """The buttons, over the view that they serve."""

    def __init__(self, session: Session, view: LatencyView) -> None:
        self._session, self._view = session, view
        self._panel: AskPanel | None = None
        self.ask = named(QToolButton(), "ask_chip", "What to measure",
                         "Layers, patterns, sparsities, batches  Ctrl+Shift+M")  # fmt: skip
        self.ask.setProperty("role", "chip")
        self.ask.setText("what to measure")
        self.ask.clicked.connect(self.open_panel)
        self.export = named(QToolButton(), "latency_export", "Export")
        self.export.setProperty("role", "chip")
        self.export.setText("export")
        self.export.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(self.export)
        menu.setObjectName("latency_export_menu")
        self._exports = {}
        for name, text, kinds in _EXPORTS:
            action = menu.addAction(text)
            action.setObjectName(f"latency_export_{name}")
            action.triggered.connect(
                lambda _=False, name=name, kinds=kinds: self._export(name, kinds)
            )
            self._exports[name] = action
        menu.aboutToShow.connect(self._follow)
        menu.setToolTipsVisible(True)
        self.export.setMenu(menu)
        self.export.setToolTip(wrapped("The picture, the table or a report as a file"))
        super().__init__("latency_tools", self.ask, self.export)
        theme.follow(self, self._draw_icons)

    def _draw_icons(self) -> None:
        colours = theme.current()
        self.ask.setIcon(icon("settings", colours, 14, colours.dim))
        self.export.setIcon(icon("export", colours, 14, colours.dim))
        self.refit()

    def open_panel(self) -> None:
        """Ask what to measure."""
        if self._session.info is None:
            return
        if self._panel is not None:
            self._panel.deleteLater()
        self._panel = AskPanel(self._session, self)
        self._panel.popup_below(self.ask)

    def save(self, name: str, path: Path) -> None:
        """Write one of the exports; what goes wrong is said, and the old file stays."""
        from . import exporting

        found, view = self._session.measuring.found, self._view
        save: Callable[[], None] = {
            "png": lambda: exporting.save_png(view.plot, path),
            "svg": lambda: exporting.save_svg(view.plot, path),
            "csv": lambda: exporting.save_csv(found, path),
            "html": lambda: exporting.save_html(found, path),
        }[name]
        if name == "csv" and view.mode == "Trade-off":
            save = lambda: exporting.save_runs_csv(view.tradeoff.spots, path)  # noqa: E731
        try:
            save()
        except (BadInput, OSError) as error:
            self._session.notice.emit(f"Not exported: {error}", "error")
            return
        self._session.notice.emit(f"Saved {path}", "info")

    def _export(self, name: str, kinds: str) -> None:
        model = self._session.info.name if self._session.info else "model"
        words = "latency" if name in ("csv", "html") else self._view.mode.lower()
        path = ask_save(self, "Export", Path(f"{model}-{words}.{name}"), kinds)
        if path:
            self.save(name, Path(path) if Path(path).suffix else Path(f"{path}.{name}"))

    def _follow(self) -> None:
        for name, action in self._exports.items():
            needs_picture = name in ("png", "svg") or self._view.mode == "Trade-off"
            there = self._view.has_picture if needs_picture else self._session.measuring.found.cells
            if name == "html":
                there = self._session.measuring.found.cells
            action.setEnabled(bool(there))
            action.setToolTip("" if there else "Nothing is measured for this yet")
