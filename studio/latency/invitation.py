"""What stands in place of a picture that has nothing to show: words, and a button that measures."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ..look.widgets import label, named


@dataclass(frozen=True)
class Empty:
    """A headline, what to do, and the button that does it, if one does."""

    head: str
    text: str
    button: str = ""


def empty_of(mode: str, subject: str, lacking: str) -> Empty:
    """What to say in place of a picture of `subject`; `lacking`: why runs are not in Trade-off."""
    match mode:
        case "Steps":
            text = "Times gather or im2col, select, the product and reshape apart."
            return Empty(f"No steps of {subject} are measured yet", text, "Measure the steps")
        case "Sparsity":
            text = "Each pattern at several sparsities against dense, and from which on it pays."
            return Empty(f"No times of {subject} over sparsity yet", text, "Measure over sparsity")
        case "Batch":
            text = "Small batches and large ones can differ in what is faster."
            head = f"No times of {subject} over batch sizes yet"
            return Empty(head, text, "Measure over batch sizes")
        case "Trade-off":
            text = (
                "Every run of this model is a point here once it has an accuracy and a time: "
                "prune with data, then press Measure. A click on a point opens its run."
            )
            text += f"\n{lacking[:1].upper() + lacking[1:]}." if lacking else ""
            return Empty("No run with accuracy and time yet", text)
    text = (
        "Measuring times each layer, dense and with its pattern, on this machine. "
        "What is not faster stays dense."
    )
    return Empty("Nothing is measured yet", text, "Measure")


class Invitation(QWidget):
    """The words in the middle, and `button` below them."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "stage")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._head = label("", "strong", "latency_head")
        self._text = label("", "dim", "latency_hint")
        self._text.setWordWrap(True)
        self._text.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._text.setFixedWidth(400)
        self.button = named(QPushButton("Measure"), "latency_measure", "Measure latency")
        column = QVBoxLayout(self)
        column.setSpacing(8)
        column.addStretch()
        for widget in (self._head, self._text, self.button):
            column.addWidget(widget, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch()

    def say(self, empty: Empty, reason: str) -> None:
        """Show the words; `reason`: why nothing can be measured now, said in place of the text."""
        self._head.setText(empty.head)
        self._text.setText(f"{reason}." if reason and empty.button else empty.text)
        self.button.setText(empty.button)
        self.button.setVisible(bool(empty.button))
        # A layout asks a wrapped label that lies in its middle for one line only.
        self._text.setFixedHeight(max(self._text.heightForWidth(self._text.width()), 0))
