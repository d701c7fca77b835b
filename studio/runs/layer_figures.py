"""A figure for each layer of a run: how sparse it is, or how fast it was measured to be."""

from __future__ import annotations

from PySide6.QtWidgets import QVBoxLayout, QWidget

from ...engine.plan import Plan
from ..look.widgets import label
from ..state.run_state import RunState
from ..state.session import Session
from ..state.verdict_words import factor
from .pane import Pane
from .run_plots import Bar, LayerBars


class LayerFigures(QWidget):
    """Bars over the layers of `Session.run`; a click selects a layer."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self._session = session
        self.bars, self._value = LayerBars(), label(role="dim", name="layers_value")
        self._title = label("Sparsity per layer", "dim")
        self.bars.picked.connect(lambda path: session.select((path,)))
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(Pane(self._title, self._value, self.bars))

    def show_run(self, run: RunState, plan: Plan) -> None:
        """Show a run of `plan`, or a measurement."""
        if run.kind == "measure":
            self._show_speeds(run)
            return
        self._title.setText("Sparsity per layer")
        bars, now, asked = self._sparsities(run, plan)
        self.bars.show_bars(bars, self._session.current, 1.0, "No layer is pruned yet.")
        words = f"{now * 100:.1f} % now, {asked * 100:.1f} % asked" if bars else ""
        self._value.setText(words)

    def _sparsities(self, run: RunState, plan: Plan) -> tuple[tuple[Bar, ...], float, float]:
        """The bars, and of all their weights together what is reached and what is asked."""
        info, reached = self._session.info, run.sparsity or {}
        sizes: dict[str, int] = {}
        wanted: dict[str, float] = {}
        for layer in info.prunable if info is not None else ():
            rule = plan.rule_for(layer.path)
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
            line = shared.get(path, wanted[path] if plan.allocation.kind == "uniform" else asked)
            value = reached.get(path, 0.0)
            tip = f"{path}: {value * 100:.1f} % now, {line * 100:.4g} % asked"
            bars.append(Bar(path, value, line, tip))
        return tuple(bars), now, asked

    def _requested(self, run: RunState) -> dict[str, float]:
        report = self._session.report if run.state == "done" else None
        return {row["path"]: float(row["requested"]) for row in (report or {}).get("layers", ())}

    def _show_speeds(self, run: RunState) -> None:
        self._title.setText("Speed against dense, per layer")
        found = self._session.measuring.found.cells
        timed = [cell for cell in found if cell.get("layer") and cell.get("speedup")]
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
        none = "Measuring…" if run.active else "Nothing was measured."
        self.bars.show_bars(bars, self._session.current, max(top, 2.0), none)
        faster = sum(bar.value > 1 for bar in bars)
        self._value.setText(f"{faster} of {len(bars)} faster" if bars else "")
