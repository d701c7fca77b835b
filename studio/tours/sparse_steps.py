"""The part of the tour that makes a network and trains it sparse from the first step."""

from __future__ import annotations

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QLineEdit

from .steps import Steps

_EPOCHS = "30"
_ADDRESS = "new:mlp:64-300-100-10"


class SparseSteps(Steps):
    """Steps that begin with a network of one's own."""

    def new_network(self) -> None:
        """The dialog: a card, widths typed, what is left of the weights; then Enter."""
        self._key("Ctrl+N")
        dialog = self.driver.find("new_network_dialog")
        self.driver.click_name("network_512x5")
        hidden = self.driver.find_kind("network_hidden", QLineEdit)
        self.driver.click(hidden)
        hidden.selectAll()
        self.driver.keys(hidden, "300-100")
        epochs = self.driver.find("network_epochs")
        self.driver.click(epochs, QPoint(20, epochs.height() // 2))
        QTest.keySequence(epochs, QKeySequence("Ctrl+A"))
        self.driver.keys(epochs, _EPOCHS)
        self.driver.shoot("new-network", dialog)
        self.driver.press(hidden, Qt.Key.Key_Return)
        self.driver.wait("the network is open", lambda: self.session.address == _ADDRESS, 60)
        plan = self.session.plan
        self._see(plan.schedule.kind == "sparse-training", "the plan trains sparse")
        self._see(self.session.undo.undoText() == "new sparse network", "it is one undo step")

    def train(self) -> None:
        """The run, with the topology in front."""
        self.driver.tab("canvas_tabs", "Topology")
        self.driver.click_name("prune_button")
        run = lambda: self.session.run  # noqa: E731
        self.driver.wait("it learns", lambda: len(run().changes) >= 4 or not run().active, 60)
        evolution = self.driver.find_kind("topology_evolution", QLabel)
        self.driver.wait("the topology is seen", lambda: "step" in evolution.text(), 30)
        self.driver.rest(80)  # what is new is laid out before it is painted
        self.driver.shoot("training", settle=False)
        self.driver.wait("the training ends", lambda: not run().active, 120)
        self._see(run().state == "done", f"the training is done: {run().error or run().state}")
        self._see(any(grown for _, _, grown in run().changes), "weights have grown")
        report = self.session.report or {}
        self._see(abs(report["sparsity"] - 0.9) < 0.01, "nine of ten weights are not there")

    def topology(self) -> None:
        """What each layer still sees, in both themes."""
        self.driver.shoot("topology")
        self._key("Ctrl+K")
        field = self.driver.find_kind("search_input", QLineEdit)
        self.driver.keys(field, "dark")
        self.driver.press(field, Qt.Key.Key_Return)
        self._click_layer("fc2")
        self.driver.shoot("topology-dark")
