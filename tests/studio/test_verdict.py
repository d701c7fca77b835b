"""The verdict's cards over a real engine."""

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel

from secateur.engine.patterns import PATTERNS
from secateur.studio.plan.plan_panel import PlanPanel


@pytest.fixture
def panel(opened, qtbot):
    made = PlanPanel(opened)
    qtbot.addWidget(made)
    made.resize(318, 900)
    made.show()
    return made


def test_energy_is_the_engine_s_and_follows_every_change(panel, opened, qtbot):
    path = max(opened.info.prunable, key=lambda layer: layer.params).path
    opened.select([path])
    QTest.mouseClick(panel._tiles.tile("group"), Qt.MouseButton.LeftButton)
    head = panel.findChild(QLabel, "energy_card_head")
    details = panel.findChild(QLabel, "energy_card_details")
    columns = opened.info.layer(path).gemm.shape[1]

    def kept():
        return f"{columns - round(columns * opened.preview_rule.sparsity):,} of {columns:,} input"

    qtbot.waitUntil(lambda: details.text().startswith(kept()), timeout=20_000)
    half = float(head.text().split()[1])
    assert 50 < half < 100, "the largest half of the columns holds most of the energy"
    # Many changes at once: the card ends at the last.
    for percent in range(51, 91):
        opened.set_sparsity_live([path], percent / 100)
    qtbot.waitUntil(lambda: details.text().startswith(kept()), timeout=20_000)
    assert float(head.text().split()[1]) < half


def test_the_tiles_get_the_engine_s_examples(panel, qtbot):
    tiles = [panel._tiles.tile(kind) for kind in PATTERNS.kinds()]
    qtbot.waitUntil(lambda: all(tile._mask is not None for tile in tiles), timeout=20_000)
    assert all(0 < tile._mask.mean() < 1 for tile in tiles)


def test_measure_beside_the_choice_fills_the_speed_card(panel, opened, qtbot):
    path = opened.info.prunable[1].path
    opened.select([path])
    QTest.mouseClick(panel._tiles.tile("group"), Qt.MouseButton.LeftButton)
    head = panel.findChild(QLabel, "speed_card_head")
    assert head.text() == "Not measured yet"
    button = panel._cards.speed.action
    assert button.isEnabled()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: head.text() != "Not measured yet", timeout=60_000)
    said = head.text().replace("\N{NO-BREAK SPACE}", " ").lower()
    assert "group at 50 %" in said
    qtbot.waitUntil(lambda: not opened.busy, timeout=60_000)
    assert button.text() == "Measure again"
    shown = []
    opened.measuring.pair_changed.connect(lambda: shown.append(opened.measuring.pair))
    QTest.mouseClick(panel._cards.pair, Qt.MouseButton.LeftButton)
    assert [(c["layer"], c["pattern"], c["kept"]) for c in shown] == [(path, "group", 0.5)]
