"""New sparse networks by real clicks and keys, and one trained by the real engine."""

import pytest
from PySide6.QtCore import QCoreApplication, QEvent, Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDialog, QFrame, QLabel, QPushButton, QWidget
from shiboken6 import isValid

from secateur.engine.errors import BadInput
from secateur.engine.new_network import PRESETS
from secateur.studio.canvas.canvas import TABS
from secateur.studio.look import theme
from secateur.studio.new_network.choice import Choice, consequence
from secateur.studio.new_network.dialog import NewNetworkDialog
from secateur.studio.new_network.known_data import not_there, sizes_of

LEFT = Qt.MouseButton.LeftButton


def wait_for(qtbot, condition, timeout=60_000):
    qtbot.waitUntil(lambda: bool(condition()), timeout=timeout)


# What follows from a choice


def test_the_default_is_a_network_for_the_bundled_digits():
    network = Choice().network()
    assert network.address == "new:mlp:64-256-256-256-10"
    plan = Choice(sparsity=0.97, growth="random", loss="mse", epochs=7).plan()
    assert plan.model == network.address
    assert [(rule.layers, rule.pattern.kind, rule.sparsity) for rule in plan.rules] == [
        ("*", "element", 0.97)
    ]
    assert (plan.schedule.kind, plan.schedule.growth) == ("sparse-training", "random")
    assert (plan.training.data, plan.training.epochs, plan.training.loss) == (
        "sample:digits", 7, "mse",
    )  # fmt: skip
    assert (plan.training.optimizer, plan.training.decay) == ("adamw", "onecycle")


@pytest.mark.parametrize("typed", ["300-100", "300, 100", " 300 100 ", "300 - 100"])
def test_widths_are_read_as_people_write_them(typed):
    assert Choice(hidden=typed).network().widths == (300, 100, 10)


