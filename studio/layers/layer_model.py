"""The layer table as a Qt tree model, and its filter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PySide6.QtCore import (
    QAbstractItemModel,
    QModelIndex,
    QObject,
    QSortFilterProxyModel,
    Qt,
    Signal,
)

from ...engine.info import LayerInfo
from ..look.widgets import wrapped
from ..state.cells import Cell, nearness
from ..state.numbers import count
from ..state.plan_edits import short
from ..state.session import Session
from ..state.verdict_words import role as verdict_role
from ..state.verdict_words import sentence, word
from .layer_groups import Node, group

NAME, TYPE, DENSITY, PARAMS, PATTERN, VERDICT = range(6)
HEADERS = ("Name", "Type", "Density", "Params", "Pattern", "Verdict")

PATH_ROLE = Qt.ItemDataRole.UserRole
DENSITY_ROLE = Qt.ItemDataRole.UserRole + 1
PLANNED_ROLE = Qt.ItemDataRole.UserRole + 2
PRUNABLE_ROLE = Qt.ItemDataRole.UserRole + 3
VERDICT_ROLE = Qt.ItemDataRole.UserRole + 4

_ROOT = QModelIndex()
_SHORT_KINDS = {"MultiheadAttention": "attn"}


class LayerModel(QAbstractItemModel):
    """Groups by module path, layers below; reads everything from the session when asked."""

    figures_changed = Signal()

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._nodes: list[Node] = []
        self._rows: list[int] = []
        self._parents: list[int] = []
        self._by_path: dict[str, int] = {}
        self._ids: dict[int, int] = {}
        self._achieved: dict[str, float] = {}
        self.reload()

    def reload(self) -> None:
        """Take the layers of the session's model."""
        self.beginResetModel()
        self._nodes, self._rows, self._parents = [], [], []
        self._by_path, self._ids = {}, {}
        info = self._session.info
        if info is not None:
            self._add(group([layer.path for layer in info.layers]), -1, 0)
        self._read_run()
        self.endResetModel()

    def refresh(self) -> None:
        """Take new figures from the plan and the run; the view repaints what it shows."""
        # `dataChanged` would make the filter ask about each of a few thousand rows again while a
        # slider moves.
        self._read_run()
        self.figures_changed.emit()

    def index_of(self, path: str) -> QModelIndex:
        """The index of the layer at `path`, invalid for an unknown one."""
        number = self._by_path.get(path)
        return QModelIndex() if number is None else self._index(number, NAME)

    def names(self) -> Iterator[tuple[str, int]]:
        """The name of each prunable layer as it is shown, and on which level, 1 at the top."""
        info = self._session.info
        for path in [layer.path for layer in info.prunable] if info is not None else []:
            number, level = self._by_path[path], 0
            label = self._nodes[number].label
            while number > 0:
                number, level = self._parents[number], level + 1
            yield label, level

    def paths_below(self, index: QModelIndex) -> list[str]:
        """Paths of the layer at `index`, or of all layers of the group there."""
        info = self._session.info
        if info is None or not index.isValid():
            return []
        return [info.layers[number].path for number in self._node(index).layers()]

    def _read_run(self) -> None:
        session = self._session
        self._achieved = {}
        stopped = session.run.state in ("failed", "cancelled") and not session.masks_lost
        if session.run.active or stopped:
            self._achieved = dict(session.run.sparsity or {})
        elif session.report is not None:
            self._achieved = {row["path"]: row["achieved"] for row in session.report["layers"]}

    def _add(self, node: Node, parent: int, row: int) -> None:
        number = len(self._nodes)
        self._ids[id(node)] = number
        self._nodes.append(node)
        self._rows.append(row)
        self._parents.append(parent)
        if node.layer is not None:
            self._by_path[node.path] = number
        for place, child in enumerate(node.children):
            self._add(child, number, place)

    def _id(self, node: Node) -> int:
        return self._ids[id(node)]

    def _index(self, number: int, column: int) -> QModelIndex:
        return self.createIndex(self._rows[number], column, number)

    def _node(self, index: QModelIndex) -> Node:
        return self._nodes[index.internalId()]

    def _layer(self, node: Node) -> LayerInfo | None:
        info = self._session.info
        return info.layers[node.layer] if info is not None and node.layer is not None else None

    # Qt's model interface

    def index(self, row: int, column: int, parent: Any = _ROOT) -> QModelIndex:
        if not self._nodes:
            return QModelIndex()
        node = self._node(parent) if parent.isValid() else self._nodes[0]
        if not (0 <= row < len(node.children) and 0 <= column < len(HEADERS)):
            return QModelIndex()
        return self._index(self._id(node.children[row]), column)

    def parent(self, index: Any = _ROOT) -> Any:
        if not index.isValid():
            return QModelIndex()
        above = self._parents[index.internalId()]
        return self._index(above, 0) if above > 0 else QModelIndex()

    def rowCount(self, parent: Any = _ROOT) -> int:
        if not self._nodes or parent.column() > 0:
            return 0
        return len((self._node(parent) if parent.isValid() else self._nodes[0]).children)

    def columnCount(self, parent: Any = _ROOT) -> int:
        return len(HEADERS)

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return HEADERS[section]
        return None

    def flags(self, index: Any) -> Qt.ItemFlag:
        if not index.isValid():
            return Qt.ItemFlag.NoItemFlags
        return Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable

    def data(self, index: Any, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid():
            return None
        node = self._node(index)
        layer = self._layer(node)
        if layer is None:
            if role == Qt.ItemDataRole.DisplayRole and index.column() == NAME:
                return node.label
            return node.path if role == PATH_ROLE else None
        if role == Qt.ItemDataRole.DisplayRole:
            return self._text(node, layer, index.column())
        if role == Qt.ItemDataRole.ToolTipRole:
            return wrapped(self._verdict_tip(layer) if index.column() == VERDICT else _tip(layer))
        if role == Qt.ItemDataRole.AccessibleTextRole and index.column() == DENSITY:
            density = self._density(layer)
            return "" if density is None else f"{density * 100:.1f} % kept"
        if role == PATH_ROLE:
            return layer.path
        if role == VERDICT_ROLE:
            return verdict_role(self.verdict(layer.path))
        if role == PRUNABLE_ROLE:
            return layer.prunable
        if role == DENSITY_ROLE:
            return self._density(layer)
        if role == PLANNED_ROLE:
            rule = self._session.rule_for(layer.path)
            return 1 - rule.sparsity if rule is not None and layer.prunable else None
        return None

    def _text(self, node: Node, layer: LayerInfo, column: int) -> str:
        if column == NAME:
            return node.label
        if column == TYPE:
            return kind(layer)
        if column == PARAMS:
            return count(layer.params) if layer.params else ""
        if column == PATTERN and layer.prunable:
            return short(self._session.rule_for(layer.path))
        if column == VERDICT and layer.prunable:
            return word(self.verdict(layer.path))
        return ""

    def verdict(self, path: str) -> Cell | None:
        """The measured cell that says whether a layer is faster as the plan has it."""
        info, rule = self._session.info, self._session.rule_for(path)
        layer = info.layer(path) if info is not None else None
        return self._session.measuring.found.verdict(path, rule, nearness(layer))

    def _verdict_tip(self, layer: LayerInfo) -> str:
        cell = self.verdict(layer.path)
        if cell is None:
            return "Not measured as the plan has it"
        return f"{sentence(cell)}\nClick to see the measured pair"

    def _density(self, layer: LayerInfo) -> float | None:
        achieved = self._achieved.get(layer.path)
        if achieved is not None:
            return 1 - achieved
        return layer.density if layer.density is not None else (1.0 if layer.prunable else None)


class LayerFilter(QSortFilterProxyModel):
    """Shows layers whose path, type or pattern holds every word of `text`."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._words: tuple[str, ...] = ()
        self.prunable_only = True
        self.setRecursiveFilteringEnabled(True)

    def set_text(self, text: str) -> None:
        """Filter by the words of `text`; empty shows all."""
        words = tuple(text.lower().split())
        if words != self._words:
            self._words = words
            self.invalidate()

    def show_all(self, everything: bool) -> None:
        """Show layers that can't be pruned too."""
        if self.prunable_only == everything:
            self.prunable_only = not everything
            self.invalidate()

    def filterAcceptsRow(self, row: int, parent: Any) -> bool:
        model = self.sourceModel()
        index = model.index(row, 0, parent)
        prunable = index.data(PRUNABLE_ROLE)
        if prunable is None:  # a group shows where a layer below it does
            return False
        if self.prunable_only and not prunable:
            return False
        if not self._words:
            return True
        texts = [index.data(PATH_ROLE)]
        texts += [index.siblingAtColumn(column).data() or "" for column in (TYPE, PATTERN)]
        text = " ".join(texts).lower()
        return all(word in text for word in self._words)


def kind(layer: LayerInfo) -> str:
    """A layer's type in one short word: ``3×3`` for a convolution, else its kind."""
    if layer.gemm is not None and layer.gemm.kernel:
        return "×".join(str(n) for n in layer.gemm.kernel)
    return _SHORT_KINDS.get(layer.kind, layer.kind)


def _tip(layer: LayerInfo) -> str:
    shape = " × ".join(str(n) for n in layer.shape)
    lines = [layer.path, f"{layer.kind} · {shape} · {layer.dtype} · {layer.params:,} parameters"]
    if layer.gemm is not None:
        lines.append("matrix {} × {} (out × in)".format(*layer.gemm.shape))
    if layer.shares:
        lines.append("shares its weight with " + ", ".join(layer.shares))
    if layer.reason:
        lines.append(f"Not prunable: {layer.reason}")
    return "\n".join(lines)
