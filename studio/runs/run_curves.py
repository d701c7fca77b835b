"""The curves of a run: accuracy and loss, and what the masks do."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QWidget

from ..look.widgets import label
from ..state.run_state import RunState
from .mask_plot import MaskPlot, in_words, own_number
from .pane import Pane, link, vertical_line
from .run_plots import CurvePlot

_WIDTH = 250


class RunCurves(QWidget):
    """Both panes side by side where there is room, else one, with a link to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.accuracy, self._accuracy_value = CurvePlot(), label(role="dim", name="accuracy_value")
        self.masks, self._masks_value = MaskPlot(), label(role="dim", name="masks_value")
        self._title = label("Accuracy", "dim")
        self._to_masks = link("Masks", "show_masks", "Sparsity and what changes in the masks")
        self._to_masks.clicked.connect(lambda: self._switch(True))
        self._to_accuracy = link("Accuracy", "show_accuracy", "Accuracy and loss")
        self._to_accuracy.clicked.connect(lambda: self._switch(False))
        self.panes = (
            Pane(self._title, self._accuracy_value, self.accuracy, self._to_masks),
            Pane(label("Masks", "dim"), self._masks_value, self.masks, self._to_accuracy),
        )
        self._lines = (vertical_line(), vertical_line())
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        for pane, line in zip(self.panes, self._lines, strict=True):
            pane.setFixedWidth(_WIDTH)
            row.addWidget(pane)
            row.addWidget(line)
        self._run, self._wide, self._wants_masks = RunState(), True, False

    def show_run(self, run: RunState, reached: float | None) -> None:
        """Show a run's numbers; `reached` is the accuracy of its report, once there is one."""
        self._run = run
        self.arrange(self._wide)
        accuracy = [(s, v["accuracy"]) for s, v in run.metrics if "accuracy" in v]
        loss = [(s, v["loss"]) for s, v in run.metrics if "loss" in v]
        dense = next((v["dense_accuracy"] for _, v in run.metrics if "dense_accuracy" in v), None)
        steps = [step for step, _ in run.metrics]
        training = run.total if run.text.startswith("epoch") else 0
        end = max([*steps, training, 1])
        if run.state == "done" and not accuracy and reached is not None:
            accuracy = [(end, reached)]
        none = "Waiting for the first figures." if run.active else "No data to measure accuracy on."
        self.accuracy.show_curves(accuracy, loss, dense, end, none)
        words = [f"{accuracy[-1][1] * 100:.1f} %"] if accuracy else []
        words += [f"dense {dense * 100:.1f} %"] if dense is not None else []
        self._accuracy_value.setText(" · ".join(words))
        self._accuracy_value.setToolTip(f"loss {loss[-1][1]:.3g}" if loss else "")
        self._title.setText("Accuracy, loss" if loss else "Accuracy")
        self.accuracy.show_metrics(run.metrics)
        self._show_masks(run, end)

    def _show_masks(self, run: RunState, end: int) -> None:
        self.masks.show_metrics(run.metrics, end, run.changes)
        name = own_number(run.metrics)
        last = run.metrics[-1][1] if run.metrics else {}
        words = [f"{last['sparsity'] * 100:.1f} %"] if "sparsity" in last else []
        words += [in_words(name, last[name])] if name in last else []
        self._masks_value.setText(" · ".join(words))

    def arrange(self, wide: bool) -> None:
        """Show what there is room for; `wide`: for both."""
        self._wide = wide
        prune = self._run.kind == "prune"
        trains = prune and any("sparsity" in values for _, values in self._run.metrics)
        masks = trains and (wide or self._wants_masks)
        shown = (prune and (wide or not masks), masks)
        for pane, line, visible in zip(self.panes, self._lines, shown, strict=True):
            pane.setVisible(visible)
            line.setVisible(visible)
        self._to_masks.setVisible(trains and not wide)
        self._to_accuracy.setVisible(not wide)

    def _switch(self, masks: bool) -> None:
        self._wants_masks = masks
        self.arrange(self._wide)
