"""The panel of the layer tree: heading, filter, tree, and the numbers below it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from PySide6.QtCore import QItemSelection, QItemSelectionModel, QModelIndex, QPoint, QSize, Qt
from PySide6.QtGui import QAction, QColor, QFontMetrics, QIcon, QPainter, QResizeEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QMenu,
    QStackedWidget,
    QToolButton,
    QTreeView,
    QVBoxLayout,
    QWidget,
)

from ..look import theme
from ..look.icons import icon
from ..look.widgets import named, wrapped
from ..state.cells import Cell
from ..state.numbers import numbers
from ..state.plan_edits import short
from ..state.session import Session
from .layer_delegate import LayerDelegate
from .layer_model import (
    DENSITY,
    NAME,
    PARAMS,
    PATH_ROLE,
    PATTERN,
    TYPE,
    VERDICT,
    LayerFilter,
    LayerModel,
)

_NO_PATTERN = 20
"""Width of the pattern column while the plan prunes nothing: names need the room more."""
_LONG = 0.888
# Names are whole up to this width, and where they lack room columns of figures go.
_LONGEST_NAME = 150
_NAME_MARGINS = 10
_WIDTHS = {TYPE: 42, DENSITY: 52, PARAMS: 46, PATTERN: 122, VERDICT: 56}


class LayerTree(QTreeView):
    """The tree itself: many layers can be selected, a click on a group selects what it holds."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("layer_tree")
        self.setAccessibleName("Layers")
        self._session = session
        self._following = False
        self.layers = LayerModel(session, self)
        self.filter = LayerFilter(self)
        self.filter.setSourceModel(self.layers)
        self.setModel(self.filter)
        self.setItemDelegate(LayerDelegate(self))
        self.setHeaderHidden(True)
        self.setUniformRowHeights(True)
        self.setIndentation(12)
        self.setMouseTracking(True)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setVerticalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        header = self.header()
        header.setStretchLastSection(False)
        header.setMinimumSectionSize(30)
        header.setSectionResizeMode(NAME, QHeaderView.ResizeMode.Stretch)
        for column, width in _WIDTHS.items():
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Fixed)
            self.setColumnWidth(column, width)
        self.selectionModel().selectionChanged.connect(self._selected)
        self.selectionModel().currentChanged.connect(self._selected)
        self.layers.figures_changed.connect(self.viewport().update)
        session.model_changed.connect(self._reload)
        session.plan_changed.connect(self.layers.refresh)
        session.plan_changed.connect(self._fit_columns)
        session.masks_changed.connect(self.layers.refresh)
        session.run_changed.connect(self._run_changed)
        session.selection_changed.connect(self.follow)
        session.marked_changed.connect(self.viewport().update)
        self.clicked.connect(self._clicked)
        self._run_state = ""
        self._cells: tuple[Cell, ...] = ()
        self._name_room = 0
        self._fit_columns()

    def follow(self) -> None:
        """Show the session's selection."""
        wanted = QItemSelection()
        for path in self._session.selection:
            index = self.filter.mapFromSource(self.layers.index_of(path))
            if index.isValid():
                wanted.select(index, index.siblingAtColumn(VERDICT))
        self._following = True
        model = self.selectionModel()
        flags = QItemSelectionModel.SelectionFlag
        if self._session.current is not None:
            current = self.filter.mapFromSource(self.layers.index_of(self._session.current))
            if current.isValid():
                model.setCurrentIndex(current, flags.NoUpdate)
                self.scrollTo(current)
        model.select(wanted, flags.ClearAndSelect)
        self._following = False

    def drawRow(self, painter: QPainter, options: Any, index: Any) -> None:
        if index.siblingAtColumn(NAME).data(PATH_ROLE) in self._session.marked:
            amber, panel = theme.current().amber, theme.current().panel
            painter.fillRect(options.rect, QColor(theme.current().mix(amber, panel, 0.14)))
        super().drawRow(painter, options, index)
        if self.selectionModel().isSelected(index):
            rect = options.rect
            painter.fillRect(0, rect.top(), 2, rect.height(), QColor(theme.current().leaf))

    def refilter(self, change: Callable[[], None]) -> None:
        """Change the filter; what is selected stays selected, shown or not."""
        self._following = True
        change()
        self.expandAll()
        self.follow()

    def selected_paths(self) -> tuple[str, ...]:
        """Paths of the selected layers, groups counted as what they hold, in table order."""
        paths: dict[str, None] = {}
        for index in self.selectionModel().selectedRows(NAME):
            for path in self._shown_below(index):
                paths[path] = None
        info = self._session.info
        order = {layer.path: n for n, layer in enumerate(info.layers)} if info else {}
        return tuple(sorted(paths, key=lambda path: order.get(path, 0)))

    def _shown_below(self, index: QModelIndex) -> list[str]:
        model = self.filter
        if not model.hasChildren(index):
            return [str(index.data(PATH_ROLE))]
        below = [model.index(row, NAME, index) for row in range(model.rowCount(index))]
        return [path for child in below for path in self._shown_below(child)]

    def _selected(self, *_: object) -> None:
        if self._following or self._session.info is None:
            return
        current = self.currentIndex().siblingAtColumn(NAME)
        path = str(current.data(PATH_ROLE)) if current.isValid() else None
        self._session.select(self.selected_paths(), path)

    def _reload(self) -> None:
        info = self._session.info
        self._following = True  # a reset clears the view's selection, not the session's
        self.filter.show_all(info is not None and not info.prunable)
        self.layers.reload()
        self._name_room = self._needed_by_names()
        self._fit_columns()
        self.expandAll()
        self.follow()

    def _needed_by_names(self) -> int:
        metrics, step = QFontMetrics(theme.font(13)), self.indentation()
        wide = [metrics.horizontalAdvance(name) + step * deep for name, deep in self.layers.names()]
        return min(max(wide, default=0) + _NAME_MARGINS, _LONGEST_NAME)

    def _fit_columns(self) -> None:
        # Wide enough for the patterns in use at any sparsity: a drag of the slider moves nothing.
        used = {short(replace(rule, sparsity=_LONG)) if rule.pattern.fixed_sparsity is None
                else short(rule) for rule in set(self._session.rules_in_use())}  # fmt: skip
        metrics = QFontMetrics(theme.font(12))
        widths = [metrics.horizontalAdvance(words) + 26 for words in used]
        self.setColumnWidth(PATTERN, min(max(widths, default=_NO_PATTERN), _WIDTHS[PATTERN]))
        self.setColumnHidden(VERDICT, not self._session.measuring.found.cells)
        needed = self._name_room + self.columnWidth(PATTERN) + self.columnWidth(VERDICT)
        for column in (DENSITY, PARAMS, TYPE):
            needed += _WIDTHS[column]
            self.setColumnHidden(column, needed > self.viewport().width())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit_columns()

    def _clicked(self, index: QModelIndex) -> None:
        """A click on a verdict shows the measured pair behind it."""
        if index.column() == VERDICT:
            cell = self.layers.verdict(str(index.siblingAtColumn(NAME).data(PATH_ROLE)))
            if cell is not None:
                self._session.measuring.show_pair(cell)

    def _run_changed(self) -> None:
        if self._session.measuring.found.cells is not self._cells:
            self._cells = self._session.measuring.found.cells
            self._fit_columns()
            self.viewport().update()
        if self._session.run.state != self._run_state:
            self._run_state = self._session.run.state
            self.layers.refresh()


