"""The Topology tab: the layer's kept, grown and dropped weights, and the inputs that it sees."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from ..look.widgets import label, wrapped
from ..state.session import Session
from .input_counts import InputCounts
from .shown import Shown
from .tiles import Asker
from .topology_matrix import TopologyMatrix

_SIDE = 248
_FIGURES = (
    ("kept", "Kept", "Weights that the layer has now"),
    ("grown", "Grown", "Weights that came at the last evolution step"),
    ("dropped", "Dropped", "Weights that went at the last evolution step"),
    ("unread", "Inputs unread", "Inputs that no output reads any more"),
    ("dead", "Dead outputs", "Outputs that have no weight left"),
    ("evolution", "Evolution", "How often the topology has changed, and at which step last"),
)


class TopologyView(QWidget):
    """Follows the run's masks live: each change asks for the newest picture, the latest wins."""

    def __init__(self, session: Session, shown: Shown, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("topology_view")
        self.setProperty("role", "stage")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._shown = shown
        self.matrix = TopologyMatrix(session, shown)
        self.inputs = InputCounts()
        self._asker = Asker(session.client, "topology", self)
        self._asker.answered.connect(self._arrived)
        self._figures: dict[str, QLabel] = {}
        self._layer = ""
        self.side = self._make_side()
        self._asker.failed.connect(self.side.hide)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.matrix, 1)
        row.addWidget(self.side)
        shown.changed.connect(self.refresh)
        self.refresh()

    def fit(self) -> None:
        """Show the whole matrix."""
        self.matrix.fit()

    def refresh(self) -> None:
        """Ask for the counts as they are now; later, if nobody looks."""
        layer = self._shown.layer
        path = layer.path if layer is not None and layer.gemm is not None else ""
        there = bool(path) and self._shown.has_topology
        self.side.setVisible(there)
        if path != self._layer:
            self._layer = path
            for value in self._figures.values():
                value.clear()
        if self.isVisible() and there:
            self._asker.ask(self._shown.question("run"))

    def figure(self, name: str) -> str:
        """What stands beside the matrix under a name of `_FIGURES`."""
        return self._figures[name].text()

    def _make_side(self) -> QWidget:
        side = QFrame()
        side.setProperty("role", "panel")
        side.setFixedWidth(_SIDE)
        self._title = label("Inputs this layer still sees", "heading", "topology_title")
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(6)
        for row, (name, words, tip) in enumerate(_FIGURES):
            caption, value = label(words, "dim"), label(name=f"topology_{name}")
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
            for part in (caption, value):
                part.setToolTip(wrapped(tip))
            grid.addWidget(caption, row, 0)
            grid.addWidget(value, row, 1)
            self._figures[name] = value
        box = QVBoxLayout(side)
        box.setContentsMargins(16, 14, 16, 14)
        box.setSpacing(10)
        box.addWidget(self._title)
        box.addWidget(self.inputs)
        box.addSpacing(6)
        box.addLayout(grid)
        box.addStretch(1)
        return side

    def _arrived(self, asked: dict[str, Any], meta: dict[str, Any], arrays: Any) -> None:
        if asked["layer"] != self._layer or not self._shown.has_topology:
            return
        counts, out = arrays["inputs"], int(meta["out"])
        image = meta["image"]
        self.inputs.show_counts(counts, tuple(image) if image else None, out)
        share = meta["kept"] / max(1, out * int(meta["in"])) * 100
        times = int(meta["evolution"])
        words = {
            "kept": f"{meta['kept']:,} · {share:.3g} %",
            "grown": f"{meta['grown']:,}",
            "dropped": f"{meta['dropped']:,}",
            "unread": f"{int((counts == 0).sum()):,} of {len(counts):,}",
            "dead": f"{meta['dead_outputs']:,} of {out:,}",
            "evolution": f"{times:,} · step {meta['step']:,}" if times else "none",
        }
        for name, text in words.items():
            self._figures[name].setText(text)
        self.side.show()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.refresh()
