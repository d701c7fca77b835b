from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, QSettings, Qt, QUrl
from PySide6.QtGui import QDropEvent, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QDialog,
    QLabel,
    QMessageBox,
    QPlainTextEdit,
    QPushButton,
    QRadioButton,
    QTextBrowser,
)

from secateur.engine import events
from secateur.engine.plan import Plan
from secateur.studio.actions import SPECS
from secateur.studio.look import theme
from secateur.studio.recent import Recent
from secateur.studio.search import match
from secateur.studio.state.client import FAULT


def wait_for(qtbot, condition, timeout=60_000):
    qtbot.waitUntil(lambda: bool(condition()), timeout=timeout)


def click(window, name):
    button = window.findChild(QPushButton, name)
    assert button is not None, name
    assert button.isVisible(), name
    assert button.isEnabled(), button.toolTip()
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def keys(window, text):
    window.activateWindow()
    QTest.keySequence(QApplication.focusWidget() or window, QKeySequence(text))


def element(sparsity):
    data = {"rules": [{"layers": "*", "pattern": "element", "sparsity": sparsity}]}
    return Plan.from_json(data).rules[0]


@pytest.fixture
def open_window(window, opened, qtbot):
    wait_for(qtbot, lambda: window.canvas is not None)
    return window


def test_before_a_model_is_open_everything_says_why_it_waits(window, session, qtbot):
    wait_for(qtbot, lambda: session.engine_state == "ready")
    for name in ("measure_button", "prune_button", "export_button"):
        button = window.findChild(QPushButton, name)
        assert not button.isEnabled()
        assert "Open a model first" in button.toolTip()
    assert window.start_page.isVisible()
    assert window.windowTitle() == "Secateur"


def test_a_click_on_a_sample_opens_it(window, session, qtbot):
    card = window.findChild(object, "sample_digits_vit")
    QTest.mouseClick(card, Qt.MouseButton.LeftButton)
    wait_for(qtbot, lambda: session.info is not None)
    assert session.info.name == "digits-vit"
    assert window.canvas.isVisible()
    assert "digits-vit" in window.windowTitle()
    assert window.recent.items() == ["sample:digits-vit"]


def test_undo_by_key_says_what_it_takes_back(open_window, session):
    window = open_window
    session.set_rule([session.current], element(0.5))
    assert window.isWindowModified()
    assert window.status._text._full == f"Undo: set {session.current} to element 50 %"
    keys(window, "Ctrl+Z")
    assert session.plan.rules == ()
    assert not window.isWindowModified()
    keys(window, "Ctrl+Shift+Z")
    assert session.rule_for(session.current).sparsity == 0.5


def test_the_palette_finds_layers_and_commands(open_window, session, qtbot):
    window = open_window
    keys(window, "Ctrl+K")
    palette = window.palette_
    assert palette.isVisible()
    QTest.keyClicks(palette.field, "layer3 conv2")
    QTest.keyClick(palette.field, Qt.Key.Key_Return)
    assert session.current == "layer3.0.conv2"
    assert not palette.isVisible()
    keys(window, "Ctrl+K")
    QTest.keyClicks(palette.field, "all prun")
    QTest.keyClick(palette.field, Qt.Key.Key_Return)
    assert len(session.selection) == len(session.info.prunable)
    keys(window, "Ctrl+K")
    QTest.keyClicks(palette.field, "resume")
    QTest.keyClick(palette.field, Qt.Key.Key_Return)
    assert palette.isVisible()  # it can't be done now, and its row says why
    QTest.keyClick(palette.field, Qt.Key.Key_Escape)
    assert not palette.isVisible()


def test_better_matches_come_first():
    texts = ["layer10.conv1", "layer1.conv1", "Measure"]
    assert sorted(texts, key=lambda t: match("layer1 conv1", t) or 10**6)[0] == "layer1.conv1"
    assert match("layer9", "layer1.conv1") is None