class LayerHeading(QWidget):
    """The word LAYERS, how many are prunable, and the switch that shows the others too."""

    def __init__(self, session: Session, tree: LayerTree, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session, self._tree = session, tree
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 9, 2, 0)
        title = QLabel("LAYERS")
        title.setProperty("role", "heading")
        self._count = named(QToolButton(), "show_all_layers", "Show all layers")
        self._count.setCheckable(True)
        self._count.setProperty("role", "section")
        self._count.setToolTip("Show the layers that can't be pruned too, each with its reason")
        self._count.toggled.connect(self._toggled)
        row.addWidget(title)
        row.addStretch()
        row.addWidget(self._count)
        session.model_changed.connect(self.refresh)
        self.refresh()

    def sizeHint(self) -> QSize:
        return QSize(200, 40)  # a dock asks its title for this and for nothing else

    def minimumSizeHint(self) -> QSize:
        return QSize(120, 40)

    def refresh(self) -> None:
        """Show the counts of the session's model."""
        info = self._session.info
        self._count.setVisible(info is not None)
        if info is not None:
            self._count.setText(f"{len(info.prunable)} of {len(info.layers)} prunable")
            self._count.setChecked(not self._tree.filter.prunable_only)

    def _toggled(self, everything: bool) -> None:
        self._tree.refilter(lambda: self._tree.filter.show_all(everything))


