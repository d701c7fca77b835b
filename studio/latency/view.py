"""The Latency view: one of five pictures of what was measured, or an invitation to measure."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFrame, QScrollArea, QStackedWidget, QVBoxLayout, QWidget

from ..look.widgets import hairline, wrapped
from ..state.cells import Cell, Setting, key, pattern_word, setting
from ..state.kept_times import KnownRun, KnownRuns
from ..state.session import Session
from .bar import LatencyBar
from .invitation import Empty, Invitation, empty_of
from .layers_chart import LayersChart
from .lines_plot import LinesPlot
from .plot import Plot
from .rows import rows
from .series import over_batch, over_sparsity
from .steps_chart import StepsChart, stacks
from .tradeoff_plot import TradeOffPlot, missing, spots

SWEEP = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Sparsities of a curve over sparsity."""
BATCHES = (1, 8, 32, 64)
_SPARSITY = 0.5


class LatencyView(QWidget):
    """Layers, Steps, Sparsity, Batch, Trade-off; `bar` chooses among them."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("latency_view")
        self._session = session
        self._known = KnownRuns()
        self.chosen: Setting | None = None
        self.bar = LatencyBar()
        self.layers = LayersChart()
        self.steps = StepsChart()
        self.sparsity = LinesPlot("sparsity_plot", "Latency over sparsity")
        self.batch = LinesPlot("batch_plot", "Latency over batch size", batches=True)
        self.tradeoff = TradeOffPlot()
        self._scroll = _scrolled(self.layers, "latency_scroll")
        self._pages = {
            "Layers": self._scroll,
            "Steps": _scrolled(self.steps, "steps_scroll"),
            "Sparsity": self.sparsity,
            "Batch": self.batch,
            "Trade-off": self.tradeoff,
        }
        self._invitation = Invitation()
        self.button = self._invitation.button
        self._stack = QStackedWidget()
        for page in (*self._pages.values(), self._invitation):
            self._stack.addWidget(page)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.bar)
        column.addWidget(hairline())
        column.addWidget(self._stack, 1)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        session = self._session
        self.bar.mode_changed.connect(self.refresh)
        self.bar.whole_changed.connect(self.refresh)
        self.bar.setting_picked.connect(self._choose)
        self.bar.measure.clicked.connect(self.measure)
        self.button.clicked.connect(self.measure)
        self.layers.picked.connect(lambda path: session.select((path,)))
        for plot in (self.sparsity, self.batch):
            plot.pair_picked.connect(session.measuring.show_pair)
        self.tradeoff.run_picked.connect(lambda folder: session.open(str(folder)))
        for signal in (
            session.run_changed, session.busy_changed, session.engine_changed,
            session.model_changed, session.selection_changed,
        ):  # fmt: skip
            signal.connect(self.refresh)
        session.model_changed.connect(self._model_changed)
        session.measuring.pair_changed.connect(self._show_pair)

    # What is shown

    @property
    def mode(self) -> str:
        """One of the five pictures, by name."""
        return self.bar.mode

    @property
    def plot(self) -> Plot:
        """The picture that is chosen."""
        pictures: dict[str, Plot] = {
            "Layers": self.layers, "Steps": self.steps, "Sparsity": self.sparsity,
            "Batch": self.batch, "Trade-off": self.tradeoff,
        }  # fmt: skip
        return pictures[self.mode]

    @property
    def has_picture(self) -> bool:
        """Whether there is something to see."""
        return self._stack.currentWidget() is self._pages[self.mode]

    @property
    def setting(self) -> Setting | None:
        """The batch, dtype and device that are shown: the chosen ones, else the latest."""
        known = self._session.measuring.found.settings
        return self.chosen if self.chosen in known else known[-1] if known else None

    def refresh(self) -> None:
        """Show the session's cells in the chosen picture, once it can be seen."""
        if self.isVisible():
            self._show()

    def _show(self) -> None:
        found = self._session.measuring.found
        layered = self.mode in ("Steps", "Sparsity", "Batch")
        self.bar.show_state(found.settings, self.setting, self._can_be_whole())
        shown = {
            "Layers": self._show_layers, "Steps": self._show_steps,
            "Sparsity": self._show_sparsity, "Batch": self._show_batch,
            "Trade-off": self._show_tradeoff,
        }[self.mode]()  # fmt: skip
        self._stack.setCurrentWidget(self._pages[self.mode] if shown else self._invitation)
        reason = self._session.why_not("measure")
        if not reason and layered and self._subject() is None and not self._whole():
            reason = "Select a layer that can be pruned"
        empty = self._empty()
        words = empty.button or "Measure"
        self.bar.show_measure(words if layered and shown else "", reason)
        self.button.setEnabled(not reason)
        self.button.setToolTip(wrapped(reason or f"{words} on this machine  Ctrl+M"))
        if not shown:
            self._invitation.say(empty, reason)

    def _show_layers(self) -> bool:
        session = self._session
        order = [layer.path for layer in session.info.layers] if session.info else []
        found = rows(session.measuring.found.cells, order, self.setting)
        self.layers.show_rows(found, session.current)
        return bool(found)

    def _show_steps(self) -> bool:
        found = stacks(self._session.measuring.found.cells, self._subject(), self.setting)
        self.steps.show_stacks(found, f"{self._subject()}: where the time goes")
        return bool(found)

    def _show_sparsity(self) -> bool:
        cells = self._session.measuring.found.cells
        layer = None if self._whole() else self._subject()
        curves, crossings = over_sparsity(cells, layer, self.setting)
        self.sparsity.show_series(
            curves, crossings, f"{layer or 'Whole model'}: latency over sparsity"
        )
        return bool(curves)

    def _show_batch(self) -> bool:
        cells = self._session.measuring.found.cells
        layer = None if self._whole() else self._subject()
        curves = over_batch(cells, layer, self.setting)
        self.batch.show_series(curves, (), f"{layer or 'Whole model'}: latency over batch size")
        return bool(curves)

    def _show_tradeoff(self) -> bool:
        session = self._session
        runs = self._runs()
        found = spots(runs, self.setting)
        name = session.info.name if session.info else ""
        self.tradeoff.show_spots(
            found, session.project, f"{name}: accuracy against latency", missing(runs, self.setting)
        )
        return bool(found)

    def _empty(self) -> Empty:
        subject = "the whole model" if self._whole() else self._subject() or "this layer"
        lacking = missing(self._runs(), self.setting) if self.mode == "Trade-off" else ""
        return empty_of(self.mode, subject, lacking)

    def _runs(self) -> list[KnownRun]:
        return self._known.of(self._session.address, self._session.run_folders())

    # What is measured

    def measure(self) -> None:
        """Measure what the chosen picture shows."""
        self._session.measure(**self._asked())

    def _asked(self) -> dict[str, Any]:
        layers = None if self._whole() else [self._subject()]
        rule = self._session.rule_for(self._subject() or "")
        wanted = self._session.measuring.wanted.patterns
        own = (pattern_word(rule),) if rule is not None and rule.sparsity > 0 else ()
        patterns = list(dict.fromkeys((*own, *wanted)))
        match self.mode:
            case "Steps":
                return {"layers": layers, "patterns": patterns[:1], "sparsities": list(SWEEP),
                        "steps": True, "fresh": True}  # fmt: skip
            case "Sparsity":
                return {"layers": layers, "patterns": patterns, "sparsities": list(SWEEP)}
            case "Batch":
                sparsity = rule.sparsity if rule is not None and own else _SPARSITY
                return {"layers": layers, "patterns": patterns[:1], "sparsities": [sparsity],
                        "batches": list(BATCHES)}  # fmt: skip
        return {}

    def _subject(self) -> str | None:
        """The layer that the pictures of one layer are of: the current one, if it has a matrix."""
        session = self._session
        paths = {layer.path for layer in session.info.prunable} if session.info else set()
        return session.current if session.current in paths else None

    def _whole(self) -> bool:
        return self.bar.whole and self._can_be_whole()

    def _can_be_whole(self) -> bool:
        return self.mode in ("Sparsity", "Batch")

    # Following

    def _choose(self, chosen: Setting) -> None:
        self.chosen = chosen
        self.refresh()

    def _model_changed(self) -> None:
        self.chosen = None
        self.layers.opened.clear()

    def _show_pair(self) -> None:
        """Open the row of the cell that somebody asked to see, and bring it into sight."""
        cell: Cell | None = self._session.measuring.pair
        if cell is None:
            return
        self.chosen = setting(cell)
        self.bar.set_mode("Layers")
        self._show()
        place = self.layers.open_row(key(cell))
        # The rows get their height once the layout has heard of it.
        QTimer.singleShot(0, self, lambda: self._scroll.ensureVisible(
            0, round(place.center().y()), 0, round(place.height() / 2) + 8))  # fmt: skip

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.refresh()


def _scrolled(widget: QWidget, name: str) -> QScrollArea:
    scroll = QScrollArea()
    scroll.setObjectName(name)
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    scroll.setWidget(widget)
    return scroll
