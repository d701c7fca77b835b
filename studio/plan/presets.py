"""The menu of plans that come with Secateur."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from PySide6.QtWidgets import QMenu, QWidget

from ...engine.plan.presets import Preset, presets
from ..look.widgets import wrapped
from ..state.assigned import Assigned
from ..state.session import Session


class PresetsMenu(QMenu):
    """Lists presets whenever it is shown; choosing one is one undo step.

    `find` gives them. One that prunes no layer of the opened model is disabled and says so.
    """

    def __init__(
        self,
        session: Session,
        parent: QWidget | None = None,
        find: Callable[[], Iterable[Preset]] = presets,
    ) -> None:
        super().__init__("P&resets", parent)
        self.setObjectName("presets_menu")
        self.setToolTipsVisible(True)
        self._session, self._find = session, find
        self.aboutToShow.connect(self.refill)

    def refill(self) -> None:
        """List what there is now."""
        self.clear()
        for preset in self._find():
            action = self.addAction(f"{title(preset).replace('&', '&&')}\t{preset.name}")
            action.setObjectName(f"preset_{preset.name}")
            why_not = self._why_not(preset)
            action.setToolTip(wrapped(why_not or preset.summary))
            action.setEnabled(not why_not)
            action.triggered.connect(lambda _=False, preset=preset: self._apply(preset))

    def _why_not(self, preset: Preset) -> str:
        info = self._session.info
        if info is None:
            return "Open a model first"
        plan = preset.load()
        on_model = Assigned(plan, info)
        rules = (on_model.rule_for(layer.path) for layer in info.prunable)
        if plan.rules and not any(rule is not None and rule.sparsity > 0 for rule in rules):
            return f"{preset.summary} It fits no layer of this model."
        return ""

    def _apply(self, preset: Preset) -> None:
        self._session.open_plan(preset.path, f"preset {preset.name}")
        self._session.notice.emit(preset.summary, "info")


def title(preset: Preset) -> str:
    """What it is for, in a few words: its summary up to the colon, else its name."""
    return preset.summary.partition(":")[0].removesuffix(".") or preset.name
