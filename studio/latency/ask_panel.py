"""What to measure: a panel below its button, with how many cells that makes and about how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from ...engine.patterns import PATTERNS
from ..look.dialogs import ask_save
from ..look.widgets import hairline, label, named, wrapped
from ..runs.words import duration
from ..state.cells import pattern_word
from ..state.session import Session
from ..state.wanted import CELL_SECONDS, Wanted
from .choices import Chips, Choice, Percents

_BATCHES = (1, 8, 32, 64, 128)
_DTYPES = ("float32", "bfloat16", "float16")
_OPTIONS = (
    ("steps", "Steps", "Time gather, select, multiply and reshape apart"),
    ("every", "Every form", "Time also the forms that are sure to lose"),
    ("fresh", "Fresh", "Measure again what was measured on this machine before"),
)
_CAPTION_TOP = 6
"""Brings a caption to the height of the words in the first line beside it."""
TABLES = "Latency tables (*.json)"


class AskPanel(QFrame):
    """Changes `Measuring.wanted`; Measure starts, and Make latency table saves what comes."""

    def __init__(self, session: Session, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup)
        self.setObjectName("ask_panel")
        self.setAccessibleName("What to measure")
        self._session, self._owner = session, parent
        self._of = Chips("ask_of", (
            ("run", "the last run", "The pruned model as it is, layer by layer and whole"),
            ("selected", "selected layers", "Only the layers that are selected in the tree"),
            ("all", "all layers", "Every layer that can be pruned, and the whole model"),
        ), one=True)  # fmt: skip
        self._patterns = Chips("ask_pattern", _pattern_choices(session), columns=5)
        self._sparsities = Percents("ask_sparsities", "Sparsities in percent",
                                    "Shares of the weights that go, commas between")  # fmt: skip
        self._batches = Chips("ask_batch", [(str(n), str(n), f"{n} samples in one pass")
                                            for n in _BATCHES])  # fmt: skip
        self._dtypes = Chips("ask_dtype", [(word, word, f"Weights and inputs in {word}")
                                           for word in _DTYPES])  # fmt: skip
        cuda = (session.client.hello or {}).get("device") == "cuda"
        devices = (("cpu", "CPU"), ("cuda", "CUDA")) if cuda else (("cpu", "CPU"),)
        self._devices = Chips("ask_device", [(w, t, f"On the {t}") for w, t in devices])
        self._options = {
            word: named(QCheckBox(text), f"ask_{word}", text, tip) for word, text, tip in _OPTIONS
        }
        self._count = label(role="dim", name="ask_count")
        self._count.setWordWrap(True)
        self._table = named(QPushButton("Make latency table…"), "ask_table", "Make latency table")
        self._go = named(QPushButton("Measure"), "ask_go", "Measure")
        self._go.setProperty("role", "go")
        self._lay_out()
        self._connect()
        self._show()

    def _lay_out(self) -> None:
        options = QWidget()
        line = QHBoxLayout(options)
        line.setContentsMargins(0, 2, 0, 0)
        line.setSpacing(16)
        for box in self._options.values():
            line.addWidget(box)
        line.addStretch()
        grid = QGridLayout()
        grid.setHorizontalSpacing(14)
        grid.setVerticalSpacing(10)
        rows = (("Layers", self._of), ("Patterns", self._patterns),
                ("Sparsities", self._sparsities), ("Batch", self._batches),
                ("Dtype", self._dtypes), ("Device", self._devices), ("Also", options))  # fmt: skip
        for number, (text, what) in enumerate(rows):
            caption = label(text, "dim")
            caption.setContentsMargins(0, _CAPTION_TOP, 0, 0)
            grid.addWidget(caption, number, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(what, number, 1)
        grid.setColumnStretch(1, 1)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self._table)
        buttons.addStretch()
        buttons.addWidget(self._go)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 14, 16, 14)
        column.setSpacing(12)
        column.addWidget(label("What to measure", "strong"))
        column.addLayout(grid)
        column.addWidget(hairline())
        column.addWidget(self._count)
        column.addLayout(buttons)

    def _connect(self) -> None:
        for chips in (self._of, self._patterns, self._batches, self._dtypes, self._devices):
            chips.changed.connect(self._changed)
        self._sparsities.textEdited.connect(lambda _: self._changed())
        for box in self._options.values():
            box.toggled.connect(lambda _: self._changed())
        self._go.clicked.connect(self._measure)
        self._table.clicked.connect(self._make_table)
        QShortcut(QKeySequence("Return"), self).activated.connect(self._go.click)
        for signal in (self._session.busy_changed, self._session.engine_changed):
            signal.connect(self._follow)

    def popup_below(self, button: QWidget) -> None:
        """Open under a button, as far as the screen reaches."""
        self.adjustSize()
        corner = button.mapToGlobal(QPoint(button.width() - self.width(), button.height() + 6))
        room = button.screen().availableGeometry()
        corner.setX(max(room.left() + 8, min(corner.x(), room.right() - self.width() - 8)))
        corner.setY(max(room.top() + 8, min(corner.y(), room.bottom() - self.height() - 8)))
        self.move(corner)
        self.show()

    # What is wanted

    def _show(self) -> None:
        """Show what the session wants now."""
        wanted, has_run = self._session.measuring.wanted, self._session.report is not None
        self._of.chip("run").setVisible(has_run)
        self._of.choose(["all" if wanted.of == "run" and not has_run else wanted.of])
        self._patterns.choose(wanted.patterns)
        self._sparsities.show_shares(wanted.sparsities)
        self._batches.choose([str(batch) for batch in wanted.batches])
        self._dtypes.choose(wanted.dtypes)
        self._devices.choose(wanted.devices)
        for word, box in self._options.items():
            box.blockSignals(True)
            box.setChecked(bool(getattr(wanted, word)))
            box.blockSignals(False)
        self._follow()

    def _changed(self) -> None:
        """Take over what is chosen; what would leave nothing to measure is not taken."""
        wanted = Wanted(
            of=self._of.chosen[0],
            patterns=self._patterns.chosen,
            sparsities=self._sparsities.shares or self._session.measuring.wanted.sparsities,
            batches=tuple(int(word) for word in self._batches.chosen) or (1,),
            dtypes=self._dtypes.chosen,
            devices=self._devices.chosen,
            steps=self._options["steps"].isChecked(),
            every=self._options["every"].isChecked(),
            fresh=self._options["fresh"].isChecked(),
        )
        self._session.measuring.want(wanted)
        self._sparsities.mark()
        self._follow()

    def _follow(self) -> None:
        wanted = self._session.measuring.wanted
        as_run = self._of.chosen[:1] == ("run",)
        for widget in (self._patterns, self._sparsities):
            widget.setEnabled(not as_run)
        reason = self._reason()
        cells = 0 if reason else self._cells(wanted)
        self._count.setText(reason or self._estimate(cells))
        busy = self._session.why_not("measure")
        for button, tip in (
            (self._go, "Start; bars appear as layers finish  Enter"),
            (self._table, "Measure all layers by these patterns and sparsities into a file"),
        ):
            button.setEnabled(not reason and not busy)
            button.setToolTip(wrapped(reason or busy or tip))
        if as_run:
            self._table.setEnabled(False)
            self._table.setToolTip(wrapped("A table is of all layers: choose that above"))

    def _reason(self) -> str:
        """Why nothing can be measured so, else empty."""
        if self._of.chosen[:1] == ("selected",) and not self._layers(
            self._session.measuring.wanted
        ):
            return "None of the selected layers can be pruned."
        if self._of.chosen[:1] == ("run",):
            return ""
        if not self._patterns.chosen:
            return "Choose at least one pattern."
        if self._sparsities.shares is None:
            return "Write sparsities from 0 to below 100, with commas between: 50, 75, 90."
        return ""

    def _layers(self, wanted: Wanted) -> list[str]:
        info = self._session.info
        paths = [layer.path for layer in info.prunable] if info is not None else []
        if wanted.of == "selected":
            return [path for path in paths if path in self._session.selection]
        return paths

    def _cells(self, wanted: Wanted) -> int:
        info, report = self._session.info, self._session.report
        chosen = set(self._layers(wanted))
        layers = [layer for layer in info.prunable if layer.path in chosen] if info else []
        whole = info is not None and len(layers) == len(info.prunable)
        pruned = len(report["layers"]) if report is not None else None
        return wanted.count(layers, whole, pruned)

    def _estimate(self, cells: int) -> str:
        each = self._session.measuring.found.seconds or CELL_SECONDS
        known = "" if self._session.measuring.wanted.fresh else "; what is known is read, not timed"
        count = f"{cells:,} measurement{'' if cells == 1 else 's'}"
        return f"{count}, about {duration(max(cells * each, 1))}{known}."

    # Starting

    def _measure(self) -> None:
        self.hide()
        self._session.measure()

    def _make_table(self) -> None:
        self.hide()
        name = self._session.info.name if self._session.info else "model"
        path = ask_save(self._owner, "Save the latency table",
                        Path(f"{name}-latency.json"), TABLES)  # fmt: skip
        if path:
            everything = replace(self._session.measuring.wanted, of="all")
            self._session.measure(**everything.params((), False), save=path)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._go.setFocus()


def _pattern_choices(session: Session) -> list[Choice]:
    """Every pattern that lies on a layer by itself, with the settings that the plan gives it."""
    words = [word for kind in PATTERNS.kinds() if not (made := PATTERNS.parse(kind)).whole
             and kind != "head" and isinstance(word := made.to_plan(), str)]  # fmt: skip
    words += [pattern_word(rule) for rule in session.rules_in_use()]
    return [(word, word, PATTERNS.parse(word).summary()) for word in dict.fromkeys(words)]
