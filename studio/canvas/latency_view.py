"""What was measured: dense against what ran, layer by layer, the whole model on top."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QPushButton, QScrollArea, QStackedLayout, QVBoxLayout, QWidget

from ..look import theme as themes
from ..look.theme import Theme
from ..look.widgets import label, named, wrapped
from ..state.session import Session

_ROW, _WHOLE_ROW, _HEAD = 42, 62, 34
_MARGIN = 24
SAME = 0.02
"""Two times that differ by less are called the same."""


@dataclass(frozen=True)
class Bar:
    """One measured cell as it is drawn. Times in milliseconds."""

    name: str
    how: str
    dense: float
    sparse: float
    speedup: float
    ran: str
    spread: float
    whole: bool

    @property
    def slowest(self) -> float:
        """The upper end of the measurements, about."""
        return self.sparse * (1 + self.spread)

    @property
    def verdict(self) -> str:
        """``faster``, ``same`` or ``slower`` than dense; staying dense is the same."""
        if self.ran == "dense" or abs(self.speedup - 1) < SAME:
            return "same"
        return "faster" if self.speedup > 1 else "slower"


def bars(session: Session) -> list[Bar]:
    """The session's measured cells: the whole model first, then layers in the model's order."""
    order = {layer.path: i for i, layer in enumerate(session.info.layers)} if session.info else {}
    cells = [cell for cell in session.cells if cell.get("ms") and cell.get("dense_ms")]
    cells.sort(key=lambda c: (c["layer"] is not None, order.get(c["layer"], -1), -c["kept"]))
    return [
        Bar(
            name=cell["layer"] or "Whole model",
            how=f"{cell['pattern']} · {cell['kept'] * 100:.0f} % kept" if cell["pattern"] else "",
            dense=float(cell["dense_ms"]),
            sparse=float(cell["ms"]),
            speedup=float(cell["speedup"]),
            ran=str(cell["ran"]),
            spread=float(cell.get("spread") or 0),
            whole=cell["layer"] is None,
        )
        for cell in cells
    ]


class LatencyView(QWidget):
    """The bars, or an invitation to measure."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("latency_view")
        self._session = session
        self.chart = LatencyChart(session)
        scroll = QScrollArea()
        scroll.setObjectName("latency_scroll")
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(self.chart)
        empty = QWidget()
        empty.setProperty("role", "stage")
        empty.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.button = named(QPushButton("Measure"), "latency_measure", "Measure latency")
        self.button.clicked.connect(lambda: session.measure())
        self._text = label("", "dim", "latency_hint")
        self._text.setWordWrap(True)
        self._text.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._text.setFixedWidth(420)
        head = label("Nothing is measured yet", "strong")
        column = QVBoxLayout(empty)
        column.setSpacing(8)
        column.addStretch()
        for widget in (head, self._text, self.button):
            column.addWidget(widget, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch()
        self._stack = QStackedLayout(self)
        self._stack.addWidget(empty)
        self._stack.addWidget(scroll)
        for signal in (
            session.run_changed, session.busy_changed, session.engine_changed,
            session.model_changed, session.selection_changed,
        ):  # fmt: skip
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's cells."""
        self.chart.refresh()
        self._stack.setCurrentIndex(1 if self.chart.bars else 0)
        reason = self._session.why_not("measure")
        self.button.setEnabled(not reason)
        self.button.setToolTip(
            wrapped(reason or "Time dense against sparse on this machine  Ctrl+M")
        )
        self._text.setText(
            f"{reason}."
            if reason
            else "Measuring times each layer, dense and with its pattern, on this machine. "
            "What is not faster stays dense."
        )


class LatencyChart(QWidget):
    """Pairs of horizontal bars. The whole model has a scale of its own."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("latency_chart")
        self.setAccessibleName("Measured latencies, dense against sparse")
        self._session = session
        self.bars: list[Bar] = []

    def refresh(self) -> None:
        """Take the session's cells."""
        self.bars = bars(self._session)
        self.setMinimumHeight(self.sizeHint().height())
        self.update()

    def sizeHint(self) -> QSize:
        whole = sum(bar.whole for bar in self.bars)
        height = whole * _WHOLE_ROW + (len(self.bars) - whole) * _ROW
        return QSize(320, _HEAD + height + 2 * _MARGIN)

    def paintEvent(self, event: QPaintEvent) -> None:
        theme = themes.theme_of(self)
        painter = QPainter(self)
        painter.fillRect(self.rect(), theme.colour("bg"))
        if self.bars:
            self._paint(painter, theme)
        painter.end()

    def _paint(self, painter: QPainter, theme: Theme) -> None:
        names = QFontMetricsF(themes.font(14, QFont.Weight.DemiBold))
        small = QFontMetricsF(themes.font(11))
        longest = max(
            max(names.horizontalAdvance(bar.name), small.horizontalAdvance(bar.how))
            for bar in self.bars
        )
        words = max(small.horizontalAdvance(_times(bar)) for bar in self.bars)
        left = _MARGIN + min(longest, self.width() * 0.28) + 20
        right = self.width() - _MARGIN - max(words, 76.0) - 14
        self._paint_head(painter, left, theme)
        y = float(_MARGIN / 2 + _HEAD)
        for whole in (True, False):
            rows = [bar for bar in self.bars if bar.whole is whole]
            longest_time = max((max(b.dense, b.slowest) for b in rows), default=1.0)
            for bar in rows:
                height = _WHOLE_ROW if whole else _ROW
                scale = max(8.0, right - left) / longest_time
                self._paint_bar(
                    painter, bar, QRectF(0, y, self.width(), height), left, scale, theme
                )
                y += height
            if whole and rows:
                painter.setPen(theme.colour("line"))
                painter.drawLine(QPointF(_MARGIN, y), QPointF(self.width() - _MARGIN, y))
                y += 8

    def _paint_head(self, painter: QPainter, left: float, theme: Theme) -> None:
        font = themes.font(11)
        metrics = QFontMetricsF(font)
        painter.setFont(font)
        base = _MARGIN / 2 + 14.0
        cell = self._session.cells[-1]
        batch, device = cell.get("batch", 1), str(cell.get("device", "")).upper()
        painter.setPen(theme.colour("dim"))
        painter.drawText(QPointF(_MARGIN, base), f"ms · batch {batch} · {device}")
        x = left
        for colour, text in self._key(theme):
            painter.fillRect(QRectF(x, base - 8, 10, 8), QColor(colour))
            painter.drawText(QPointF(x + 15, base), text)
            x += 15 + metrics.horizontalAdvance(text) + 16

    def _key(self, theme: Theme) -> list[tuple[str, str]]:
        shown = {bar.verdict for bar in self.bars}
        names = [("faster", theme.leaf, "faster"), ("same", theme.blue, "no faster, stays dense"),
                 ("slower", theme.amber, "slower")]  # fmt: skip
        dense = (_dense_colour(theme), "dense")
        return [dense] + [(colour, text) for kind, colour, text in names if kind in shown]

    def _paint_bar(
        self, painter: QPainter, bar: Bar, row: QRectF, left: float, scale: float, theme: Theme
    ) -> None:
        current = bar.name == self._session.current
        if current:
            painter.fillRect(row, theme.colour("leaf", 0.10))
        size = 14 if bar.whole else 13
        heavy = QFont.Weight.DemiBold if bar.whole or current else QFont.Weight.Normal
        font = themes.font(size, heavy)
        metrics = QFontMetricsF(font)
        middle = row.center().y()
        painter.setFont(font)
        painter.setPen(theme.colour("text"))
        room = left - _MARGIN - 14
        name = metrics.elidedText(bar.name, Qt.TextElideMode.ElideMiddle, room)
        painter.drawText(QPointF(_MARGIN, middle - 2), name)
        small = themes.font(11)
        thin = QFontMetricsF(small)
        painter.setFont(small)
        painter.setPen(theme.colour("dim"))
        how = thin.elidedText(bar.how, Qt.TextElideMode.ElideRight, room)
        painter.drawText(QPointF(_MARGIN, middle + thin.height() - 2), how)

        thick = 12.0 if bar.whole else 8.0
        colours = {"faster": "leaf", "same": "blue", "slower": "amber"}
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        for time, colour, top in (
            (bar.dense, QColor(_dense_colour(theme)), middle - thick - 1.5),
            (bar.sparse, theme.colour(colours[bar.verdict]), middle + 1.5),
        ):
            painter.setBrush(colour)
            painter.drawRoundedRect(QRectF(left, top, max(2.0, time * scale), thick), 2, 2)
        painter.restore()
        self._paint_spread(painter, bar, left, scale, middle + 1.5 + thick / 2, theme)

        end = left + max(bar.dense, bar.slowest) * scale + 12
        painter.setFont(themes.font(12, QFont.Weight.DemiBold))
        painter.setPen(
            theme.colour({"faster": "leaf", "same": "text", "slower": "amber"}[bar.verdict])
        )
        words = f"{bar.speedup:.2f}×" if bar.verdict != "same" else "stays dense"
        painter.drawText(QPointF(end, middle - 2), words)
        painter.setFont(small)
        painter.setPen(theme.colour("dim"))
        painter.drawText(QPointF(end, middle + thin.height() - 2), _times(bar))

    def _paint_spread(
        self, painter: QPainter, bar: Bar, left: float, scale: float, y: float, theme: Theme
    ) -> None:
        """A whisker over the bar: how much the measurements of it differed."""
        if bar.spread <= 0:
            return
        b = left + bar.slowest * scale
        a = 2 * (left + bar.sparse * scale) - b
        if b - a < 3:
            return
        painter.setPen(QPen(theme.colour("text", 0.7), 1))
        painter.drawLine(QPointF(a, y), QPointF(b, y))


def _times(bar: Bar) -> str:
    path = "" if bar.ran == "dense" else f" · {bar.ran}"
    return f"{bar.dense:.3g} → {bar.sparse:.3g}{path}"


def _dense_colour(theme: Theme) -> str:
    return theme.mix(theme.dim, theme.bg, 0.55)


__all__ = ["Bar", "LatencyView", "bars"]
