"""Where the time of each path goes: gather or im2col, select, multiply, reshape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetricsF, QHelpEvent, QPainter
from PySide6.QtWidgets import QToolTip, QWidget

from ..look import theme as themes
from ..look.theme import Theme
from ..state.cells import Cell, Setting, setting
from .plot import KEY, MARGIN, Plot, milliseconds, paint_key, words
from .rows import how

_ROW, _GROUP = 24.0, 30.0
_PALE = 0.5
STEPS = ("im2col", "gather", "select", "multiply", "reshape")
"""The steps in the order in which they run."""


@dataclass(frozen=True)
class Stack:
    """One path of one cell; `parts` are (step, ms). `group` is given where a new cell begins.

    `busy`: the machine was, so that the times are too long.
    """

    group: str
    path: str
    parts: tuple[tuple[str, float], ...]
    busy: bool = False

    @property
    def total(self) -> float:
        """All steps together, in milliseconds."""
        return sum(ms for _, ms in self.parts)

    @property
    def tip(self) -> str:
        """All steps with their times."""
        lines = [f"{name} {milliseconds(ms)} ms" for name, ms in self.parts]
        lines.append(f"together {milliseconds(self.total)} ms")
        if self.busy:
            lines.append("The machine was busy: the times are too long")
        return "\n".join([self.path, *lines])

    @property
    def words(self) -> str:
        """What stands behind its bar."""
        return f"{milliseconds(self.total)} ms" + (" · machine busy" if self.busy else "")


def stacks(cells: Sequence[Cell], layer: str | None, chosen: Setting | None) -> list[Stack]:
    """The steps that were timed of one layer, a stack for each path of each cell."""
    found = []
    mine = [c for c in cells if c["layer"] == layer and setting(c) == chosen and c.get("steps")]
    for cell in sorted(mine, key=lambda c: (c["pattern"], -c["kept"])):
        for number, one in enumerate(cell["steps"]):
            parts = tuple((str(part["name"]), float(part["ms"])) for part in one["parts"])
            group, busy = "" if number else how(cell), bool(one.get("disturbed"))
            found.append(Stack(group, str(one["path"]), parts, busy))
    return found


def step_colour(look: Theme, step: str) -> QColor:
    """The product itself in the accent, what is only needed around it in quieter colours."""
    names = {"im2col": "amber", "gather": "blue", "multiply": "leaf"}
    if step in names:
        return look.colour(names[step])
    over = {"select": look.blue, "reshape": look.dim}.get(step, look.faint)
    return QColor(look.mix(over, look.bg, 0.55))


class StepsChart(Plot):
    """A bar for each path, as long as its steps together."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("steps_plot", "Steps of each path", parent)
        self.stacks: list[Stack] = []
        self._title = ""

    def show_stacks(self, found: list[Stack], title: str) -> None:
        """Show stacks; `title` says of what."""
        self.stacks, self._title = found, title
        self.setMinimumHeight(self.sizeHint().height())
        self.setAccessibleDescription("; ".join(f"{s.path}: {s.total:.3g} ms" for s in found))
        self.update()

    def sizeHint(self) -> QSize:
        groups = sum(bool(stack.group) for stack in self.stacks)
        height = 2 * MARGIN + 2 * KEY + _GROUP * groups + _ROW * len(self.stacks)
        return QSize(320, round(height))

    def picture_size(self) -> QSize:
        """All stacks, also those that are scrolled away."""
        return QSize(max(self.width(), 560), self.sizeHint().height())

    def draw(self, painter: QPainter, size: QSize, look: Theme) -> None:
        if not self.stacks:
            return
        words(painter, QPointF(MARGIN, MARGIN), self._title, look.colour("text"), 13)
        used = {name for stack in self.stacks for name, _ in stack.parts}
        shown = [s for s in STEPS if s in used] + sorted(used - set(STEPS))
        key = [(step_colour(look, step), step) for step in shown]
        base = paint_key(painter, MARGIN, MARGIN + KEY, size.width() - 2 * MARGIN, key)
        metrics = QFontMetricsF(themes.font(12))
        longest = max(metrics.horizontalAdvance(stack.path) for stack in self.stacks)
        left = MARGIN + min(longest + 16, size.width() * 0.34)
        behind = max(metrics.horizontalAdvance(stack.words) for stack in self.stacks)
        room = max(24.0, size.width() - left - MARGIN - behind - 8)
        scale = room / (max(stack.total for stack in self.stacks) or 1.0)
        y = base + 8
        for stack in self.stacks:
            if stack.group:
                words(painter, QPointF(MARGIN, y + 20), stack.group, look.colour("dim"), 12)
                y += _GROUP
            self._draw_stack(painter, stack, QRectF(left, y, room, _ROW), scale, look)
            y += _ROW

    def _draw_stack(
        self, painter: QPainter, stack: Stack, box: QRectF, scale: float, look: Theme
    ) -> None:
        metrics = QFontMetricsF(themes.font(12))
        name = metrics.elidedText(stack.path, Qt.TextElideMode.ElideRight, box.left() - MARGIN - 12)
        base = box.center().y() + 4
        words(painter, QPointF(MARGIN, base), name, look.colour("text"), 12)
        x = box.left()
        for step, ms in stack.parts:
            wide = ms * scale
            colour = step_colour(look, step)
            colour.setAlphaF(_PALE if stack.busy else 1.0)
            painter.fillRect(QRectF(x, box.top() + 5, max(wide - 1, 0.5), _ROW - 10), colour)
            x += wide
        words(painter, QPointF(x + 8, base), stack.words, look.colour("dim"))

    def stack_at(self, y: float) -> Stack | None:
        """The stack at a height of the picture."""
        top = MARGIN + KEY + 8
        for stack in self.stacks:
            top += _ROW + (_GROUP if stack.group else 0)
            if y < top:
                return stack
        return None

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            stack = self.stack_at(event.pos().y())
            QToolTip.showText(event.globalPos(), stack.tip if stack else "", self)
            return True
        return super().event(event)
