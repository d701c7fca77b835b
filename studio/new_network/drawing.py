"""A network as a small picture: a bar for each layer, as high as it is wide, between them fans."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QPainter, QPen, QPolygonF

from ...engine.new_network import NewNetwork, pooled
from ..look.theme import Theme

_LEAST = 3.0
_BAR = 5.0
_SHEETS = 3


def draw(
    painter: QPainter, box: QRectF, network: NewNetwork, theme: Theme, share: float = 1.0
) -> None:
    """Paint `network` into `box`, its widths to scale; `share` of its weights are there."""
    painter.save()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    sides = _sides(network)
    count = len(sides)
    step = (box.width() - _BAR) / max(1, count - 1)
    flat = [value for kind, value in sides if kind == "bar"]
    most = max(flat, default=1)
    places = []
    for number, (kind, value) in enumerate(sides):
        x = box.left() + number * step
        if kind == "bar":
            high = max(_LEAST, value / most * box.height())
            places.append(QRectF(x, box.center().y() - high / 2, _BAR, high))
        else:
            side = max(6.0, value * min(box.height() * 0.62, step * 0.62))
            places.append(QRectF(x, box.center().y() - side / 2, side, side))
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(theme.colour("leaf", 0.10 + 0.22 * share))
    for left, right in pairwise(places):
        painter.drawPolygon(
            QPolygonF([left.topRight(), right.topLeft(), right.bottomLeft(), left.bottomRight()])
        )
    for number, ((kind, _), place) in enumerate(zip(sides, places, strict=True)):
        ends = number in (0, count - 1)
        if kind == "bar":
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.colour("dim" if ends else "leaf"))
            painter.drawRoundedRect(place, 1.5, 1.5)
        else:
            _sheets(painter, place, theme, first=ends)
    painter.restore()


def _sheets(painter: QPainter, place: QRectF, theme: Theme, first: bool) -> None:
    """Feature maps, one behind the other; the image itself is one."""
    painter.setPen(QPen(theme.colour("raise_"), 1))
    painter.setBrush(theme.colour("dim" if first else "leaf"))
    for back in reversed(range(1 if first else _SHEETS)):
        shift = QPointF(back * 3.0, -back * 3.0)
        painter.drawRoundedRect(place.translated(shift), 1.5, 1.5)


def _sides(network: NewNetwork) -> list[tuple[str, float]]:
    """What stands for each layer, input first: a bar by its width, or sheets by their side 0..1."""
    if network.kind == "mlp":
        return [("bar", float(width)) for width in (*network.shape, *network.widths)]
    _, high, wide = network.shape
    found: list[tuple[str, float]] = [("sheet", 1.0)]
    first = max(high, wide)
    for _ in network.widths[:-1]:
        high, wide = pooled(high, wide)
        found.append(("sheet", max(high, wide) / first))
    read = network.widths[-2] if len(network.widths) > 1 else network.shape[0]
    return [*found, ("bar", float(read * prod(network.image))), ("bar", float(network.classes))]
