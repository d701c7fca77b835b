"""The run as a strip below the matrix: progress, curves, layers, log; never a dialog."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices, QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ...engine.plan import Plan
from ..look import theme
from ..look.icons import icon
from ..look.widgets import hairline, label, named, wrapped
from ..state.plan_edits import verb
from ..state.run_state import RunState
from ..state.session import Session
from ..state.verdict_words import factor
from .mask_plot import MaskPlot, in_words, own_number
from .run_log import RunLog
from .run_plots import Bar, CurvePlot, LayerBars, SegmentedProgress

_HEAD = 40
_PANES = 132
_UNBOUNDED = 16777215
_CURVE = 250
_WIDE = 1000
"""From this width on both curves stand side by side."""
_IDLE = {
    "Prune": "No run yet. Choose patterns, then press Prune (Ctrl+Return).",
    "Train": "No run yet. Press Train (Ctrl+Return), and watch the topology (Alt+5).",
}


def duration(seconds: float) -> str:
    """A time in words: ``1 min 12 s``."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    minutes, rest = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def status_words(run: RunState) -> str:
    """What stands beside the progress: ``epoch 3 of 8 · 1 min 12 s left``."""
    if run.state == "done":
        return "done"
    if run.state == "cancelled":
        return "cancelled; what was finished is kept"
    if run.state == "failed":
        # Python's own words are for the log and the notice's details.
        return "stopped by a fault in the engine" if run.detail else run.error or "failed"
    words = [run.text] if run.text else []
    if run.state == "paused":
        words.append("paused")
    elif run.seconds_left is not None:
        words.append(f"{duration(run.seconds_left)} left")
    return " · ".join(words)


