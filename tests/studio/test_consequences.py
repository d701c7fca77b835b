"""What goes along with a removal: in words, on the card, and in the tree."""

import sys
from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton

from secateur.engine.gemm import Gemm
from secateur.engine.info import LayerInfo, ModelInfo
from secateur.engine.patterns import PATTERNS
from secateur.studio.layers.layer_panel import LayerPanel
from secateur.studio.look import theme
from secateur.studio.plan.consequences import consequences, words
from secateur.studio.plan.plan_panel import PlanPanel
from secateur.studio.state.client import EngineClient
from secateur.studio.state.session import Session


def matrix(path, head=0, **traced):
    gemm = Gemm((64, 64), head=head)
    return LayerInfo(path, "Linear", f"{path}.weight", (64, 64), 4096, "float32", gemm,
                     prunable=True, **traced)  # fmt: skip


NORM = LayerInfo("norm", "LayerNorm", "norm.weight", (64,), 64, "float32", reason="a norm")
INFO = ModelInfo(
    "sample:tests", "tests",
    (
        matrix("first", also=("norm", "second", "third", "fourth", "fifth")), NORM,
        *(matrix(path) for path in ("second", "third", "fourth", "fifth")),
        matrix("query", also=("key", "out")), matrix("key", also=("query", "out")),
        matrix("value", also=("out", "other")), matrix("out", head=16), matrix("other"),
        matrix("up", also=("down",)),
        matrix("down", branch=True, fixed="the residual sum needs them"),
        matrix("end", fixed="the model's output"),
        # A residual block: `inner` is read by `outer` alone, and reads `stem` + `outer`.
        matrix("stem", also=("outer", "inner", "after")), matrix("inner", also=("outer",)),
        matrix("outer", also=("stem", "inner", "after")), matrix("after"),
    ),
    params=60_000, bytes=240_000,
)  # fmt: skip


def said(kind, *paths, everything=False):
    found = consequences([INFO.layer(path) for path in paths], PATTERNS.parse(kind), INFO)
    return None if found is None else words(found, everything)


def test_removed_outputs_name_what_shrinks_along():
    assert said("filter", "first") == (
        "Also shrinks 5 layers",
        "norm, second, third and 2 more",
    )
    assert said("filter", "first", everything=True)[1] == "norm, second, third, fourth, fifth"
    # What is selected itself is no news.
    assert said("filter", "first", "second", "third")[1] == "norm, fourth, fifth"
    assert said("filter", "other") is None


def test_outputs_that_cannot_go_say_why():
    assert said("row", "end") == ("Stays in the file as zeros", "The model's output.")
    head, details = said("row", "up", "end")
    assert head == "Also shrinks 1 layer"
    assert details == "down\nElsewhere zeros stay in the file:\nend: The model's output."


def test_outputs_that_are_added_to_others_go_only_together():
    head, details = said("filter", "query")
    assert head == "Tied to other layers"
    assert said("filter", "stem")[1].startswith("Outputs go only where outer can spare")
    assert said("filter", "inner") == ("Also shrinks 1 layer", "outer")
    assert details.startswith("Outputs go only where key can spare the same ones")


def test_a_trace_s_reason_is_told_in_plain_words():
    reason = "aten.native_layer_norm at blocks.0.norm1 takes the mean over all its channels"
    found = consequences([matrix("x", fixed=reason)], PATTERNS.parse("row"), INFO)
    assert words(found)[1] == "Layer norm at blocks.0.norm1 takes the mean over all its channels."


def test_patterns_that_remove_nothing_whole_have_no_consequences():
    for kind in ("element", "nm:2:4", "block"):
        assert said(kind, "first") is None
        assert said(kind, "end") is None


def test_heads_take_along_what_makes_them_but_not_what_others_read():
    # `value` is read by `other` as well.
    assert said("head", "out") == ("Also shrinks 2 layers", "query, key")
    assert said("column", "out")[1] == "query, key"


def test_a_layer_that_goes_frees_the_branch_before_it():
    assert said("layer", "down") == ("Also shrinks 1 layer", "up")


@pytest.fixture
def session(qtbot, tmp_path):
    theme.apply(QApplication.instance(), "dark")
    made = Session(EngineClient([sys.executable, "-c", ""]), home=tmp_path)
    made.opening.opened.emit({"info": INFO.to_json(), "project": None}, None)
    yield made
    made.close()


@pytest.fixture
def panel(session, qtbot):
    made = PlanPanel(session)
    qtbot.addWidget(made)
    made.resize(318, 1200)
    made.show()
    return made


def click(panel, name):
    kinds = panel._tiles.tile(name) if name in PATTERNS.kinds() else None
    button = kinds or panel.findChild(QPushButton, name)
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def test_the_card_follows_pattern_and_selection(panel, session):
    session.select(["first"])
    card = panel._also
    assert not card.isVisible()
    click(panel, "element")
    assert not card.isVisible()
    click(panel, "filter")
    assert card.isVisible()
    assert panel.findChild(QLabel, "also_card_head").text() == "Also shrinks 5 layers"
    details = panel.findChild(QLabel, "also_card_details")
    assert details.text().endswith("and 2 more")
    click(panel, "also_card_action")
    assert details.text().endswith("fourth, fifth")
    click(panel, "also_card_action")
    assert details.text().endswith("and 2 more")
    session.select(["end"])
    assert not card.isVisible(), "the layer stays dense"
    click(panel, "filter")
    assert details.text() == "The model's output."
    assert not card.action.isVisible()


def test_the_pointer_on_the_card_marks_the_layers_in_the_tree(panel, session, qtbot):
    tree = LayerPanel(session)
    qtbot.addWidget(tree)
    tree.resize(400, 600)
    tree.show()
    session.select(["first"])
    click(panel, "filter")

    def ink(path):
        index = tree.tree.filter.mapFromSource(tree.tree.layers.index_of(path))
        place = tree.tree.visualRect(index).center()
        picture = tree.tree.viewport().grab().toImage()
        return picture.pixelColor(tree.tree.viewport().width() - 3, place.y()).name()

    plain = ink("second"), ink("other")
    QTest.mouseMove(panel._also, QPoint(20, 20))
    qtbot.waitUntil(lambda: bool(session.marked))
    assert session.marked == {"norm", "second", "third", "fourth", "fifth"}
    assert ink("second") != plain[0]
    assert ink("other") == plain[1]
    QTest.mouseMove(panel._tiles, QPoint(5, 5))
    qtbot.waitUntil(lambda: not session.marked)
    assert ink("second") == plain[0]


def test_a_card_that_goes_away_marks_nothing(panel, session, qtbot):
    session.select(["first"])
    click(panel, "filter")
    QTest.mouseMove(panel._also, QPoint(20, 20))
    qtbot.waitUntil(lambda: bool(session.marked))
    session.set_rule(["first"], None)
    assert not session.marked


def test_a_traced_model_of_old_projects_has_no_consequences():
    bare = replace(INFO.layer("first"), also=())
    assert consequences([bare], PATTERNS.parse("filter"), INFO) is None
