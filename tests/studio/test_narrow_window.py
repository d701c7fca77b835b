"""The window as narrow as it goes: names of layers and the plan's controls are all there."""

from PySide6.QtTest import QTest
from PySide6.QtWidgets import QScrollArea

from secateur.studio.layers.layer_model import NAME


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
