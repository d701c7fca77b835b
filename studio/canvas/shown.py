"""What of the session the canvas shows: the plan's preview of a layer, or the run's masks."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QObject, Signal

from ...engine.criteria import CRITERIA
from ...engine.info import LayerInfo
from ...engine.patterns import PATTERNS
from ...engine.plan import Rule
from ..state.plan_edits import context
from ..state.session import Session
from .tiles import rule_json


class Shown(QObject):
    """The current layer, and whether its mask is the plan's or the run's: the newer one.

    `changed` says that what is shown is another or has another mask.
    """

    changed = Signal()

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.source = "run" if session.report is not None else "plan"
        session.model_changed.connect(self._plan)
        session.plan_changed.connect(self._plan)
        session.selection_changed.connect(self.changed)
        session.masks_changed.connect(self._masks)
        session.engine_changed.connect(self._engine)
        self._was_ready = session.engine_state == "ready"
        self._masks_seen = 0

    @property
    def layer(self) -> LayerInfo | None:
        """The layer shown, None without one."""
        info, path = self._session.info, self._session.current
        if info is None or path is None:
            return None
        return next((layer for layer in info.layers if layer.path == path), None)

    @property
    def rule(self) -> Rule | None:
        """The plan's rule for the layer, None where it stays dense."""
        return self._session.preview_rule

    def question(self, source: str = "") -> dict[str, Any]:
        """What every question to the engine about the layer says; `source` instead of the own.

        `masks` counts the run's masks: while one question is under way, they may become others.
        """
        layer, source = self.layer, source or self.source
        assert layer is not None
        asked: dict[str, Any] = {"layer": layer.path, "source": source}
        if source == "run":
            asked |= {"rule": None, "masks": self._masks_seen}
        else:
            asked |= {"rule": self._rule_json()}
        return asked | context(self._session.plan)

    @property
    def has_masks(self) -> bool:
        """Whether a run has set masks, or is about to."""
        session = self._session
        running = session.run.active and session.run.kind == "prune"
        return running or session.report is not None

    @property
    def has_topology(self) -> bool:
        """Whether the engine has masks of a run: of the one under way, once it has set them."""
        run = self._session.run
        running = run.active and run.kind == "prune"
        return bool(run.sparsity) if running else self._session.report is not None

    def words(self, achieved: float) -> str:
        """Whose mask it is, and how much it prunes."""
        if self.source == "run":
            running = self._session.run.active and self._session.run.kind == "prune"
            name = "Masks of the run" if running else "Masks of the last run"
        elif self.rule is None or self.rule.sparsity == 0:
            return "Dense: the plan leaves this layer alone"
        else:
            name = "Preview of the plan"
        return f"{name} · {achieved * 100:.1f} % pruned"

    def _rule_json(self) -> dict[str, Any]:
        # No rule would mean the run's masks; dense is said as a rule that prunes nothing.
        dense = Rule("*", PATTERNS.parse("element"), CRITERIA.parse("magnitude"), 0.0)
        return rule_json(self.rule or dense)

    def _plan(self) -> None:
        self.source = "plan"
        self.changed.emit()

    def _masks(self) -> None:
        self._masks_seen += 1
        if self.has_masks:
            self.source = "run"
        self.changed.emit()

    def _engine(self) -> None:
        ready = self._session.engine_state == "ready"
        if ready and not self._was_ready:
            # A fresh engine has no masks but those of a project.
            self.source = "run" if self._session.report is not None else "plan"
            self.changed.emit()
        self._was_ready = ready