def test_prune_and_export_by_clicks(open_window, session, qtbot, tmp_path):
    window = open_window
    session.select([layer.path for layer in session.info.prunable])
    session.set_rule(session.selection, element(0.5))
    click(window, "prune_button")
    wait_for(qtbot, lambda: session.report is not None and not session.busy)
    assert window.findChild(object, "status_zeros").text() == "50.0 %"
    click(window, "export_button")
    dialog = window.findChild(QDialog, "export_dialog")
    choice = dialog.findChild(QRadioButton, "export_compressed")
    QTest.mouseClick(choice, Qt.MouseButton.LeftButton, pos=QPoint(40, 10))
    dialog.path.setText(str(tmp_path / "m.compressed.safetensors"))
    click(dialog, "export_go")
    wait_for(qtbot, lambda: session.exporting.result)
    assert session.exporting.result["equal"] is True
    assert (tmp_path / "m.compressed.safetensors").exists()
    assert "equal" in dialog.findChild(object, "export_verdict").text()
    session.exporting.result = None
    wait_for(qtbot, lambda: not session.busy)
    dialog.path.setText("/nonexistent/folder/m.safetensors")
    click(dialog, "export_go")
    wait_for(qtbot, lambda: session.exporting.result)
    assert "no such folder" in dialog.findChild(object, "export_facts").text()
    click(dialog, "export_close")


def test_a_file_that_is_no_model_gives_a_quiet_bar(open_window, session, qtbot, tmp_path):
    window = open_window
    (tmp_path / "bad.safetensors").write_bytes(b"12345678nonsense")
    session.open(str(tmp_path / "bad.safetensors"))
    wait_for(qtbot, lambda: window.notice.isVisible())
    assert window.notice.level == "error"
    assert "bad.safetensors" in window.notice.text
    assert session.info.name == "digits-resnet"
    click(window, "notice_close")
    assert not window.notice.isVisible()


def drop(window, path):
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(
        QPointF(300, 300), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton,
        Qt.KeyboardModifier.NoModifier,
    )  # fmt: skip
    window.dropEvent(event)


def test_plans_and_projects_can_be_dropped_on_the_window(open_window, session, qtbot, tmp_path):
    plan = tmp_path / "p.yaml"
    plan.write_text("rules:\n  - {layers: '*', pattern: group, sparsity: 0.25}\n")
    drop(open_window, plan)
    assert session.rule_for("fc").sparsity == 0.25
    session.save_project(tmp_path / "project")
    session.set_plan(Plan(model=session.address), "nothing")
    drop(open_window, tmp_path / "project")
    wait_for(qtbot, lambda: session.rule_for("fc") is not None)


def test_a_pickle_that_wants_to_run_code_is_asked_about_and_no_is_the_default(
    open_window, session, qtbot, tmp_path
):
    import pickle

    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (marker,))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    session.open(str(tmp_path / "evil.pt"))
    wait_for(qtbot, lambda: open_window.findChild(QMessageBox, "consent_dialog"))
    box = open_window.findChild(QMessageBox, "consent_dialog")
    assert box.defaultButton().objectName() == "consent_no"
    assert "running the code inside it" in box.informativeText()
    QTest.keyClick(box, Qt.Key.Key_Return)
    wait_for(qtbot, lambda: not box.isVisible(), 5000)
    qtbot.wait(100)
    assert not session.busy
    assert not marker.exists()
    assert session.info.name == "digits-resnet"


def test_theme_docks_and_help(open_window, qapp, qtbot):
    window = open_window
    window.set_theme("light")
    assert theme.current().name == "light"
    assert window.actions_["theme_light"].isChecked()
    window.set_theme("dark")
    keys(window, "Ctrl+2")
    assert not window.docks.plan.isVisible()
    window.actions_["reset_layout"].trigger()
    assert window.docks.plan.isVisible()
    window.actions_["shortcuts"].trigger()
    page = window.findChild(QTextBrowser, "shortcuts_page")
    assert "Ctrl+K" in page.toPlainText()
    window.findChild(QDialog, "shortcuts_dialog").close()
    window.actions_["about"].trigger()
    window.findChild(QMessageBox, "about_dialog").close()


def test_no_two_commands_share_a_key(window):
    taken = {}
    for action in window.actions():
        key = action.shortcut().toString()
        if key:
            assert key not in taken, (key, action.text(), taken[key])
            taken[key] = action.text()
    assert len({spec.name for spec in SPECS}) == len(SPECS)