class NumbersFoot(QFrame):
    """Zeros, file and time below the tree."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        grid = QGridLayout(self)
        grid.setContentsMargins(12, 9, 12, 9)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        self._values: list[QLabel] = []
        for row, number in enumerate(numbers(session)[:3]):
            name, value = QLabel(number.name), QLabel()
            name.setProperty("role", "dim")
            value.setFont(theme.font(12))
            value.setAlignment(Qt.AlignmentFlag.AlignRight)
            grid.addWidget(name, row, 0)
            grid.addWidget(value, row, 1)
            self._values.append(value)
        for signal in (session.model_changed, session.plan_changed, session.run_changed):
            signal.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the session's numbers."""
        for label, number in zip(self._values, numbers(self._session), strict=False):
            label.setText(number.value)
            label.setToolTip(wrapped(number.tip))
            if label.property("role") != number.role:
                label.setProperty("role", number.role)
                theme.refresh(label)


class LayerPanel(QWidget):
    """Everything at the left of the window."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("layer_panel")
        self._session = session
        self.tree = LayerTree(session)
        self.heading = LayerHeading(session, self.tree)
        self.filter = named(QLineEdit(), "layer_filter", "Filter layers")
        self.filter.setPlaceholderText("Filter by name, type, pattern…")
        self.filter.setToolTip("Show only layers that hold these words  Ctrl+F")
        self.filter.setProperty("role", "search")
        self._clear = self.filter.addAction(QIcon(), QLineEdit.ActionPosition.TrailingPosition)
        self._clear.setToolTip("Show all layers again")
        self._clear.setVisible(False)
        self._clear.triggered.connect(self.filter.clear)
        theme.follow(self, self._draw_icons)
        self.filter.textChanged.connect(self._filter)
        empty = QLabel("The layers of a model appear here.")
        empty.setProperty("role", "faint")
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._nothing = QLabel("No layer fits the filter.")
        self._nothing.setProperty("role", "faint")
        self._nothing.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._stack = QStackedWidget()
        for page in (empty, self.tree, self._nothing):
            self._stack.addWidget(page)
        field = QHBoxLayout()
        field.setContentsMargins(12, 2, 12, 8)
        field.addWidget(self.filter)
        line = QFrame()
        line.setProperty("role", "hairline")
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addLayout(field)
        box.addWidget(self._stack, 1)
        box.addWidget(line)
        box.addWidget(NumbersFoot(session))
        self.tree.customContextMenuRequested.connect(self._menu)
        session.model_changed.connect(self._model_changed)
        self.menu_actions: list[QAction] = []
        self._model_changed()

    def _model_changed(self) -> None:
        self.filter.setEnabled(self._session.info is not None)
        self.filter.clear()
        self._show_page()

    def _draw_icons(self) -> None:
        self._clear.setIcon(icon("close", theme.current(), 12, theme.current().dim))

    def _filter(self, text: str) -> None:
        self._clear.setVisible(bool(text))
        self.tree.refilter(lambda: self.tree.filter.set_text(text))
        self._show_page()

    def _show_page(self) -> None:
        if self._session.info is None:
            self._stack.setCurrentIndex(0)
        else:
            self._stack.setCurrentIndex(1 if self.tree.filter.rowCount() else 2)

    def _menu(self, place: QPoint) -> None:
        if self.menu_actions and self._session.selection:
            menu = QMenu(self)
            menu.addActions(self.menu_actions)
            menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(self.tree.viewport().mapToGlobal(place))
