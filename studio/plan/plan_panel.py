"""The plan of the selected layers: pattern, criterion, how much, when, and what it means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from ...engine.criteria import CRITERIA
from ...engine.info import LayerInfo
from ...engine.patterns import PATTERNS, Pattern
from ...engine.plan import Rule
from ..look.widgets import hairline, label, named
from ..state.plan_edits import default_rule
from ..state.plan_reasons import (
    allocation_note,
    criterion_reasons,
    fits,
    is_dense,
    pattern_reasons,
    rule_misfit,
)
from ..state.session import Session
from ..state.starting import starting
from .consequences import ConsequenceCard
from .model_section import ModelSection
from .pattern_tiles import PatternTiles
from .plan_sections import KindSection
from .setting_form import SettingForm
from .sparsity_row import SparsityRow
from .verdict import VerdictCards

_WIDTH = 318


class PlanPanel(QWidget):
    """Edits the rule of the selected layers and the plan as a whole; binds to the session only.

    `help_wanted` carries the guide's page that the person asks for.
    """

    help_wanted = Signal(str)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("plan_panel")
        self.setProperty("role", "panel")
        self.setMinimumWidth(_WIDTH - 12)
        self._session = session
        self._free_sparsity = 0.5
        self._last_rule = default_rule("")
        self._patterns: dict[str, Pattern] = {}
        self._examples = False
        self._make()
        self._lay_out()
        self._connect()
        self._show_all()

    def sizeHint(self) -> QSize:
        return QSize(_WIDTH, 760)

    # Building

    def _make(self) -> None:
        self._title = label(role="dim", name="plan_layer")
        self._title.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._empty = label(role="dim", name="plan_empty")
        self._empty.setWordWrap(True)
        self._tiles = PatternTiles()
        self._help = _button("About patterns", "pattern_help", "link")
        self._help.setToolTip("Open the guide: what goes, with a picture, and when it pays")
        self._pattern_form = SettingForm("pattern_form")
        self._dense = named(QFrame(), "dense_card", "Stays dense")
        self._dense.setProperty("role", "card")
        self._dense_words = label(role="dim")
        self._dense_words.setWordWrap(True)
        self._prune = _button("Prune this layer", "prune_layer", "go")
        self._criterion = KindSection("Criterion", "criterion", CRITERIA)
        self._sparsity = SparsityRow()
        self._model = ModelSection(self._session)
        self._cards = VerdictCards(self._session)
        self._also = ConsequenceCard(self._session)
        self._stay = _button("Stay dense", "stay_dense", "small")
        self._stay.setToolTip("Take the selected layers out of the plan  Ctrl+D")
        self._all = _button("Apply to all layers", "apply_to_all", "small")
        self._all.setToolTip("Give every prunable layer that the pattern fits this rule")

    def _lay_out(self) -> None:
        dense = QVBoxLayout(self._dense)
        dense.setContentsMargins(11, 9, 11, 11)
        dense.setSpacing(8)
        dense.addWidget(label("Stays dense", "strong"))
        dense.addWidget(self._dense_words)
        dense.addWidget(self._prune)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self._stay)
        buttons.addWidget(self._all, 1)
        head = QHBoxLayout()
        head.addWidget(label("Pattern", "dim"))
        head.addStretch(1)
        head.addWidget(self._help)
        self._layer_part = _stack(head, self._tiles, self._pattern_form, self._dense)
        self._rule_part = _stack(self._criterion, self._sparsity)
        # The verdict stands right below what it judges, above the settings of the whole model.
        self._verdict_part = _stack(self._cards, self._also, buttons)
        self._model_part = _stack(hairline(), self._model)
        body = named(QWidget(), "plan_body", "Plan")
        column = QVBoxLayout(body)
        column.setContentsMargins(14, 0, 14, 14)
        column.setSpacing(10)
        for part in (
            self._empty,
            self._layer_part,
            self._rule_part,
            self._verdict_part,
            self._model_part,
        ):
            column.addWidget(part)
        column.addStretch(1)
        self._area = area = named(QScrollArea(), "plan_scroll", "Plan")
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        area.setWidget(body)
        top = QHBoxLayout()
        top.setContentsMargins(14, 0, 14, 0)
        top.addWidget(label("PLAN", "heading"))
        top.addWidget(self._title, 1)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        outer.addSpacing(9)
        outer.addLayout(top)
        outer.addSpacing(11)
        outer.addWidget(area, 1)

    def _connect(self) -> None:
        self._tiles.chosen.connect(self._choose_pattern)
        self._pattern_form.edited.connect(self._set_pattern)
        self._criterion.edited.connect(lambda value: self._change(criterion=value))
        self._sparsity.live.connect(self._set_sparsity)
        self._sparsity.settled.connect(self._session.commit_sparsity)
        self._help.clicked.connect(self._ask_help)
        self._prune.clicked.connect(self._prune_layers)
        self._stay.clicked.connect(self._stay_dense)
        self._all.clicked.connect(self._apply_to_all)
        self._session.model_changed.connect(self._show_opened)
        self._session.selection_changed.connect(self._show_all)
        self._session.plan_changed.connect(self._show_all)
        self._session.engine_changed.connect(self._ask_examples)
        self._ask_examples()

    # Showing

    def _layers(self) -> list[LayerInfo]:
        """The selected layers that can be pruned, the current one first."""
        info = self._session.info
        known = {layer.path: layer for layer in info.layers} if info is not None else {}
        paths = sorted(self._session.selection, key=lambda path: path != self._session.current)
        found = [known[path] for path in paths if path in known and known[path].prunable]
        # Among others the layers that stay dense anyway don't say what the others can take.
        free = [layer for layer in found if layer.path not in self._session.assigned.ends]
        return free or found

    def _paths(self) -> tuple[str, ...]:
        return tuple(layer.path for layer in self._layers())

    def _rule(self) -> Rule | None:
        """The rule that is shown: the first selected prunable layer's."""
        layers = self._layers()
        return self._session.rule_for(layers[0].path) if layers else None

    def _show_opened(self) -> None:
        self._show_all()
        self._area.verticalScrollBar().setValue(0)

    def _show_all(self) -> None:
        layers, rule = self._layers(), self._rule()
        dense = is_dense(rule)
        self._show_title()
        self._show_empty(layers)
        self._layer_part.setVisible(bool(layers))
        self._rule_part.setVisible(bool(layers) and not dense)
        self._verdict_part.setVisible(bool(layers) and not dense)
        self._dense.setVisible(dense)
        self._pattern_form.setVisible(False)
        shown = None if rule is None or dense else rule.pattern
        self._tiles.set_reasons(self._tile_reasons(layers, None if dense else rule))
        self._tiles.set_current(shown.kind if shown is not None else None)
        self._help.setText(f"About {shown.label}" if shown is not None else "About patterns")
        if layers and rule is not None and not dense:
            self._show_rule(layers, rule)
        elif layers:
            self._show_dense(layers)
        self._also.show_for(layers)
        self._model.show_plan(rule)

    def _tile_reasons(self, layers: list[LayerInfo], rule: Rule | None) -> dict[str, str]:
        if layers and layers[0].path in self._session.assigned.ends:
            why = self._session.assigned.why_dense(layers[0].path)
            return dict.fromkeys(PATTERNS.kinds(), why)
        return pattern_reasons(layers, rule)

    def _show_title(self) -> None:
        info, path = self._session.info, self._session.current
        words = ""
        if info is not None and path is not None:
            gemm = next((la.gemm for la in info.layers if la.path == path), None)
            words = f"{path} · {gemm.shape[0]} × {gemm.shape[1]}" if gemm else path
        room = max(60, self._title.width() - 4)
        self._title.setText(
            self._title.fontMetrics().elidedText(words, Qt.TextElideMode.ElideMiddle, room)
        )
        self._title.setToolTip(words)

    def _show_empty(self, layers: list[LayerInfo]) -> None:
        info, path = self._session.info, self._session.current
        words = ""
        if info is None:
            words = "Open a model to plan how it is pruned."
        elif not layers and path is None:
            words = "Select a layer to plan how it is pruned."
        elif not layers:
            reason = next((la.reason for la in info.layers if la.path == path), None)
            words = f"{path} stays as it is. {_sentence(reason or 'It cannot be pruned.')}"
        self._empty.setText(words)
        self._empty.setVisible(bool(words))
        self._model_part.setVisible(info is not None)

    def _show_rule(self, layers: list[LayerInfo], rule: Rule) -> None:
        self._last_rule = rule
        self._patterns[rule.pattern.kind] = rule.pattern
        fixed = rule.pattern.fixed_sparsity
        if fixed is None:
            self._free_sparsity = rule.sparsity
        self._pattern_form.show_value(rule.pattern, rule.pattern.fields())
        self._criterion.show_setting(rule.criterion)
        info = self._session.info
        assert info is not None
        self._criterion.set_reasons(
            criterion_reasons(layers, rule.pattern, self._session.plan, info)
        )
        rules = [self._session.rule_for(layer.path) for layer in layers]
        asked = {found.sparsity if found is not None else 0.0 for found in rules}
        name = rule.pattern.label or rule.pattern.kind
        why = "" if fixed is None else f"{name} itself says how much goes: {fixed * 100:.4g} %."
        note = allocation_note(self._session.plan.allocation)
        self._sparsity.show_sparsity(rule.sparsity, len(asked) > 1, why, note)

    def _show_dense(self, layers: list[LayerInfo]) -> None:
        many = len(layers) > 1
        what = f"These {len(layers)} layers are" if many else "This layer is"
        why = self._session.assigned.why_dense(layers[0].path)
        self._dense_words.setText(
            why or f"{what} not in the plan and will not change. Choose a pattern above, or:"
        )
        self._prune.setVisible(layers[0].path not in self._session.assigned.ends)
        self._prune.setText(f"Prune these {len(layers)} layers" if many else "Prune this layer")
        word = self._last_rule.pattern.label or self._last_rule.pattern.kind
        self._prune.setToolTip(f"Start with {word} at {self._last_rule.sparsity * 100:.4g} %")

    def _ask_examples(self) -> None:
        if self._examples or self._session.engine_state != "ready":
            return

        def answered(result: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
            self._examples = True
            self._tiles.set_examples(arrays)

        self._session.client.request("examples", {}, answered)

    # Editing

    def _choose_pattern(self, kind: str) -> None:
        pattern = self._patterns.get(kind)
        layers = self._layers()
        if pattern is None or any(pattern.misfit(layer) for layer in layers):
            made = starting(PATTERNS.kinds()[kind])
            assert isinstance(made, Pattern)
            pattern = made
        self._set_pattern(pattern)

    def _set_pattern(self, pattern: Pattern) -> None:
        fixed = pattern.fixed_sparsity
        sparsity = self._free_sparsity if fixed is None else fixed
        self._change(pattern=pattern, sparsity=sparsity)

    def _change(self, **changes: Any) -> None:
        rule = self._rule()
        base = self._last_rule if rule is None or is_dense(rule) else rule
        made = replace(base, skip_misfits=False, **changes)
        if is_dense(rule) and not fits(self._layers(), made):
            # What scored the layer before may not suit this one: no reason to refuse the pattern.
            made = replace(made, criterion=default_rule("").criterion)
        self._session.set_rule(self._paths(), made)

    def _set_sparsity(self, sparsity: float) -> None:
        self._session.set_sparsity_live(self._paths(), sparsity)

    def _prune_layers(self) -> None:
        layers, rule = self._layers(), self._last_rule
        if not fits(layers, rule):
            rule = default_rule("")
        self._session.set_rule(self._paths(), rule)
        self._tiles.tile(rule.pattern.kind).setFocus()

    def _stay_dense(self) -> None:
        self._session.set_rule(self._paths(), None)

    def _apply_to_all(self) -> None:
        rule, info = self._rule(), self._session.info
        if rule is None or info is None:
            return
        count = sum(1 for layer in info.prunable if rule_misfit(layer, rule))
        every = replace(rule, layers="*", skip_misfits=count > 0)
        plan = replace(self._session.plan, rules=(every,))
        if count:
            self._session.notice.emit(
                f"{count} layer{'s stay' if count > 1 else ' stays'} dense: "
                f"{rule.pattern.label} does not fit {'them' if count > 1 else 'it'}.",
                "info",
            )
        self._session.set_plan(plan, f"set all prunable layers to {rule.pattern.label}")

    def _ask_help(self) -> None:
        kind = self._tiles.current
        self.help_wanted.emit(f"patterns/{kind}.md" if kind else "patterns.md")

    # Qt

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._show_title()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._show_title()


def _button(text: str, name: str, role: str) -> QPushButton:
    button = named(QPushButton(text), name, text)
    button.setProperty("role", role)
    return button


def _stack(*parts: QWidget | QHBoxLayout) -> QWidget:
    holder = QWidget()
    column = QVBoxLayout(holder)
    column.setContentsMargins(0, 0, 0, 0)
    column.setSpacing(8)
    for part in parts:
        if isinstance(part, QWidget):
            column.addWidget(part)
        else:
            column.addLayout(part)
    return holder


def _sentence(text: str) -> str:
    text = text[0].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."
