"""The window as narrow as it goes: names of layers and the plan's controls are all there."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QFont, QFontMetrics
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QScrollArea, QStackedWidget, QToolButton

from secateur.studio.layers.layer_model import NAME
from secateur.studio.look import theme


def test_names_and_controls_are_not_cut(window, opened):
    window.resize(window.minimumSizeHint())
    tree = window.layers.tree
    for layer in opened.info.prunable[-1], opened.info.prunable[0]:
        opened.select([layer.path])
        QTest.qWait(50)
        name = tree.filter.mapFromSource(tree.layers.index_of(layer.path)).siblingAtColumn(NAME)
        assert tree.visualRect(name).width() >= 60
    (area,) = window.findChildren(QScrollArea, "plan_scroll")
    assert area.widget().width() <= area.viewport().width()


@pytest.mark.parametrize("width", [1130, 1280, 1366, 1400, 1440])
@pytest.mark.parametrize("tab", ["Weights", "Histogram", "Latency", "Topology"])
def test_names_of_views_are_whole_beside_chips_that_fold_to_icons(window, opened, width, tab):
    window.canvas.show_tab(tab)
    window.resize(width, 800)
    QTest.qWait(50)
    tabs, tools = window.canvas.tabs, window.canvas.findChild(QStackedWidget, "canvas_tools")
    bold = QFontMetrics(theme.font(13, QFont.Weight.DemiBold))
    for number in range(tabs.count()):
        assert tabs.tabRect(number).width() >= bold.horizontalAdvance(tabs.tabText(number)) + 16
    assert tabs.tabRect(tabs.count() - 1).right() <= tabs.width()
    chips = [chip for chip in tools.findChildren(QToolButton) if chip.isVisible()]
    assert len(chips) == {"Weights": 3, "Topology": 0}.get(tab, 2)
    for chip in chips:
        assert chip.width() >= chip.sizeHint().width()
        assert chip.geometry().right() <= tools.currentWidget().width()
    words = [c for c in chips if c.toolButtonStyle() == Qt.ToolButtonStyle.ToolButtonTextOnly]
    folded = width <= {"Weights": 1400, "Latency": 1280}.get(tab, 0)
    assert len(words) == (0 if folded else len(chips))
