"""The strip's first line: which run, how far it is, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QSizePolicy, QToolButton, QWidget

from ..look import theme
from ..look.icons import icon
from ..look.widgets import label, named, wrapped
from ..state.plan_edits import verb
from ..state.run_state import RunState
from ..state.session import Session
from .run_plots import SegmentedProgress
from .words import status_words

HEIGHT = 40
_LONGEST = 110
# A button that is clicked often goes: the focus would then move to the next one.
_BY_KEYS = Qt.FocusPolicy.TabFocus
_IDLE = {
    "Prune": "No run yet. Choose patterns, then press Prune (Ctrl+Return).",
    "Train": "No run yet. Press Train (Ctrl+Return), and watch the topology.",
}
_AGAIN = "Run the plan as it is now  Ctrl+Return"


class RunHead(QWidget):
    """Shows `Session.run` in words; `fold_clicked` asks to fold what stands below, or not."""

    fold_clicked = Signal()

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session, self._folded = session, False
        self.setFixedHeight(HEIGHT)
        self._title = label(role="strong", name="run_title")
        self.progress = SegmentedProgress()
        self._words = label(role="dim", name="run_words")
        self._words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._words.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self._row = QHBoxLayout(self)
        self._row.setContentsMargins(12, 0, 8, 0)
        self._row.setSpacing(10)
        self._row.addWidget(self._title)
        self._row.addWidget(self.progress, 1)
        self._row.addWidget(self._words)
        self._row.addStretch(0)
        self._buttons = self._make_buttons()
        self.fold = named(QToolButton(), "run_fold", "Fold the run strip")
        self.fold.clicked.connect(self.fold_clicked)
        self.fold.setFocusPolicy(_BY_KEYS)
        self._row.addWidget(self.fold)
        session.engine_changed.connect(self.show_buttons)
        session.busy_changed.connect(self.show_buttons)
        theme.follow(self, self._restyle)

    def _make_buttons(self) -> dict[str, QPushButton]:
        session = self._session
        made = {}
        all_of_them: tuple[tuple[str, str, str, Callable[[], None]], ...] = (
            ("run_pause", "Pause", "Let the run wait; nothing is lost  Ctrl+.", self._pause),
            ("run_cancel", "Cancel", "Stop; what is finished stays  Ctrl+Shift+.", session.cancel),
            ("run_folder", "Open folder", "Show the project folder of this run",
             lambda: self._show_file("")),
            ("run_report", "Report", "Open the report of this run",
             lambda: self._show_file("report.html")),
            ("run_restart", "Restart engine",
             "Start a fresh engine; the plan stays  Ctrl+Shift+R", session.restart_engine),
            ("run_resume", "Resume", "Go on from the checkpoint  Ctrl+Shift+Return",
             session.resume_run),
            ("run_again", "Run again", _AGAIN, session.prune),
        )  # fmt: skip
        for name, text, tip, act in all_of_them:
            button = named(QPushButton(text), name, text, tip)
            button.setProperty("role", "small")
            button.clicked.connect(act)
            button.setFocusPolicy(_BY_KEYS)
            made[name] = button
            self._row.addWidget(button)
        return made

    def show_run(self, run: RunState) -> None:
        """Show the run and what can be done with it; one quiet line where there is none."""
        idle = run.state == "idle"
        self._title.setText(_IDLE[verb(self._session.plan)] if idle else run.title)
        _set_role(self._title, "dim" if idle else "strong")
        self._show_progress(run)
        self.show_buttons()

    def show_folded(self, folded: bool) -> None:
        """Let the arrow point to where the curves are."""
        self._folded = folded
        self._restyle()

    def show_buttons(self) -> None:
        """Show the buttons that do something now."""
        run, session = self._session.run, self._session
        over = run.state in ("done", "failed", "cancelled")
        prune = run.kind == "prune"
        done = run.state == "done" and prune and session.project is not None
        shown = {
            "run_pause": run.active,
            "run_cancel": run.active,
            "run_folder": done,
            "run_report": done,
            "run_restart": run.state == "failed" and session.engine_state in ("failed", "stopped"),
            "run_resume": over and session.can_resume,
            "run_again": over and prune,
        }
        for name, button in self._buttons.items():
            button.setVisible(shown[name])
        pause = "Go on" if run.state == "paused" else "Pause"
        self._buttons["run_pause"].setText(pause)
        self._buttons["run_pause"].setAccessibleName(pause)
        why_not = session.why_not("prune")
        self._buttons["run_again"].setEnabled(not why_not)
        self._buttons["run_again"].setToolTip(wrapped(why_not or _AGAIN))
        self.fold.setVisible(run.state != "idle")

    def _show_progress(self, run: RunState) -> None:
        failed = run.state == "failed"
        self.progress.setVisible(run.state in ("running", "paused", "cancelled"))
        self.progress.show_fraction(run.fraction, "leaf" if run.state == "running" else "faint")
        words = "" if run.state == "idle" else status_words(run)
        self._words.setToolTip(wrapped(run.detail or words) if failed else "")
        if failed and len(words) > _LONGEST:
            words = words[: _LONGEST - 2].rstrip() + "…"
        self._words.setText(words)
        _set_role(self._words, {"failed": "error", "done": "good"}.get(run.state, "dim"))
        stretch = self._row.indexOf(self._words) + 1
        self._row.setStretch(stretch, 0 if self.progress.isVisibleTo(self) else 1)

    def _restyle(self) -> None:
        look = theme.theme_of(self)
        self.fold.setIcon(icon("up" if self._folded else "down", look, 14, look.dim))
        self.fold.setToolTip("Show the run's curves and log" if self._folded else "Fold away")

    def _pause(self) -> None:
        paused = self._session.run.state == "paused"
        (self._session.unpause if paused else self._session.pause)()

    def _show_file(self, name: str) -> None:
        if self._session.project is not None:
            path: Path = self._session.project / name
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))


def _set_role(label: QLabel, role: str) -> None:
    if label.property("role") != role:
        label.setProperty("role", role)
        theme.refresh(label)
