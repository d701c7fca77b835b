"""Paints the rows of the layer tree: quiet text, a small density bar, figures in one column."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, QPointF, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from ..look import theme
from .layer_model import (
    DENSITY,
    DENSITY_ROLE,
    NAME,
    PARAMS,
    PATTERN,
    PLANNED_ROLE,
    PRUNABLE_ROLE,
    TYPE,
    VERDICT,
    VERDICT_ROLE,
)

ROW = 27


class LayerDelegate(QStyledItemDelegate):
    """One row of the tree, 27 pixels high."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._name = theme.font(13)
        self._small = theme.font(11)
        self._figures = theme.font(12)

    def sizeHint(self, option: QStyleOptionViewItem, index: Any) -> QSize:
        return QSize(40, ROW)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Any) -> None:
        colours = theme.current()
        prunable = index.siblingAtColumn(NAME).data(PRUNABLE_ROLE)
        rect = QRect(option.rect)
        state = option.state
        column = index.column()
        painter.save()
        if state & QStyle.StateFlag.State_Selected:
            painter.fillRect(rect, QColor(colours.mix(colours.leaf, colours.panel, 0.18)))
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(rect, QColor(colours.mix(colours.text, colours.panel, 0.06)))
        if column == DENSITY:
            self._bar(painter, colours, rect, index)
        else:
            quiet = column != NAME or not prunable
            ink = colours.dim if prunable is None or prunable else colours.faint
            painter.setPen(QColor(ink if quiet else colours.text))
            if column == VERDICT:
                painter.setPen(colours.colour(index.data(VERDICT_ROLE) or "faint"))
            painter.setFont(
                self._name if column == NAME else self._small if column == TYPE else self._figures
            )
            right = column in (PARAMS, VERDICT)
            align = Qt.AlignmentFlag.AlignRight if right else Qt.AlignmentFlag.AlignLeft
            left, end = {NAME: 4, PATTERN: 12}.get(column, 2), {PATTERN: 12, VERDICT: 12}
            space = rect.adjusted(left, 0, -end.get(column, 4), 0)
            elide = Qt.TextElideMode.ElideMiddle if column == NAME else Qt.TextElideMode.ElideRight
            text = painter.fontMetrics().elidedText(str(index.data() or ""), elide, space.width())
            painter.drawText(space, int(align | Qt.AlignmentFlag.AlignVCenter), text)
        painter.restore()

    def _bar(self, painter: QPainter, colours: theme.Theme, rect: QRect, index: Any) -> None:
        density = index.data(DENSITY_ROLE)
        if density is None or not index.data(PRUNABLE_ROLE):
            return
        planned = index.data(PLANNED_ROLE)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        bar = QRectF(rect.left() + 2, rect.center().y() - 2.5, rect.width() - 10, 6)
        painter.setBrush(QColor(colours.line))
        painter.drawRoundedRect(bar, 3, 3)
        painter.setBrush(QColor(colours.leaf))
        filled = QRectF(bar)
        # A layer with anything left shows at least a dot.
        filled.setWidth(max(bar.width() * density, 3.0 if density > 0 else 0.0))
        painter.drawRoundedRect(filled, 3, 3)
        if planned is not None and abs(planned - density) > 0.005:
            # Where the plan will bring it: the part that is to go is paler, with a mark.
            goes = QRectF(bar)
            goes.setLeft(bar.left() + bar.width() * min(planned, density))
            goes.setRight(bar.left() + bar.width() * max(planned, density))
            painter.setBrush(QColor(colours.mix(colours.leaf, colours.line, 0.35)))
            painter.drawRoundedRect(goes, 3, 3)
            x = bar.left() + bar.width() * planned
            painter.setPen(QColor(colours.amber))
            painter.drawLine(QPointF(x, bar.top() - 2), QPointF(x, bar.bottom() + 2))
