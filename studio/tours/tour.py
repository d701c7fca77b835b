"""A whole session on the bundled sample, by real clicks and keys, with a picture of each step."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QMessageLogContext,
    QModelIndex,
    QPoint,
    QSettings,
    Qt,
    QTimer,
    QtMsgType,
    qInstallMessageHandler,
)
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QFileDialog, QLineEdit

from ...engine.errors import BadInput
from ..app import make_application
from ..layers.layer_model import VERDICT
from ..look import theme
from ..state.session import Session
from ..state.verdict_words import UNKNOWN
from ..window import MainWindow
from .sparse_steps import SparseSteps
from .tour_driver import TourError

_CONTROL = Qt.KeyboardModifier.ControlModifier
_LAYER = "layer3.0.conv2"
_WHOLE = ("layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1")
_EPOCHS = "15"
_BATCH = 64
_EXPORTS = (
    ("onnx", "model.onnx"),
    ("safetensors", "model.safetensors"),
    ("compressed", "model.compressed.safetensors"),
)


def run(out: Path) -> int:
    """Drive the window; pictures, project, exports and report go to `out`.

    Returns 0 only if every step was seen to be true, else says on stderr which was not. Raises
    BadInput if `out` can't be written to.
    """
    out = out.resolve()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{out}: cannot be made: {error.strerror}") from None
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if sys.platform.startswith("linux") and not shown:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    qInstallMessageHandler(_say)
    QApplication.setAttribute(Qt.ApplicationAttribute.AA_DontUseNativeDialogs)
    app = make_application([])
    with tempfile.TemporaryDirectory(prefix="secateur-tour-") as home:
        settings = QSettings(str(Path(home) / "settings.ini"), QSettings.Format.IniFormat)
        theme.apply(app, "dark")
        session = Session(home=Path(home))
        session.client.start()
        window = MainWindow(session, settings)
        if app.platformName() == "offscreen":
            window.resize(1440, 900)  # its screen is small, and limits nothing
        window.show()
        tour = Tour(window, out)
        try:
            tour.whole()
        except TourError as error:
            tour.driver.shoot("failed", settle=False)
            sys.stderr.write(f"secateur tour: step {tour.step}: {error}\n")
            return 1
        finally:
            window.close()
            settings.sync()
            qInstallMessageHandler(None)
    sys.stdout.write(f"{len(tour.driver.pictures)} pictures of the tour are in {out}\n")
    return 0


def _say(kind: QtMsgType, context: QMessageLogContext, text: str) -> None:
    """Pass Qt's messages on, but for what the offscreen platform says of every window."""
    if not text.startswith("This plugin does not support"):
        sys.stderr.write(f"{text}\n")


