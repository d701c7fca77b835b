"""What a choice means, beside the choice: measured speed, kept energy, and what else it touches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QPushButton, QVBoxLayout, QWidget

from ...engine.plan import Plan, Rule
from ...engine.verdicts import crossover, dense_level
from ..look.widgets import named, wrapped
from ..state.cells import Cell, nearness, pattern_word, setting
from ..state.plan_edits import context, from_scratch
from ..state.session import Session
from ..state.verdict_words import sentence
from .card import Card

_LISTED = 6
_LIVE_MS = 33


def rule_json(rule: Rule) -> dict[str, Any]:
    """A rule as a plan file and the engine's requests write it."""
    made: dict[str, Any] = Plan(rules=(rule,)).to_json()["rules"][0]
    return made


def percent(share: float, digits: int = 1) -> str:
    """A share of 0..1 as ``60.0 %``."""
    return f"{share * 100:.{digits}f} %"


def speed_words(rule: Rule, cells: list[Cell], timed: Sequence[Cell] = ()) -> tuple[str, str, str]:
    """(role, headline, details) of the measured cells of one layer and pattern.

    `timed` are all cells of the layer, of other patterns too: they know its dense time better.
    The headline is the engine's verdict on the cell nearest to the rule's sparsity. The role is
    ``good``, ``warn`` or, for nothing measured yet, ``strong``.
    """
    if not cells:
        return "strong", "Not measured yet", "Times this layer on this machine, dense and pruned."
    cell = min(cells, key=lambda c: abs(c["kept"] - 1 + rule.sparsity))
    details = f"dense {_ms(cell['dense_ms'])}"
    if cell["ran"] != "dense":
        details += f", {cell['ran']} {_ms(cell['ms'])}"
    alike = [c for c in cells if setting(c) == setting(cell) and not c.get("run")]
    others = [c for c in timed if c.get("ms") and setting(c) == setting(cell) and not c.get("run")]
    pays = crossover(alike, dense_level(others or alike)) if len(alike) > 1 else None
    if pays is not None:
        details += f" · pays from {percent(pays, 0)} on"
    role = "good" if cell["verdict"]["kind"] == "faster" else "warn"
    return role, sentence(cell).rstrip("."), details


def energy_words(rule: Rule, answer: dict[str, Any]) -> tuple[str, str]:
    """(headline, details) from the engine's answer on the preview of a rule's mask."""
    units, kept = int(answer["units"]), int(answer["kept_units"])
    name = str(answer["unit"]) + ("" if units == 1 else "s")
    details = f"{kept:,} of {units:,} {name} kept"
    achieved = answer.get("achieved")
    if achieved is not None and abs(float(achieved) - rule.sparsity) > 5e-4:
        details += f" · {percent(float(achieved))} zeros, {percent(rule.sparsity)} asked"
    return f"Keeps {percent(float(answer['energy']))} of the energy", details


_Question = tuple[str, Rule, dict[str, Any]]
"""A layer, its rule, and what else the plan says of previews."""


