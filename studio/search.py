"""The palette behind Ctrl+K: one field that finds layers and commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QObject, QRect, QSize, Qt
from PySide6.QtGui import QColor, QKeyEvent, QPainter
from PySide6.QtWidgets import (
    QFrame,
    QGraphicsDropShadowEffect,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from .actions import Actions
from .layers.layer_model import kind
from .look import theme
from .look.widgets import label, named, wrapped
from .state.session import Session

_MOST = 60
_ENTRY = Qt.ItemDataRole.UserRole


@dataclass(frozen=True)
class Entry:
    """One thing that can be found; `note` stands at its right, `reason` says why it is off."""

    text: str
    note: str
    pick: Callable[[], None]
    reason: str = ""


def match(words: str, text: str) -> int | None:
    """How well `text` fits what was typed: smaller is better, None for not at all.

    Every word must occur; early places and short texts are better.
    """
    low = text.lower()
    places = [low.find(word) for word in words.lower().split()]
    if any(place < 0 for place in places):
        return None
    return sum(places) * 4 + len(text)


class SearchPalette(QFrame):
    """A floating list over the window; arrows and Enter choose, Escape closes."""

    def __init__(self, session: Session, actions: Actions, parent: QWidget) -> None:
        super().__init__(parent)
        self._session, self._actions, self.window_ = session, actions, parent
        self.setObjectName("search_palette")
        self.field = named(QLineEdit(), "search_input", "Search layers and actions")
        self.field.setPlaceholderText("Search layers and actions")
        self.field.setProperty("role", "search")
        self.list = named(QListWidget(), "search_list", "Results")
        self.list.setItemDelegate(_EntryDelegate(self.list))
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setMouseTracking(True)
        self._nothing = label("Nothing fits.", "faint")
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        box = QVBoxLayout(self)
        box.setContentsMargins(10, 10, 10, 8)
        box.setSpacing(6)
        box.addWidget(self.field)
        box.addWidget(self.list, 1)
        box.addWidget(self._nothing)
        box.addWidget(label("↑ ↓ to move   Enter to choose   Esc to close", "faint"))
        self.field.textChanged.connect(self._search)
        self.field.installEventFilter(self)
        self.list.itemClicked.connect(self._pick)
        shadow = QGraphicsDropShadowEffect(self)
        shadow.setBlurRadius(32)
        shadow.setOffset(0, 8)
        shadow.setColor(QColor(0, 0, 0, 120))
        self.setGraphicsEffect(shadow)
        theme.follow(self, self._restyle)
        self.hide()

    def open(self) -> None:
        """Show it at the top of its window, empty, ready to type into."""
        window = self.window_
        width = min(560, window.width() - 40)
        self.setGeometry((window.width() - width) // 2, 52, width, 420)
        self.field.clear()
        self._search("")
        self.show()
        self.raise_()
        self.field.setFocus()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.FocusOut and watched is self.field:
            self.hide()
        if event.type() == QEvent.Type.KeyPress and isinstance(event, QKeyEvent):
            key = event.key()
            if key == Qt.Key.Key_Escape:
                self.hide()
                return True
            if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._pick(self.list.currentItem())
                return True
            if key in (Qt.Key.Key_Down, Qt.Key.Key_Up):
                step = 1 if key == Qt.Key.Key_Down else -1
                count = max(self.list.count(), 1)
                self.list.setCurrentRow((self.list.currentRow() + step) % count)
                return True
        return super().eventFilter(watched, event)

    def _entries(self) -> list[Entry]:
        session = self._session
        found = []
        for action in self._actions.all():
            if action.objectName() == "action_search":
                continue
            reason = "" if action.isEnabled() else action.statusTip()
            text = action.text().replace("&", "").rstrip("…")
            keys = action.shortcut().toString()
            found.append(Entry(text, reason or keys, action.trigger, reason))
        for layer in session.info.layers if session.info else ():
            shape = "{} × {}".format(*layer.gemm.shape) if layer.gemm else "not prunable"
            found.append(
                Entry(
                    layer.path,
                    f"{kind(layer)} · {shape}",
                    lambda path=layer.path: session.select([path], path),  # type: ignore[misc]
                )
            )
        return found

    def _search(self, text: str) -> None:
        scored = [(match(text, entry.text), n, entry) for n, entry in enumerate(self._entries())]
        best = sorted((s, n) for s, n, _ in scored if s is not None) if text.strip() else [
            (0, n) for _, n, _ in scored
        ]  # fmt: skip
        self.list.clear()
        for _, number in best[:_MOST]:
            entry = scored[number][2]
            item = QListWidgetItem(entry.text)
            item.setData(_ENTRY, entry)
            item.setToolTip(wrapped(entry.reason))
            self.list.addItem(item)
        self.list.setCurrentRow(0)
        self.resize(self.width(), 92 + 30 * min(max(self.list.count(), 1), 12))
        self.list.setVisible(self.list.count() > 0)
        self._nothing.setVisible(self.list.count() == 0)

    def _pick(self, item: QListWidgetItem | None) -> None:
        entry = item.data(_ENTRY) if item is not None else None
        if not isinstance(entry, Entry) or entry.reason:
            return
        self.hide()
        entry.pick()

    def _restyle(self) -> None:
        colours = theme.current()
        self.setStyleSheet(
            f"#search_palette {{ background: {colours.raise_}; border: 1px solid {colours.line};"
            f" border-radius: 12px; }} #search_list {{ background: transparent; }}"
        )


class _EntryDelegate(QStyledItemDelegate):
    """Text at the left, shape, shortcut or reason at the right."""

    def sizeHint(self, option: QStyleOptionViewItem, index: object) -> QSize:
        return QSize(100, 30)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: object) -> None:
        colours = theme.current()
        entry = index.data(_ENTRY)  # type: ignore[attr-defined]
        rect = QRect(option.rect)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        if option.state & QStyle.StateFlag.State_Selected:
            painter.setBrush(QColor(colours.mix(colours.leaf, colours.raise_, 0.18)))
            painter.drawRoundedRect(rect, 6, 6)
        elif option.state & QStyle.StateFlag.State_MouseOver:
            painter.setBrush(QColor(colours.mix(colours.text, colours.raise_, 0.06)))
            painter.drawRoundedRect(rect, 6, 6)
        inner = rect.adjusted(10, 0, -10, 0)
        painter.setFont(theme.font(12))
        painter.setPen(QColor(colours.dim))
        right = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        note = painter.fontMetrics().elidedText(
            entry.note, Qt.TextElideMode.ElideRight, inner.width() * 3 // 5
        )
        painter.drawText(inner, right, note)
        room = inner.width() - painter.fontMetrics().horizontalAdvance(note) - 12
        painter.setFont(theme.font(13))
        painter.setPen(QColor(colours.disabled if entry.reason else colours.text))
        text = painter.fontMetrics().elidedText(entry.text, Qt.TextElideMode.ElideMiddle, room)
        painter.drawText(inner, int(Qt.AlignmentFlag.AlignVCenter), text)
        painter.restore()