@pytest.mark.parametrize(
    ("typed", "words"),
    [("300-0", "every width must be at least 1"), ("300-x", "sizes are whole numbers"),
     ("99999999-99999999", "at most")],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_sentence(typed, words):
    with pytest.raises(BadInput, match=words):
        Choice(hidden=typed).network()


def test_the_consequence_counts_what_is_there():
    left = consequence(Choice(hidden="300-100").network(), 0.9)
    assert (left.weights, left.dense) == (5020, 50200)
    assert (left.fewest, left.where) == (6, 1)  # 10 % of 64 inputs
    assert left.dense_bytes == 4 * 50200
    assert left.dense_training_bytes == 3 * left.dense_bytes


def test_the_bytes_are_those_that_the_engine_holds():
    torch = pytest.importorskip("torch")
    from secateur.kernels.formats.csr import CSR
    from secateur.kernels.modules.forms import packed_csr, transposes_csr

    network = Choice(hidden="300-100").network()
    held = turned = weights = 0
    for out, ins in network.matrices:
        mask = torch.zeros(out * ins)
        mask[: out * ins - round(out * ins * 0.9)] = 1
        packed = packed_csr(CSR.from_dense(mask.view(out, ins)))
        weights += len(packed.values)
        held += packed.values.nbytes + sum(part.nbytes for part in packed.indices.values())
        turned += sum(part.nbytes for part in transposes_csr(packed).values())
    left = consequence(network, 0.9)
    assert (left.weights, left.bytes) == (weights, held)
    assert left.training_bytes == held + turned + 2 * 4 * weights


def test_a_sparsity_that_leaves_an_output_without_inputs_is_refused():
    with pytest.raises(BadInput, match=r"layer 1 have no inputs left.* at most 98\.44 %"):
        consequence(Choice(hidden="300-100").network(), 0.99)
    assert consequence(Choice(hidden="300-100").network(), 0.9843).fewest == 1


def test_a_convnet_keeps_its_first_layer_dense():
    choice = Choice().like(next(p for p in PRESETS if p.kind == "convnet"))
    plan = choice.plan()
    assert plan.rule_for("conv1").sparsity == 0
    assert plan.rule_for("conv2").sparsity == plan.rule_for("fc").sparsity == 0.9
    left = consequence(choice.network(), 0.9)
    out, ins = choice.network().matrices[0]
    assert left.first_dense
    assert left.weights == out * ins + round((left.dense - out * ins) * 0.1)


def test_data_by_address_say_their_sizes(tmp_path):
    assert sizes_of("sample:digits") == ((1, 8, 8), 10)
    assert sizes_of("fashion-mnist:~/data") == ((1, 28, 28), 10)
    assert sizes_of("higgs:/data/HIGGS.csv?rows=600000") == ((28,), 2)
    assert sizes_of("csv:table.csv") is None
    assert not_there(f"mnist:{tmp_path}") == not_there("sample:digits") == ""
    assert not_there(f"mnist:{tmp_path}/none") == f"There is no {tmp_path}/none on this machine."


# The dialog


@pytest.fixture
def dialog(session, qtbot):
    wait_for(qtbot, lambda: session.engine_state == "ready")
    made = NewNetworkDialog(session)
    made.show()
    yield made
    if isValid(made):
        made.close()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


def text(dialog, name):
    return dialog.findChild(QLabel, name).text()


def retype(field, words):
    field.setFocus()
    field.selectAll()
    QTest.keyClicks(field, words)


def test_a_card_is_a_click_away_and_sets_the_widths(dialog):
    QTest.mouseClick(dialog.findChild(QWidget, "network_512x5"), LEFT)
    assert dialog.hidden.text() == "512-512-512-512-512"
    assert text(dialog, "network_note") == "Address  new:mlp:64-512-512-512-512-512-10"
    assert dialog.findChild(QWidget, "network_512x5").isChecked()
    retype(dialog.hidden, "256-256-256")
    assert dialog.findChild(QWidget, "network_256x3").isChecked()
    retype(dialog.hidden, "20")
    cards = [dialog.findChild(QWidget, f"network_{preset.name}") for preset in PRESETS]
    assert not any(card.isChecked() for card in cards)


def test_arrow_keys_walk_the_cards(dialog):
    first = dialog.findChild(QWidget, "network_256x3")
    assert first.isChecked()
    first.setFocus(Qt.FocusReason.TabFocusReason)
    QTest.keyClick(first, Qt.Key.Key_Left)
    assert dialog.choice.hidden == "300-100"
    assert dialog.findChild(QWidget, "network_300-100").hasFocus()


def test_wrong_widths_are_explained_below_the_field_while_they_are_typed(dialog):
    retype(dialog.hidden, "300-0")
    assert "every width must be at least 1, not 0." in text(dialog, "network_note")
    assert not dialog.create_.isEnabled()
    QTest.keyClick(dialog.hidden, Qt.Key.Key_Return)
    assert dialog.isVisible()
    retype(dialog.hidden, "300")
    assert text(dialog, "network_note") == "Address  new:mlp:64-300-10"
    assert dialog.create_.isEnabled()


def test_the_slider_says_at_once_what_is_left(dialog):
    retype(dialog.hidden, "300-100")
    slider = dialog.findChild(QWidget, "network_sparsity_slider")
    assert text(dialog, "network_weights") == "5,020 of 50,200"
    assert text(dialog, "network_fewest") == "6 per output, in layer 1"
    slider.setFocus()
    QTest.keyClick(slider, Qt.Key.Key_Right)
    assert text(dialog, "network_weights") == "4,518 of 50,200"
    box = dialog.findChild(QWidget, "network_sparsity_box")
    box.setFocus()
    box.selectAll()
    QTest.keyClicks(box, "99")
    QTest.keyClick(box, Qt.Key.Key_Tab)
    assert "no inputs left" in text(dialog, "network_starved")
    assert dialog.findChild(QLabel, "network_starved").isVisible()
    assert not dialog.create_.isEnabled()


def test_sizes_follow_the_data_and_are_typed_where_only_the_files_know(dialog, tmp_path):
    assert not dialog.shape.isEnabled()
    table = tmp_path / "HIGGS.csv"
    retype(dialog.data.box, f"higgs:{table}")
    QTest.keyClick(dialog.data.box, Qt.Key.Key_Tab)
    assert text(dialog, "network_note") == "Address  new:mlp:28-256-256-256-2"
    assert text(dialog, "network_why_not") == f"There is no {table} on this machine."
    assert not dialog.create_.isEnabled()
    assert not dialog.findChild(QWidget, "network_conv").isEnabled()
    table.write_text("1,0.5\n")
    retype(dialog.data.box, f"csv:{table}")
    QTest.keyClick(dialog.data.box, Qt.Key.Key_Tab)
    assert dialog.shape.isEnabled()
    retype(dialog.shape, "30")
    dialog.classes.setFocus()
    dialog.classes.selectAll()
    QTest.keyClicks(dialog.classes, "3")
    assert text(dialog, "network_note") == "Address  new:mlp:30-256-256-256-3"
    assert dialog.create_.isEnabled()


def test_the_guide_is_a_click_or_a_key_away(window, session, qtbot):
    window.actions_["new_network"].trigger()
    dialog = window.findChild(NewNetworkDialog)
    QTest.mouseClick(dialog.findChild(QPushButton, "network_help"), LEFT)
    guide = window.findChild(QDialog, "guide_dialog")
    assert "Training sparse from scratch" in guide.page.toPlainText()
    guide.close()
    dialog.close()


def test_escape_leaves_all_as_it_was(dialog, session):
    QTest.keyClick(dialog.hidden, Qt.Key.Key_Escape)
    assert not dialog.isVisible()
    assert session.info is None
    assert not session.busy


# In the window


def fill_epochs(dialog, epochs):
    dialog.epochs.setFocus()
    dialog.epochs.selectAll()
    QTest.keyClicks(dialog.epochs, str(epochs))


def keys(window, words):
    window.activateWindow()
    assert QTest.qWaitForWindowActive(window)
    QTest.keySequence(QApplication.focusWidget() or window, QKeySequence(words))


def test_a_network_is_made_trained_and_watched(window, session, qtbot):
    wait_for(qtbot, lambda: session.engine_state == "ready")
    QTest.mouseClick(window.findChild(QFrame, "start_new_network"), LEFT)
    dialog = window.findChild(NewNetworkDialog)
    fill_epochs(dialog, 12)
    QTest.keyClick(dialog.hidden, Qt.Key.Key_Return)
    wait_for(qtbot, lambda: session.info is not None and not session.busy)
    assert session.address == "new:mlp:64-256-256-256-10"
    assert session.plan.training.epochs == 12
    train = window.findChild(QPushButton, "prune_button")
    assert train.text() == "▶  Train"
    assert "Press Train (Ctrl+Return)" in text(window, "run_title")

    # One step, and one step back.
    made = session.plan
    assert session.undo.undoText() == "new sparse network"
    keys(window, "Ctrl+Z")
    assert session.plan.rules == ()
    assert train.text() == "▶  Prune"
    keys(window, "Ctrl+Shift+Z")
    assert session.plan == made

    topology = window.canvas.topology
    window.canvas.show_tab("Topology")
    assert topology.matrix._remark().head == "No topology yet"
    window.canvas.show_tab("Weights")
    seen, figures = set(), []
    topology.matrix._tiles.answered.connect(
        lambda asked, meta, arrays: seen.update(arrays["value"].ravel().tolist())
    )
    topology._asker.answered.connect(lambda asked, meta, arrays: figures.append(meta))
    QTest.mouseClick(train, LEFT)
    wait_for(qtbot, lambda: session.report is not None and not session.busy)
    wait_for(qtbot, lambda: session.client.pending == 0 and topology.figure("kept"))
    assert window.canvas.tabs.currentIndex() == TABS.index("Topology"), "the training brings it"
    kept = topology.figure("kept")
    assert kept.endswith("10 %"), kept
    assert topology.figure("evolution") != "none"
    assert any(meta["grown"] and meta["dropped"] for meta in figures)
    assert topology.inputs._image == (8, 8)
    assert seen == {0, 1, 2, 3}
    assert session.run.changes
    masks = window.findChild(QWidget, "mask_plot")
    churn = masks.churn()
    assert [step for step, _, _ in churn] == [c[0] for c in session.run.changes if c[0]]
    assert all(gone == come for _, gone, come in churn)  # nothing was there to drop at the start
    assert "dense" not in text(window, "accuracy_value")
    assert session.report["sparsity"] == pytest.approx(0.9, abs=1e-3)


def test_the_card_says_why_it_waits(window, session, qtbot):
    wait_for(qtbot, lambda: session.engine_state == "ready")
    session.busy = "Run 1"
    session.busy_changed.emit()
    QTest.mouseClick(window.findChild(QFrame, "start_new_network"), LEFT)
    assert window.findChild(NewNetworkDialog) is None
    assert session.notices[-1] == ("warning", "Run 1 is under way.")
    session.busy = ""
    session.busy_changed.emit()


def test_a_plan_that_was_not_saved_is_there_again_later(window, session, qtbot):
    wait_for(qtbot, lambda: session.engine_state == "ready")
    session.open("sample:digits-vit")
    wait_for(qtbot, lambda: session.info is not None and not session.busy)
    session.set_sparsity_live(session.selection, 0.5)
    plan = session.plan
    window.actions_["new_network"].trigger()
    dialog = window.findChild(NewNetworkDialog)
    QTest.mouseClick(dialog.create_, LEFT)
    wait_for(qtbot, lambda: session.address.startswith("new:") and not session.busy)
    session.open("sample:digits-vit")
    wait_for(qtbot, lambda: session.address == "sample:digits-vit" and not session.busy)
    assert session.plan == plan


def test_it_waits_while_the_engine_is_at_work(window, session, qtbot, monkeypatch):
    wait_for(qtbot, lambda: session.engine_state == "ready")
    dialog = NewNetworkDialog(session, window)
    dialog.show()
    session.busy = "Run 1"
    session.busy_changed.emit()
    assert text(dialog, "network_why_not") == "Run 1 is under way."
    assert not dialog.create_.isEnabled()
    session.busy = ""
    session.busy_changed.emit()
    assert dialog.create_.isEnabled()
    dialog.close()


@pytest.mark.parametrize("name", [preset.name for preset in PRESETS])
def test_each_card_draws_its_layers(dialog, name):
    card = dialog.findChild(QWidget, f"network_{name}")
    picture = card.grab().toImage()
    leaf = theme.current().leaf
    seen = {
        x for x in range(picture.width()) for y in range(14, 76)
        if picture.pixelColor(x, y).name() == leaf
    }  # fmt: skip
    groups = sum(1 for x in seen if x - 1 not in seen)
    hidden = next(preset.hidden for preset in PRESETS if preset.name == name)
    assert groups >= len(hidden)
