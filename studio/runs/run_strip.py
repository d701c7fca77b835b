"""The run as a strip below the matrix: progress, curves, layers, log; never a dialog."""

from __future__ import annotations

from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ...engine.plan import Plan
from ..look.widgets import hairline, label
from ..state.session import Session
from .layer_figures import LayerFigures
from .pane import Pane, vertical_line
from .run_curves import RunCurves
from .run_head import HEIGHT, RunHead
from .run_log import RunLog

_PANES = 132
_UNBOUNDED = 16777215
_WIDE = 1000
"""From this width on both curves stand side by side."""


class RunStrip(QWidget):
    """Shows `Session.run`; one quiet line while there is none."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("run_strip")
        self.setProperty("role", "panel")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self._session = session
        self._plan = Plan()
        self._was_active = self._folded = False
        self.head = RunHead(session)
        self.curves, self.layers, self._log = RunCurves(), LayerFigures(session), RunLog()
        self.panes = self._make_panes()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addWidget(self.head)
        outer.addWidget(self.panes, 1)
        self.head.fold_clicked.connect(self._toggle_fold)
        session.run_changed.connect(self._show)
        session.selection_changed.connect(self._show_layers)
        session.plan_changed.connect(self._plan_changed)
        session.model_changed.connect(self._show_opened)
        self._show()

    def _make_panes(self) -> QWidget:
        panes = QWidget()
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.curves)
        row.addWidget(self.layers, 3)
        row.addWidget(vertical_line())
        log = Pane(label("Log", "dim"), label(), self._log)
        log.setMinimumWidth(200)
        row.addWidget(log, 2)
        column = QVBoxLayout(panes)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(hairline())
        column.addLayout(row, 1)
        return panes

    def _show_opened(self) -> None:
        self._plan = self._session.plan
        self._show()

    def _plan_changed(self) -> None:
        idle = self._session.run.state == "idle"
        (self._show if idle else self.head.show_buttons)()

    def _show(self) -> None:
        run = self._session.run
        if run.active and not self._was_active:
            # The plan may be edited while the run goes on; the strip keeps the one that runs.
            self._plan = self._session.plan
            self._folded = False
        self._was_active = run.active
        self.head.show_run(run)
        self._show_folding()
        if run.state != "idle":
            accuracy = ((self._session.report or {}).get("accuracy") or {}).get("pruned")
            self.curves.show_run(run, None if accuracy is None else float(accuracy))
            self._show_layers()
            self._log.show_log(run.log)

    def _show_layers(self) -> None:
        if self._session.run.state != "idle":
            self.layers.show_run(self._session.run, self._plan)

    def _show_folding(self) -> None:
        small = self._folded or self._session.run.state == "idle"
        self.panes.setVisible(not small)
        self.setMinimumHeight(HEIGHT if small else HEIGHT + _PANES)
        self.setMaximumHeight(HEIGHT if small else _UNBOUNDED)
        self.head.show_folded(self._folded)

    def _toggle_fold(self) -> None:
        self._folded = not self._folded
        self._show_folding()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.curves.arrange(self.width() >= _WIDE)