def test_every_button_has_a_name_and_says_what_it_does(open_window):
    for button in open_window.findChildren(QPushButton):
        if button.isVisible():
            assert button.objectName(), button.text()
            assert button.accessibleName(), button.objectName()


def test_recent_keeps_order_and_leaves_out_what_is_gone(tmp_path):
    settings = QSettings(str(tmp_path / "s.ini"), QSettings.Format.IniFormat)
    recent = Recent(settings)
    kept = tmp_path / "a.safetensors"
    kept.touch()
    for address in (str(kept), str(tmp_path / "gone.pt"), "hf:a/b", str(kept)):
        recent.add(address)
    assert Recent(settings).items() == [str(kept), "hf:a/b"]
    recent.clear()
    assert recent.items() == []


def test_quitting_with_a_run_under_way_asks_first(open_window, session, qtbot):
    window = open_window
    plan = Plan.from_json(
        {
            "rules": [{"layers": "*", "pattern": "element", "sparsity": 0.5}],
            "schedule": "agp",
            "training": {"epochs": 60},
        }
    )
    session.set_plan(plan, "a long run")
    session.prune()
    wait_for(qtbot, lambda: session.run.active)
    window.actions_["quit"].trigger()
    box = window.findChild(QMessageBox, "quit_dialog")
    assert "not finished" in box.informativeText()
    assert box.defaultButton().objectName() == "quit_no"
    QTest.keyClick(box, Qt.Key.Key_Escape)
    assert window.isVisible()
    assert session.run.active
    session.cancel()
    wait_for(qtbot, lambda: not session.run.active)
    assert window._may_leave()


def test_an_export_asks_before_it_writes_over_a_file(open_window, session, qtbot, tmp_path):
    session.set_rule([session.current], element(0.5))
    session.prune()
    wait_for(qtbot, lambda: session.report is not None and not session.busy)
    click(open_window, "export_button")
    dialog = open_window.findChild(QDialog, "export_dialog")
    # Anywhere on a format's card chooses it.
    choice = dialog.findChild(QRadioButton, "export_safetensors")
    QTest.mouseClick(choice.parentWidget(), Qt.MouseButton.LeftButton)
    assert choice.isChecked()
    dialog.path.setText(str(tmp_path / "m.onnx"))
    click(dialog, "export_go")
    assert "ends in .safetensors" in dialog.findChild(object, "export_facts").text()
    target = tmp_path / "m.safetensors"
    target.write_text("precious")
    dialog.path.setText(str(tmp_path / "m.safetensors"))
    click(dialog, "export_go")
    QTest.keyClick(dialog.findChild(QMessageBox, "overwrite_dialog"), Qt.Key.Key_Escape)
    assert target.read_text() == "precious"
    assert not session.busy
    click(dialog, "export_go")
    boxes = dialog.findChildren(QMessageBox, "overwrite_dialog")
    QTest.mouseClick(boxes[-1].findChild(QPushButton, "overwrite_yes"), Qt.MouseButton.LeftButton)
    wait_for(qtbot, lambda: session.exporting.result)
    assert session.exporting.result["equal"] is True
    click(dialog, "export_close")


def test_an_old_error_goes_when_something_new_starts(open_window, session, qtbot):
    session.notice.emit("It went wrong.", "error")
    assert open_window.notice.isVisible()
    session.set_rule([session.current], element(0.5))
    session.prune()
    wait_for(qtbot, lambda: session.report is not None and not session.busy)
    assert not open_window.notice.isVisible()


def test_a_restarted_engine_is_asked_again_for_the_energy(open_window, session, qtbot):
    session.set_rule([session.current], element(0.5))
    head = open_window.findChild(QLabel, "energy_card_head")
    wait_for(qtbot, lambda: head.text().startswith("Keeps"))
    before = head.text()
    session.restart_engine()
    wait_for(qtbot, lambda: not session.busy and session.engine_state == "ready")
    wait_for(qtbot, lambda: head.text() == before, 5000)


def test_the_sample_cards_say_what_the_samples_are():
    from secateur.studio.start_page import SAMPLES

    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for sample in SAMPLES:
        row = next(line for line in readme.splitlines() if f"`{sample.address}` |" in line)
        parameters, accuracy = (cell.strip() for cell in row.split("|")[2:4])
        assert sample.note == f"{parameters} parameters\n{accuracy} accurate"


