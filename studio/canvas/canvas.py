"""The centre of the window: tabs over the selected layer, with the matrix as the hero."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QHBoxLayout,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from ..latency.tools import LatencyTools
from ..latency.view import LatencyView
from ..look.widgets import hairline
from ..state.plan_edits import from_scratch
from ..state.session import Session
from .colormaps import MAPS
from .histogram_view import HistogramView
from .looks import VIEWS
from .matrix_view import MatrixView
from .shown import Shown
from .tabs import ViewTabs
from .tools import WeightTools, histogram_tools
from .topology_view import TopologyView

TABS = ("Weights", "Mask", "Histogram", "Latency", "Topology")
_TIPS = (
    "The layer's weights; pruned ones are gone",
    "What the mask keeps",
    "How the weights are distributed",
    "What was measured: dense against sparse",
    "What the layer keeps, grows and drops, and which inputs it still sees",
)
_PAGES = (0, 0, 1, 2, 3)
"""Weights and Mask are one picture in two looks, so that the place stays the same."""
_DIRECT = Qt.FindChildOption.FindDirectChildrenOnly


class Canvas(QWidget):
    """The views of `TABS` over what the session shows."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("canvas")
        self._session, self._evolves = session, False
        self.shown = Shown(session, self)
        self.matrix = MatrixView(session, self.shown)
        self.histogram = HistogramView(session, self.shown)
        self.latency = LatencyView(session)
        self.topology = TopologyView(session, self.shown)
        self.tabs = ViewTabs(TABS, _TIPS)
        self._latency_tools = LatencyTools(session, self.latency)
        self._tools = QStackedWidget()
        self._tools.setObjectName("canvas_tools")
        for widget in (
            WeightTools(self.matrix),
            histogram_tools(self.histogram),
            self._latency_tools,
            QWidget(),
        ):
            self._tools.addWidget(widget)
        self._tools.setSizePolicy(self.sizePolicy().Policy.Maximum, self.sizePolicy().Policy.Fixed)
        self._pages = QStackedWidget()
        for page in (self.matrix, self.histogram, self.latency, self.topology):
            self._pages.addWidget(page)

        bar = QWidget()
        bar.setObjectName("canvas_bar")
        bar.setProperty("role", "panel")
        bar.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        row = QHBoxLayout(bar)
        row.setContentsMargins(10, 0, 12, 0)
        row.addWidget(self.tabs, 1, Qt.AlignmentFlag.AlignBottom)
        row.addWidget(self._tools)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(bar)
        column.addWidget(hairline())
        column.addWidget(self._pages, 1)
        self.tabs.currentChanged.connect(self._tab_changed)
        session.measuring.pair_changed.connect(lambda: self.show_tab("Latency"))
        session.run_changed.connect(self._run_changed)
        self._add_shortcuts()
        self._tab_changed(0)

    def fit(self) -> None:
        """Show the whole matrix."""
        topology = self._pages.currentWidget() is self.topology
        (self.topology if topology else self.matrix).fit()

    def ask_what_to_measure(self) -> None:
        """Show what was measured, and ask what is to be measured next."""
        self.show_tab("Latency")
        self._latency_tools.open_panel()

    def show_tab(self, name: str) -> None:
        """Bring a tab of `TABS` to the front."""
        self.tabs.setCurrentIndex(TABS.index(name))

    def _tab_changed(self, index: int) -> None:
        if index < 2:
            self.matrix.set_look(mode="mask" if index else "weights")
        self._pages.setCurrentIndex(_PAGES[index])
        self._tools.setCurrentIndex(_PAGES[index])
        # A stack is as wide as the widest page that it counts, shown or not.
        policy = self.sizePolicy().Policy
        for tools in self._tools.findChildren(QWidget, options=_DIRECT):
            shown = tools is self._tools.currentWidget()
            tools.setSizePolicy(policy.Preferred if shown else policy.Ignored, policy.Preferred)

    def _run_changed(self) -> None:
        """Bring the topology to the front when a training begins that lets it evolve."""
        run = self._session.run
        evolves = run.active and run.kind == "prune" and from_scratch(self._session.plan)
        if evolves and not self._evolves:
            self.show_tab("Topology")
        self._evolves = evolves

    def _add_shortcuts(self) -> None:
        for i in range(len(TABS)):
            keys = QShortcut(QKeySequence(f"Alt+{i + 1}"), self)
            keys.activated.connect(lambda i=i: self.tabs.setCurrentIndex(i))
        inside = Qt.ShortcutContext.WidgetWithChildrenShortcut
        for key, slot in (("V", self._next_view), ("M", self._flip_mask), ("C", self._next_map)):
            QShortcut(QKeySequence(key), self, context=inside).activated.connect(slot)

    def _next_view(self) -> None:
        names = list(VIEWS)
        view = names[(names.index(self.matrix.look.view) + 1) % len(names)]
        self.matrix.set_look(view=view)

    def _flip_mask(self) -> None:
        self.matrix.set_look(over=not self.matrix.look.over)

    def _next_map(self) -> None:
        colours = MAPS[(MAPS.index(self.matrix.look.colours) + 1) % len(MAPS)]
        self.matrix.set_look(colours=colours)