class RunStrip(QWidget):
    """Shows `Session.run`; one quiet line while there is none."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("run_strip")
        self.setProperty("role", "panel")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self._session = session
        self._plan = Plan()
        self._was_active = False
        self._folded = False
        self._wants_masks = False
        self._make_head()
        self._make_panes()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addWidget(self._head)
        outer.addWidget(self._panes, 1)
        session.run_changed.connect(self._show)
        session.selection_changed.connect(self._show_layers)
        session.engine_changed.connect(self._show_buttons)
        session.busy_changed.connect(self._show_buttons)
        session.plan_changed.connect(self._plan_changed)
        session.model_changed.connect(self._show_opened)
        theme.follow(self, self._restyle)
        self._show()

    # Building

    def _make_head(self) -> None:
        self._head = QWidget()
        self._head.setFixedHeight(_HEAD)
        self._title = label(role="strong", name="run_title")
        self._progress = SegmentedProgress()
        self._words = label(role="dim", name="run_words")
        self._words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._words.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        row = QHBoxLayout(self._head)
        row.setContentsMargins(12, 0, 8, 0)
        row.setSpacing(10)
        row.addWidget(self._title)
        row.addWidget(self._progress, 1)
        row.addWidget(self._words)
        row.addStretch(0)
        self._buttons: dict[str, QPushButton] = {}
        for name, text, tip, act in (
            ("run_pause", "Pause", "Let the run wait; nothing is lost  Ctrl+.", self._pause),
            (
                "run_cancel",
                "Cancel",
                "Stop; what is finished stays  Ctrl+Shift+.",
                self._session.cancel,
            ),
            ("run_folder", "Open folder", "Show the project folder of this run", self._open_folder),
            ("run_report", "Report", "Open the report of this run", self._open_report),
            (
                "run_restart",
                "Restart engine",
                "Start a fresh engine; the plan stays  Ctrl+Shift+R",
                self._restart,
            ),
            (
                "run_resume",
                "Resume",
                "Go on from the checkpoint  Ctrl+Shift+Return",
                self._session.resume_run,
            ),
            (
                "run_again",
                "Run again",
                "Run the plan as it is now  Ctrl+Return",
                self._session.prune,
            ),
        ):
            button = named(QPushButton(text), name, text, tip)
            button.setProperty("role", "small")
            button.clicked.connect(act)
            self._buttons[name] = button
            row.addWidget(button)
        self._fold = named(QToolButton(), "run_fold", "Fold the run strip")
        self._fold.clicked.connect(self._toggle_fold)
        row.addWidget(self._fold)

    def _make_panes(self) -> None:
        self._panes = QWidget()
        self._curve, self._curve_value = CurvePlot(), label(role="dim", name="accuracy_value")
        self._bars, self._bars_value = LayerBars(), label(role="dim", name="layers_value")
        self._curve_title, self._bars_title = (
            label("Accuracy", "dim"),
            label("Sparsity per layer", "dim"),
        )
        self._log = RunLog()
        self._bars.picked.connect(lambda path: self._session.select((path,)))
        row = QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        self._to_masks = _link("Masks", "show_masks", "Sparsity and what changes in the masks")
        self._to_masks.clicked.connect(lambda: self._switch_curves(True))
        self._to_accuracy = _link("Accuracy", "show_accuracy", "Accuracy and loss")
        self._to_accuracy.clicked.connect(lambda: self._switch_curves(False))
        self._curve_pane = _pane(self._curve_title, self._curve_value, self._curve, self._to_masks)
        self._masks, self._masks_value = MaskPlot(), label(role="dim", name="masks_value")
        self._mask_pane = _pane(
            label("Masks", "dim"), self._masks_value, self._masks, self._to_accuracy
        )
        self._rules = []
        for pane in (self._curve_pane, self._mask_pane):
            pane.setFixedWidth(_CURVE)
            row.addWidget(pane)
            self._rules.append(_vline())
            row.addWidget(self._rules[-1])
        row.addWidget(_pane(self._bars_title, self._bars_value, self._bars), 3)
        row.addWidget(_vline())
        log = _pane(label("Log", "dim"), label(), self._log)
        log.setMinimumWidth(200)
        row.addWidget(log, 2)
        column = QVBoxLayout(self._panes)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(hairline())
        column.addLayout(row, 1)

    # Showing

    def _show_opened(self) -> None:
        self._plan = self._session.plan
        self._show()

    def _plan_changed(self) -> None:
        (self._show if self._session.run.state == "idle" else self._show_buttons)()

    def _show(self) -> None:
        run = self._session.run
        if run.active and not self._was_active:
            # The plan may be edited while the run goes on; the strip keeps the one that runs.
            self._plan = self._session.plan
            self._folded = False
        self._was_active = run.active
        idle = run.state == "idle"
        self._title.setText(_IDLE[verb(self._session.plan)] if idle else run.title)
        self._set_role(self._title, "dim" if idle else "strong")
        self._show_progress(run)
        self._show_buttons()
        self._show_folding()
        if not idle:
            self._show_curve(run)
            self._show_layers()
            self._log.show_log(run.log)

    def _show_progress(self, run: RunState) -> None:
        failed = run.state == "failed"
        self._progress.setVisible(run.state in ("running", "paused", "cancelled"))
        self._progress.show_fraction(run.fraction, "leaf" if run.state == "running" else "faint")
        words = "" if run.state == "idle" else status_words(run)
        self._words.setToolTip(wrapped(run.detail or words) if failed else "")
        if failed and len(words) > 110:
            words = words[:108].rstrip() + "…"
        self._words.setText(words)
        self._set_role(self._words, {"failed": "error", "done": "good"}.get(run.state, "dim"))
        layout = self._head.layout()
        assert isinstance(layout, QHBoxLayout)
        layout.setStretch(3, 0 if self._progress.isVisibleTo(self._head) else 1)

    def _show_buttons(self) -> None:
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
        paused = run.state == "paused"
        self._buttons["run_pause"].setText("Go on" if paused else "Pause")
        self._buttons["run_pause"].setAccessibleName("Go on" if paused else "Pause")
        why_not = session.why_not("prune")
        self._buttons["run_again"].setEnabled(not why_not)
        tip = why_not or "Run the plan as it is now  Ctrl+Return"
        self._buttons["run_again"].setToolTip(wrapped(tip))
        self._fold.setVisible(run.state != "idle")

    def _show_curve(self, run: RunState) -> None:
        self._arrange()
        accuracy = [(s, v["accuracy"]) for s, v in run.metrics if "accuracy" in v]
        loss = [(s, v["loss"]) for s, v in run.metrics if "loss" in v]
        dense = next((v["dense_accuracy"] for _, v in run.metrics if "dense_accuracy" in v), None)
        steps = [step for step, _ in run.metrics]
        training = run.total if run.text.startswith("epoch") else 0
        end = max([*steps, training, 1])
        reached = (self._session.report or {}).get("accuracy") or {}
        if run.state == "done" and not accuracy and reached.get("pruned") is not None:
            accuracy = [(end, float(reached["pruned"]))]
        empty = (
            "No data to measure accuracy on."
            if not run.active
            else "Waiting for the first figures."
        )
        self._curve.show_curves(accuracy, loss, dense, end, empty)
        words = [f"{accuracy[-1][1] * 100:.1f} %"] if accuracy else []
        words += [f"dense {dense * 100:.1f} %"] if dense is not None else []
        self._curve_value.setText(" · ".join(words))
        self._curve_title.setText("Accuracy, loss" if loss else "Accuracy")
        self._curve_value.setToolTip(f"loss {loss[-1][1]:.3g}" if loss else "")
        self._curve.show_metrics(run.metrics)
        self._masks.show_metrics(run.metrics, end, run.changes)
        name = own_number(run.metrics)
        last = run.metrics[-1][1] if run.metrics else {}
        words = [f"{last['sparsity'] * 100:.1f} %"] if "sparsity" in last else []
        words += [in_words(name, last[name])] if name in last else []
        self._masks_value.setText(" · ".join(words))

    def _arrange(self) -> None:
        """Both curves side by side where there is room, else one, with a link to the other."""
        run = self._session.run
        prune = run.kind == "prune"
        trains = prune and any("sparsity" in values for _, values in run.metrics)
        wide = self.width() >= _WIDE
        masks = trains and (wide or self._wants_masks)
        for pane, rule, shown in zip(
            (self._curve_pane, self._mask_pane),
            self._rules,
            (prune and (wide or not masks), masks),
            strict=True,
        ):
            pane.setVisible(shown)
            rule.setVisible(shown)
        self._to_masks.setVisible(trains and not wide)
        self._to_accuracy.setVisible(not wide)

    def _switch_curves(self, masks: bool) -> None:
        self._wants_masks = masks
        self._arrange()

    def _show_layers(self) -> None:
        run = self._session.run
        if run.state == "idle":
            return
        if run.kind == "measure":
            self._show_speeds()
            return
        self._bars_title.setText("Sparsity per layer")
        bars, now, asked = self._sparsities(run)
        self._bars.show_bars(bars, self._session.current, 1.0, "No layer is pruned yet.")
        words = f"{now * 100:.1f} % now, {asked * 100:.1f} % asked" if bars else ""
        self._bars_value.setText(words)

    def _sparsities(self, run: RunState) -> tuple[tuple[Bar, ...], float, float]:
        """The bars, and of all their weights together what is reached and what is asked."""
        info, reached = self._session.info, run.sparsity or {}
        sizes: dict[str, int] = {}
        wanted: dict[str, float] = {}
        for layer in info.prunable if info is not None else ():
            rule = self._plan.rule_for(layer.path)
            if (rule is not None and rule.sparsity > 0) or layer.path in reached:
                sizes[layer.path] = layer.params
                wanted[layer.path] = rule.sparsity if rule is not None else 0.0
        total = sum(sizes.values()) or 1
        now = sum(reached.get(path, 0.0) * size for path, size in sizes.items()) / total
        asked = sum(wanted[path] * size for path, size in sizes.items()) / total
        shared = self._requested(run)
        bars = []
        for path in sizes:
            # Another allocation than the uniform one decides layer by layer, known at the end.
            line = shared.get(
                path, wanted[path] if self._plan.allocation.kind == "uniform" else asked
            )
            value = reached.get(path, 0.0)
            tip = f"{path}: {value * 100:.1f} % now, {line * 100:.4g} % asked"
            bars.append(Bar(path, value, line, tip))
        return tuple(bars), now, asked

    def _requested(self, run: RunState) -> dict[str, float]:
        report = self._session.report if run.state == "done" else None
        return {row["path"]: float(row["requested"]) for row in (report or {}).get("layers", ())}

    def _show_speeds(self) -> None:
        self._bars_title.setText("Speed against dense, per layer")
        timed = [
            c for c in self._session.measuring.found.cells if c.get("layer") and c.get("speedup")
        ]
        cells = {cell["layer"]: cell for cell in timed}.values()  # the latest of each layer
        bars = tuple(
            Bar(
                cell["layer"],
                float(cell["speedup"]),
                1.0,
                f"{cell['layer']}: {cell['pattern']} at {100 * (1 - cell['kept']):.0f} % zeros "
                f"runs {factor(cell, 2)} dense",
            )
            for cell in cells
        )
        top = max((bar.value for bar in bars), default=1.0) * 1.1
        self._bars.show_bars(bars, self._session.current, max(top, 2.0), "Measuring…")
        faster = sum(bar.value > 1 for bar in bars)
        self._bars_value.setText(f"{faster} of {len(bars)} faster" if bars else "")

    def _show_folding(self) -> None:
        small = self._folded or self._session.run.state == "idle"
        self._panes.setVisible(not small)
        self.setMinimumHeight(_HEAD if small else _HEAD + _PANES)
        self.setMaximumHeight(_HEAD if small else _UNBOUNDED)
        self._restyle()

    def _restyle(self) -> None:
        name = "up" if self._folded else "down"
        self._fold.setIcon(icon(name, theme.theme_of(self), 14, theme.theme_of(self).dim))
        self._fold.setToolTip("Show the run's curves and log" if self._folded else "Fold away")

    def _set_role(self, label: QLabel, role: str) -> None:
        if label.property("role") != role:
            label.setProperty("role", role)
            theme.refresh(label)

    # Qt

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        if self._session.run.state != "idle":
            self._arrange()

    # Acting

    def _pause(self) -> None:
        if self._session.run.state == "paused":
            self._session.unpause()
        else:
            self._session.pause()

    def _restart(self) -> None:
        self._session.restart_engine()

    def _open_folder(self) -> None:
        if self._session.project is not None:
            _open(self._session.project)

    def _open_report(self) -> None:
        if self._session.project is not None:
            _open(self._session.project / "report.html")

    def _toggle_fold(self) -> None:
        self._folded = not self._folded
        self._show_folding()


def _open(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))


def _link(text: str, name: str, tip: str) -> QPushButton:
    button = named(QPushButton(text), name, text, tip)
    button.setProperty("role", "link")
    return button


def _pane(
    title: QLabel, value: QLabel, content: QWidget, link: QPushButton | None = None
) -> QWidget:
    pane = QWidget()
    head = QHBoxLayout()
    head.addWidget(title)
    if link is not None:
        head.addWidget(link)
    head.addStretch(1)
    head.addWidget(value)
    column = QVBoxLayout(pane)
    column.setContentsMargins(12, 8, 12, 8)
    column.setSpacing(4)
    column.addLayout(head)
    column.addWidget(content, 1)
    return pane


def _vline() -> QFrame:
    line = QFrame()
    line.setProperty("role", "vline")
    return line