def test_the_guide_goes_back(open_window):
    open_window.actions_["guide"].trigger()
    dialog = open_window.findChild(QDialog, "guide_dialog")
    page = dialog.findChild(QTextBrowser, "guide_page")
    first = page.toPlainText()
    page.anchorClicked.emit(QUrl("patterns.md"))
    assert page.toPlainText() != first
    click(dialog, "guide_back")
    assert page.toPlainText() == first
    assert not dialog.findChild(QPushButton, "guide_back").isEnabled()
    dialog.close()


def test_nothing_in_the_narrowest_window_overlaps(open_window, qtbot):
    window = open_window
    window.resize(500, 500)
    qtbot.wait(50)
    tabs, tools = window.canvas.tabs, window.canvas._tools
    right = tabs.mapTo(window.canvas, tabs.rect().topRight()).x()
    assert right <= tools.mapTo(window.canvas, tools.rect().topLeft()).x()


def test_the_guide_shows_a_pattern_s_page_with_its_picture(open_window, session, qtbot):
    session.set_rule([session.current], element(0.5))
    click(open_window, "pattern_help")
    dialog = open_window.findChild(QDialog, "guide_dialog")
    page = dialog.findChild(QTextBrowser, "guide_page")
    assert page.toPlainText().startswith("element")
    leaf = [c for c in colours(page) if c.green() > c.red() + 30 and c.green() > c.blue() + 30]
    assert leaf, "the picture is painted"
    # Links lead from the folder of the page that holds them.
    page.anchorClicked.emit(QUrl("../patterns.md"))
    assert page.toPlainText().startswith("Patterns")
    page.anchorClicked.emit(QUrl("patterns/filter.md"))
    assert page.toPlainText().startswith("filter")
    page.anchorClicked.emit(QUrl("../../../README.md"))
    assert page.toPlainText().startswith("filter"), "nothing outside the guide is shown"
    click(dialog, "guide_contents")
    assert page.toPlainText().startswith("Secateur")
    dialog.close()


def colours(widget):
    picture = widget.viewport().grab().toImage()
    places = [(x, y) for x in range(20, 300, 3) for y in range(60, 400, 3)]
    return [picture.pixelColor(x, y) for x, y in places]


def test_zeros_that_a_model_came_with_are_offered_to_be_kept(window, session, qtbot):
    wait_for(qtbot, lambda: session.engine_state == "ready")
    session.open("sample:digits-resnet")
    wait_for(qtbot, lambda: session.info is not None and not session.busy)
    assert not window.notice.isVisible(), "a dense model has nothing to offer"
    sparse = [replace(la, density=0.4) if la.prunable else la for la in session.info.layers]
    count = len(session.info.prunable)
    info = replace(session.info, layers=tuple(sparse))
    session.opening.opened.emit({"info": info.to_json(), "project": None}, None)
    assert window.notice.text == f"{count} layers have zeros already. Keep them pruned?"
    assert window.notice.level == "info"
    click(window, "notice_zeros")
    assert session.plan.take_zeros
    assert not window.notice.isVisible()
    session.undo.undo()
    assert not session.plan.take_zeros


def test_a_fault_is_said_once_in_plain_words_with_details(open_window, session, qtbot):
    window = open_window
    fault = events.Failed("KeyError: 'x'", detail="Traceback …\nKeyError: 'x'")
    session._jobs.start = lambda kind, params, title, ended, **more: ended(fault)
    session.set_rule([session.current], element(0.5))
    session.prune()
    assert window.notice.text == FAULT
    click(window, "notice_details")
    dialog = window.findChild(QDialog, "details_dialog")
    assert "KeyError" in dialog.findChild(QPlainTextEdit).toPlainText()
    dialog.close()
    # A question of a panel that meets a fault is told the same way, and not twice.
    told = []
    session.notice.connect(lambda text, level: told.append(text))
    answers = []
    for _ in range(2):
        session.client.request("tile", {"layer": None}, answers.append, answers.append)
    wait_for(qtbot, lambda: len(answers) == 2)
    assert answers == [FAULT, FAULT]
    assert told == [FAULT]
