"""The tabs over the layer's views, whose names are never cut."""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QFont, QFontMetrics
from PySide6.QtWidgets import QTabBar, QWidget

from ..look import theme
from ..look.widgets import named


class ViewTabs(QTabBar):
    """A bar with a tab for each of `names`; `tips` end with their shortcuts, Alt and a digit."""

    def __init__(
        self, names: tuple[str, ...], tips: tuple[str, ...], parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        named(self, "canvas_tabs", "Views of the layer")
        self.setDrawBase(False)
        self.setExpanding(False)
        self.setUsesScrollButtons(False)
        self.setElideMode(Qt.TextElideMode.ElideNone)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        for number, (name, tip) in enumerate(zip(names, tips, strict=True)):
            self.addTab(name)
            self.setTabToolTip(number, f"{tip}  Alt+{number + 1}")

    def tabSizeHint(self, index: int) -> QSize:
        """Room for the name in the chosen tab's bold letters, so that nothing moves."""
        size = super().tabSizeHint(index)
        plain, bold = (
            QFontMetrics(theme.font(13, weight)).horizontalAdvance(self.tabText(index))
            for weight in (QFont.Weight.Normal, QFont.Weight.DemiBold)
        )
        return size + QSize(max(0, bold - plain), 0)

    def minimumTabSizeHint(self, index: int) -> QSize:
        return self.tabSizeHint(index)