class Tour(SparseSteps):
    """The steps, in order; `step` names the one under way."""

    def whole(self) -> None:
        """Every step; raises TourError."""
        for step in (
            self.start, self.open_sample, self.choose_layer, self.filter_layers,
            self.choose_pattern, self.read_about, self.look_at_mask, self.look_at_histogram,
            self.undo, self.plan_everything, self.schedule, self.prune, self.result, self.measure,
            self.verdict, self.sparsity, self.search, self.export, self.light, self.save,
            self.new_network, self.train, self.topology,
        ):  # fmt: skip
            self.step = step.__name__.replace("_", " ")
            step()
            if self.faults:
                raise TourError(f"the window reported: {self.faults[0]}")

    def start(self) -> None:
        """The start page, with the engine up."""
        self.driver.wait("the engine is ready", lambda: self.session.engine_state == "ready", 90)
        self.driver.shoot("start")

    def open_sample(self) -> None:
        """A click on the first sample's card."""
        self.driver.click_name("sample_digits_resnet")
        self.driver.wait("the sample is open", lambda: self.session.info is not None, 60)
        self.driver.shoot("open")

    def choose_layer(self) -> None:
        """A click on a layer in the tree."""
        self._click_layer(_LAYER)
        self._see(self.session.current == _LAYER, f"{_LAYER} is shown")
        self.driver.shoot("layer")

    def filter_layers(self) -> None:
        """Words typed into the filter."""
        field = self.driver.find_kind("layer_filter", QLineEdit)
        self.driver.click(field)
        self.driver.keys(field, "3×3 conv2")
        rows = self.window.layers.tree.filter
        shown = [self._below(rows.index(row, 0)) for row in range(rows.rowCount())]
        self._see(sum(shown) == 3, f"three layers fit the filter, not {sum(shown)}")
        self.driver.shoot("filter")
        field.selectAll()
        self.driver.press(field, Qt.Key.Key_Delete)

    def choose_pattern(self) -> None:
        """A tile, then the slider, with the preview following."""
        self._click_layer(_LAYER)
        self.driver.click_name("tile_group")
        rule = self.session.preview_rule
        self._see(rule is not None and rule.pattern.kind == "group", "the layer follows group")
        before = self.session.undo.count()
        self.driver.drag_slider("sparsity_slider", 0.6)
        rule = self.session.preview_rule
        self._see(rule is not None and abs(rule.sparsity - 0.6) < 0.03, "the slider is at 60 %")
        self._see(self.session.undo.count() <= before + 1, "one drag is one undo step")
        self.driver.shoot("pattern")

    def read_about(self) -> None:
        """The guide's page of the pattern, with its picture."""
        self.driver.click_name("pattern_help")
        dialog = self.driver.find("guide_dialog")
        self.driver.shoot("about", dialog)
        dialog.close()

    def look_at_mask(self) -> None:
        """The Mask tab."""
        self.driver.tab("canvas_tabs", "Mask")
        self.driver.shoot("mask")

    def look_at_histogram(self) -> None:
        """The Histogram tab."""
        self.driver.tab("canvas_tabs", "Histogram")
        self.driver.shoot("histogram")
        self.driver.tab("canvas_tabs", "Weights")

    def undo(self) -> None:
        """Undo by key takes the slider's drag back, redo brings it again."""
        dragged = self.session.plan
        self._key("Ctrl+Z")
        self._see(self.session.plan != dragged, "undo changed the plan")
        self.driver.shoot("undo")
        self._key("Ctrl+Shift+Z")
        self._see(self.session.plan == dragged, "redo brought it back")

    def plan_everything(self) -> None:
        """All layers at once: select all, a pattern, a typed sparsity."""
        self.driver.click(self.window.layers.tree.viewport(), QPoint(60, 10))
        self._key("Ctrl+A")
        info = self.session.info
        self._see(info is not None and len(self.session.selection) == len(info.prunable), "all")
        self.driver.click_name("tile_element")
        self._type_sparsity("70")
        self._see_rules("element", 0.7)
        self._click_layer(_WHOLE[0])
        for path in _WHOLE[1:]:
            self._click_layer(path, _CONTROL)
        self.driver.click_name("tile_filter")
        self._type_sparsity("50")
        self._see_rules("filter", 0.5)
        self._see(self.driver.find("also_card").isVisible(), "what shrinks along is named")
        self.driver.shoot("plan")
        self._click_layer(_LAYER)
        self.driver.click_name("tile_group")
        self.driver.drag_slider("sparsity_slider", 0.6)

    def _type_sparsity(self, percent: str) -> None:
        box = self.driver.find("sparsity_box")
        self.driver.click(box, QPoint(20, box.height() // 2))
        box.setFocus()
        QTest.keySequence(box, QKeySequence("Ctrl+A"))
        self.driver.keys(box, percent)
        self.driver.press(box, Qt.Key.Key_Return)

    def _see_rules(self, kind: str, sparsity: float) -> None:
        rules = [self.session.rule_for(path) for path in self.session.selection]
        good = all(
            r and r.pattern.kind == kind and abs(r.sparsity - sparsity) < 1e-6 for r in rules
        )
        self._see(good, f"every selected layer is at {kind} {sparsity:.0%}")

    def schedule(self) -> None:
        """AGP with its curve and the epochs of retraining."""
        self.driver.choose("schedule", "agp")
        self._see(self.session.plan.schedule.kind == "agp", "the schedule is AGP")
        epochs = self.driver.find("training_form_epochs")
        self.driver.click(epochs, QPoint(20, epochs.height() // 2))
        QTest.keySequence(epochs, QKeySequence("Ctrl+A"))
        self.driver.keys(epochs, _EPOCHS)
        self.driver.press(epochs, Qt.Key.Key_Return)
        training = self.session.plan.training
        self._see(training is not None and training.epochs == int(_EPOCHS), "epochs are set")
        self.driver.bring_into_sight(self.driver.find("schedule_curve"))
        self.driver.shoot("schedule")

    def prune(self) -> None:
        """The run, in the middle and at its end."""
        self.driver.click_name("prune_button")
        run = lambda: self.session.run  # noqa: E731
        self.driver.wait("the run trains", lambda: len(run().metrics) >= 3 or not run().active, 120)
        self._see(run().active, f"the run goes on: {run().error or run().state}")
        self.driver.shoot("running", settle=False)
        self.driver.wait("the run ends", lambda: not run().active, 240)
        self._see(run().state == "done", f"the run is done: {run().error or run().state}")
        self._see(self.session.report is not None, "there is a report")
        self.driver.shoot("done")

    def result(self) -> None:
        """What the run came to, on the masks of a layer."""
        report = self.session.report or {}
        for layer in report["layers"]:
            off = abs(layer["achieved"] - layer["requested"])
            self._see(off < 0.05, f"{layer['path']} reached what was asked")
        accuracy = report["accuracy"]
        self._see(accuracy["pruned"] is not None, "accuracy was taken")
        self.driver.tab("canvas_tabs", "Mask")
        self._click_layer("layer2.0.conv2")
        self.driver.shoot("result")

    def measure(self) -> None:
        """What to measure, then times on this machine, bars appearing as layers finish."""
        self.driver.tab("canvas_tabs", "Latency")
        self.driver.click_name("ask_chip")
        self.driver.click_name(f"ask_batch_{_BATCH}")
        self.driver.click_name("ask_batch_1")
        self.driver.shoot("ask", self.driver.find("ask_panel"))
        self.driver.click_name("ask_go")
        self.driver.wait("measuring begins", lambda: self.session.run.kind == "measure")
        found = self.session.measuring.found
        self.driver.wait("bars appear", lambda: len(found.cells) >= 4, 60)
        self.driver.shoot("measuring", settle=False)
        self.driver.wait("measuring ends", lambda: not self.session.run.active, 180)
        self._see(self.session.run.state == "done", f"measured: {self.session.run.error}")
        self._see(found.whole is not None, "the whole model was measured")
        self.driver.shoot("latency")

    def verdict(self) -> None:
        """A click on a verdict in the tree opens the pair that was measured."""
        tree = self.window.layers.tree
        index = tree.filter.mapFromSource(tree.layers.index_of(_LAYER)).siblingAtColumn(VERDICT)
        self._see(index.data() != UNKNOWN, f"{_LAYER} has a verdict")
        self.driver.click(tree.viewport(), tree.visualRect(index).center())
        pair = self.session.measuring.pair
        self._see(pair is not None and pair["layer"] == _LAYER, "its pair is shown")
        self.driver.shoot("verdict")

    def sparsity(self) -> None:
        """Latency over sparsity, the steps of each path, and accuracy against latency."""
        for number, name in ((3, "sparsity"), (2, "steps")):
            self.driver.click_name(f"latency_mode_{number}")
            self.driver.click_name("latency_measure")
            self.driver.wait("measuring begins", lambda: self.session.run.active)
            self.driver.wait("measuring ends", lambda: not self.session.run.active, 120)
            self._see(self.session.run.state == "done", f"measured: {self.session.run.error}")
            self.driver.find(f"{name}_plot")
            self.driver.shoot(name)
        self.driver.click_name("latency_mode_5")
        self.driver.find("tradeoff_plot")
        self.driver.shoot("tradeoff")
        self.driver.click_name("latency_mode_1")

    def search(self) -> None:
        """The palette finds a layer and goes there."""
        self._key("Ctrl+K")
        field = self.driver.find_kind("search_input", QLineEdit)
        self.driver.keys(field, "layer2 conv1")
        self.driver.shoot("search")
        self.driver.press(field, Qt.Key.Key_Return)
        self._see(self.session.current == "layer2.0.conv1", "search went to layer2.0.conv1")
        self.driver.tab("canvas_tabs", "Weights")

    def export(self) -> None:
        """Every format, each read back by the engine."""
        self.driver.click_name("export_button")
        dialog = self.driver.find("export_dialog")
        for name, file in _EXPORTS:
            self.driver.click(self.driver.find(f"export_{name}"), QPoint(60, 12))
            field = self.driver.find_kind("export_path", QLineEdit)
            field.selectAll()
            self.driver.keys(field, str(self.out / file))
            if name == "onnx":
                self.driver.shoot("export", dialog)
            self.session.exporting.result = None
            self.driver.click_name("export_go")
            self.driver.wait(f"{name} is read back", lambda: self.session.exporting.result, 120)
            result: dict[str, Any] = self.session.exporting.result or {}
            self._see(
                result.get("equal") is True, f"{name} reads back equal: {result.get('error')}"
            )
            self._see((self.out / file).stat().st_size > 0, f"{file} is there")
            self.driver.wait("the engine rests", lambda: not self.session.busy)
        self.driver.shoot("exported", dialog)
        self.driver.click_name("export_close")

    def light(self) -> None:
        """The same in light colours, chosen through the palette."""
        self._key("Ctrl+K")
        field = self.driver.find_kind("search_input", QLineEdit)
        self.driver.keys(field, "light")
        self.driver.press(field, Qt.Key.Key_Return)
        self._see(theme.current().name == "light", "the theme is light")
        self._click_layer(_LAYER)
        self.driver.shoot("light")

    def save(self) -> None:
        """The project through the folder dialog."""
        target = self.out / "project"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        QTimer.singleShot(300, self.window, lambda: self._answer_folder(target))
        self._key("Ctrl+S")
        self.driver.wait("the project is written", (target / "project.json").exists)
        for name in ("plan.yaml", "masks.safetensors", "report.json", "report.html"):
            self._see((target / name).exists(), f"the project holds {name}")
        shutil.copyfile(target / "report.html", self.out / "report.html")
        self._see(not self.session.dirty, "the plan is saved")
        self.driver.shoot("saved")

    def _answer_folder(self, folder: Path, tries: int = 30) -> None:
        dialog = QApplication.activeModalWidget()
        if not isinstance(dialog, QFileDialog):
            if tries:  # a busy machine takes its time to show one
                again = lambda: self._answer_folder(folder, tries - 1)  # noqa: E731
                QTimer.singleShot(300, self.window, again)
            else:
                self.faults.append("no folder dialog came up")
            return
        field = dialog.findChild(QLineEdit, "fileNameEdit")
        if field is None:
            self.faults.append("the folder dialog has no field")
            dialog.reject()
            return
        field.clear()
        QTest.keyClicks(field, str(folder))
        QTest.keyClick(field, Qt.Key.Key_Return)

    def _below(self, index: QModelIndex) -> int:
        rows = self.window.layers.tree.filter
        count = rows.rowCount(index)
        if not count:
            return 1
        return sum([self._below(rows.index(row, 0, index)) for row in range(count)])
