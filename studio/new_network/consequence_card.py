"""What a sparsity leaves of the network, in a picture and in numbers."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QStackedWidget,
    QWidget,
)

from ...engine.new_network import NewNetwork
from ..look.theme import theme_of
from ..look.widgets import label, wrapped
from ..state.numbers import size
from .choice import Consequence
from .drawing import draw

_ROWS = (
    ("weights", "Weights", "Weights that are there, of those that a dense network has"),
    ("bytes", "In memory", "Bytes of the weights: with their places, and dense"),
    ("training", "While training", "Bytes of weights, gradients and momentum, and the same dense"),
    ("fewest", "Fewest inputs", "Inputs that each output of the thinnest layer begins with"),
)


class ConsequenceCard(QFrame):
    """Follows the choice live; empty where there is none."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("network_outcome")
        self.setProperty("role", "card")
        self._picture = _Picture()
        self._values: dict[str, QLabel] = {}
        self._problem = label(role="error", name="network_starved")
        self._problem.setWordWrap(True)
        numbers = QWidget()
        grid = QGridLayout(numbers)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(16)
        grid.setVerticalSpacing(4)
        for row, (name, words, tip) in enumerate(_ROWS):
            caption, value = label(words, "dim"), label(name=f"network_{name}")
            for part in (caption, value):
                part.setToolTip(wrapped(tip))
            grid.addWidget(caption, row, 0)
            grid.addWidget(value, row, 1)
            self._values[name] = value
        grid.setColumnStretch(1, 1)
        self._pages = QStackedWidget()
        self._pages.addWidget(numbers)
        self._pages.addWidget(self._problem)
        across = QHBoxLayout(self)
        across.setContentsMargins(16, 12, 16, 12)
        across.setSpacing(24)
        across.addWidget(self._picture)
        across.addWidget(self._pages, 1)

    def show_outcome(
        self, network: NewNetwork | None, left: Consequence | None, sparsity: float, problem: str
    ) -> None:
        """Show what is left of the network at `sparsity`, or the `problem` with that."""
        self._picture.show_network(network, 1 - sparsity)
        self._problem.setText(problem)
        self._pages.setCurrentIndex(1 if problem else 0)
        words = dict.fromkeys(self._values, "—")
        if left is not None:
            dense = " · the first layer stays dense" if left.first_dense else ""
            words = {
                "weights": f"{left.weights:,} of {left.dense:,}{dense}",
                "bytes": f"{size(left.bytes)} instead of {size(left.dense_bytes)}",
                "training": f"{size(left.training_bytes)} instead of "
                f"{size(left.dense_training_bytes)}",
                "fewest": f"{left.fewest:,} per output, in layer {left.where}",
            }
        for name, text in words.items():
            self._values[name].setText(text)


class _Picture(QWidget):
    """The network's layers to scale; fans between them are the paler the sparser."""

    def __init__(self) -> None:
        super().__init__()
        self._network: NewNetwork | None = None
        self._share = 1.0
        self.setFixedSize(QSize(220, 84))

    def show_network(self, network: NewNetwork | None, share: float) -> None:
        self._network, self._share = network, share
        self.setAccessibleName(network.name if network is not None else "no network")
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        if self._network is not None:
            box = QRectF(self.rect()).adjusted(4, 4, -4, -4)
            draw(painter, box, self._network, theme_of(self), self._share)
        painter.end()
