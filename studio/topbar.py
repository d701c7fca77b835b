"""The bar at the top: logo, menus, where one is, search, the engine's state, the main actions."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenuBar, QPushButton, QSizePolicy, QWidget

from .actions import Actions
from .look import theme
from .look.icons import app_icon
from .look.widgets import ActionButton, ElidedLabel, label, named
from .state.session import Session


class TopBar(QWidget):
    """48 pixels that say what is open and offer what one does with it."""

    def __init__(self, session: Session, actions: Actions, menus: QMenuBar) -> None:
        super().__init__()
        self._session = session
        self.setObjectName("topbar")
        logo = QLabel()
        logo.setPixmap(app_icon().pixmap(QSize(22, 22)))
        self._model = label(role="strong", name="crumb_model")
        self._path = ElidedLabel("dim")
        self._path.setObjectName("crumb_path")
        self._path.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Preferred)
        self._leaf = label(role="strong", name="crumb_layer")
        row = QHBoxLayout(self)
        row.setContentsMargins(14, 8, 14, 8)
        row.setSpacing(10)
        row.addWidget(logo)
        if not menus.isNativeMenuBar():
            menus.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
            row.addWidget(menus)
        row.addWidget(self._model)
        crumb = QHBoxLayout()
        crumb.setSpacing(0)
        crumb.addWidget(self._path)
        crumb.addWidget(self._leaf)
        row.addLayout(crumb)
        row.addStretch(3)
        row.addWidget(SearchField(actions))
        row.addStretch(1)
        row.addWidget(EngineChip(session, actions))
        row.addWidget(ActionButton(actions["measure"], "measure_button", "Measure"))
        row.addWidget(ActionButton(actions["prune"], "prune_button", role="go", sign="▶  "))
        row.addWidget(ActionButton(actions["export"], "export_button", "Export…"))
        for signal in (session.model_changed, session.selection_changed):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the model's name and the current layer's path."""
        session = self._session
        self._model.setText(session.info.name if session.info else "")
        self._model.setToolTip(session.address)
        parts = (session.current or "").split(".") if session.current else []
        self._path.set_full("› " + "".join(f"{part} › " for part in parts[:-1]) if parts else "")
        self._leaf.setText(parts[-1] if parts else "")
        self._path.setToolTip(session.current or "")


class SearchField(QPushButton):
    """Looks like a field and opens the palette, where typing happens."""

    def __init__(self, actions: Actions) -> None:
        super().__init__()
        action = actions["search"]
        named(self, "search_field", "Search layers and actions", action.toolTip())
        self.setMinimumWidth(160)
        self.setMaximumWidth(280)
        self.setCursor(Qt.CursorShape.IBeamCursor)
        self.clicked.connect(action.trigger)
        row = QHBoxLayout(self)
        row.setContentsMargins(10, 0, 8, 0)
        row.addWidget(label("Search layers and actions", "faint"))
        row.addStretch()
        row.addWidget(label("Ctrl K", "kbd"), 0, Qt.AlignmentFlag.AlignVCenter)
        theme.follow(self, self._restyle)

    def sizeHint(self) -> QSize:
        return QSize(280, 30)

    def _restyle(self) -> None:
        # A field's look on a button: sunk, with the text at the left.
        self.setStyleSheet(f"#search_field {{ background: {theme.current().bg}; }}")


class EngineChip(QPushButton):
    """The engine's state as a dot and words; a click restarts it, after it has failed."""

    def __init__(self, session: Session, actions: Actions) -> None:
        super().__init__()
        self._session = session
        named(self, "engine_chip", "Engine")
        self.setProperty("role", "small")
        self._restart = actions["restart"]
        self.clicked.connect(self._clicked)
        for signal in (session.engine_changed, session.busy_changed):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's engine."""
        session = self._session
        self.setText(f"    Engine · {session.engine_text}")
        if session.engine_state == "failed":
            self.setToolTip("The engine is not running. Click to restart it.")
        else:
            hello = session.client.hello
            version = f"torch {hello['torch']}, " if hello.get("torch") else ""
            self.setToolTip(f"{version}process {hello.get('pid', '—')}\n{session.busy or 'Idle'}")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        colours = theme.current()
        state = self._session.engine_state
        busy = bool(self._session.busy)
        colour = {"ready": colours.leaf, "failed": colours.rose}.get(state, colours.faint)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colours.amber if busy and state == "ready" else colour))
        painter.drawEllipse(11, self.height() // 2 - 3, 7, 7)
        painter.end()

    def _clicked(self) -> None:
        if self._session.engine_state == "failed":
            self._restart.trigger()