class VerdictCards(QWidget):
    """The cards for the current layer and the layers that are selected with it."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._asked: _Question | None = None
        self._answered: _Question | None = None
        self._measured: tuple[str, str] | None = None
        self.speed = Card("speed_card", "Measure")
        self.speed.action.setAccessibleName("Measure this layer")
        self.speed.action.clicked.connect(self._measure)
        self.pair = named(QPushButton("Show bars"), "speed_card_pair", "Show the measured pair",
                          "Both times side by side, in the Latency view")  # fmt: skip
        self.pair.clicked.connect(self._show_pair)
        self.speed.links_below(self.pair)
        self.energy = Card("energy_card")
        self.reach = Card("reach_card")
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(8)
        for card in (self.speed, self.energy, self.reach):
            box.addWidget(card)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(_LIVE_MS)
        self._later.timeout.connect(self._ask)
        session.plan_changed.connect(self.refresh)
        session.selection_changed.connect(self.refresh)
        session.run_changed.connect(self._show_speed)
        session.busy_changed.connect(self._show_speed)
        session.engine_changed.connect(self._ask_afresh)
        session.model_changed.connect(self._ask_afresh)
        # A question to a fresh engine may come before it has read the model again.
        session.masks_changed.connect(self._request)
        self.refresh()

    def refresh(self) -> None:
        """Show the verdict of the plan as it is now."""
        self._show_speed()
        self._show_reach()
        self._request()

    # Speed

    def _show_speed(self) -> None:
        path, rule = self._session.current, self._session.preview_rule
        if path is None or rule is None:
            return
        found = self._session.measuring.found
        cells, exact = found.of_rule(path, rule), self._exact(path, rule)
        role, headline, details = speed_words(rule, cells, found.of_layer(path))
        run = self._session.run
        ended = run.kind == "measure" and not run.active
        if exact is not None and exact.get("error"):
            role, headline, details = "error", "Could not be measured", sentence(exact)
        elif not cells and ended and self._measured == (path, pattern_word(rule)):
            headline = "Could not be measured"
            details = run.error if run.error and not run.detail else "The run's log says why."
        self.speed.say(headline, details, role)
        why_not = self._session.why_not("measure")
        self.speed.action.setVisible(True)
        self.speed.action.setEnabled(not why_not)
        self.speed.action.setToolTip(wrapped(why_not or "Time this layer now, dense and pruned"))
        self.speed.action.setText("Measure again" if exact else "Measure")
        self.pair.setVisible(bool(cells))

    def _show_pair(self) -> None:
        path, rule = self._session.current, self._session.preview_rule
        cells = self._session.measuring.found.of_rule(path, rule) if path and rule else []
        if cells and rule is not None:
            self._session.measuring.show_pair(
                min(cells, key=lambda c: abs(c["kept"] - 1 + rule.sparsity))
            )

    def _measure(self) -> None:
        path, rule = self._session.current, self._session.preview_rule
        if path is not None and rule is not None:
            self._measured = (path, pattern_word(rule))
            self._session.measure(
                layers=[path],
                patterns=[pattern_word(rule)],
                sparsities=[rule.sparsity],
                fresh=self._exact(path, rule) is not None,
            )

    def _exact(self, path: str, rule: Rule) -> Cell | None:
        """The measurement of this very choice, None where there is none."""
        near = nearness(self._layer(path))
        return self._session.measuring.found.verdict(path, rule, near)

    # Energy

    def _ask_afresh(self) -> None:
        self._answered = self._asked = None
        self._request()
        self._show_speed()

    def _request(self) -> None:
        asked = self._question()
        if asked is None or self._answered == asked:
            return
        path = asked[0]
        if self._answered is None or self._answered[0] != path:
            self.energy.say("Energy kept", "Waiting for the engine…")
        if not self._later.isActive():
            self._later.start()

    def _ask(self) -> None:
        """Ask about the latest choice; one question is under way at a time."""
        asked = self._question()
        if asked is None or self._asked is not None:
            return
        path, rule, plan = asked
        layer = self._layer(path)
        if layer is None or layer.gemm is None or self._session.engine_state != "ready":
            return
        self._asked = asked
        rows, columns = layer.gemm.shape
        params = {
            "layer": path,
            "view": "magnitude",
            "rect": [0, 0, rows, columns],
            "size": [1, 1],
            "rule": rule_json(rule),
            "source": "plan",
            **plan,
        }

        def answered(result: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
            self._asked = None
            if self._question() == asked:
                self._answered = asked
                self._show_energy(rule, result)
            else:
                self._ask()

        def refused(message: str) -> None:
            self._asked = None
            self.energy.say("Energy kept", message, "error")

        self._session.client.request("tile", params, answered, refused)

    def _question(self) -> _Question | None:
        path, rule = self._session.current, self._session.preview_rule
        if path is None or rule is None:
            return None
        return path, rule, context(self._session.plan)

    def _show_energy(self, rule: Rule, result: dict[str, Any]) -> None:
        if result.get("misfit"):
            self.energy.say("Does not fit", f"{self._session.current} {result['misfit']}", "warn")
        elif result.get("waits"):
            self.energy.say("No preview", f"{self._session.current} {result['waits']}", "warn")
        elif result.get("energy") is None:
            self.energy.say("Energy kept", "Unknown for this layer.")
        elif from_scratch(self._session.plan):
            head = f"{int(result['kept_units']):,} of {int(result['units']):,} weights"
            self.energy.say(head, "Drawn anew by chance at the start; they move while it learns.")
        else:
            self.energy.say(*energy_words(rule, result))

    # Reach

    def _show_reach(self) -> None:
        layers = [self._layer(path) for path in self._session.selection]
        prunable = [layer.path for layer in layers if layer is not None and layer.prunable]
        others = len(layers) - len(prunable)
        shared = sorted({s for layer in layers if layer is not None for s in layer.shares})
        lines = []
        if len(prunable) > 1:
            more = len(prunable) - _LISTED
            lines.append(", ".join(prunable[:_LISTED]) + (f" and {more} more" if more > 0 else ""))
        if shared:
            lines.append(f"Also changes {', '.join(shared[:_LISTED])}: the same weight.")
        if others:
            lines.append(
                f"{others} other selected layer{'s' if others > 1 else ''} can't be pruned."
            )
        count = len(prunable)
        head = (
            f"Changes apply to {count} selected layers"
            if count > 1
            else "Changes apply to this layer"
        )
        self.reach.say(head, "\n".join(lines), "warn" if count > 1 or shared else "strong")
        self.reach.setVisible(bool(lines))

    def _layer(self, path: str) -> Any:
        info = self._session.info
        try:
            return info.layer(path) if info is not None else None
        except KeyError:
            return None


def _ms(value: float) -> str:
    return f"{value:.3g} ms" if value < 100 else f"{value:.0f} ms"
