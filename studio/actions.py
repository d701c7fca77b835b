"""Every command of the window, once: menus, buttons, the search palette and shortcuts share it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QObject
from PySide6.QtGui import QAction, QKeySequence

from .look import theme
from .look.icons import icon
from .look.widgets import tip_of
from .state.plan_edits import verb
from .state.session import Session


@dataclass(frozen=True)
class Spec:
    """One command. `needs` is asked of `Session.why_not` whenever the state changes."""

    name: str
    text: str
    shortcut: str
    tip: str
    icon: str = ""
    needs: str = ""


SPECS = (
    Spec("open", "&Open…", "Ctrl+O", "Open a model file", "open", "open"),
    Spec("open_folder", "Open &folder…", "Ctrl+Shift+O",
         "Open a Hugging Face model or a project", "folder", "open"),
    Spec("open_address", "Open a&ddress…", "Ctrl+L",
         "Open torchvision:resnet18, hf:org/name, sample:…", "link", "open"),
    Spec("new_network", "&New sparse network…", "Ctrl+N",
         "Make a network and train it sparse from the first step", "network", "open"),
    Spec("open_plan", "Open &plan…", "", "Read a plan file for this model", "plan", "model"),
    Spec("save_plan", "Save p&lan…", "", "Write the plan as a YAML file", "plan", "model"),
    Spec("save_project", "&Save project…", "Ctrl+S",
         "Write plan and results into a folder", "save", "model"),
    Spec("export", "&Export…", "Ctrl+E", "Write the pruned model", "export", "export"),
    Spec("quit", "&Quit", "Ctrl+Q", "Close Secateur"),
    Spec("set_dense", "Leave &dense", "Ctrl+D",
         "Take the selected layers out of the plan", "lock", "selection"),
    Spec("select_all", "Select &all prunable", "Ctrl+A",
         "Select every layer that can be pruned", "layers", "model"),
    Spec("search", "&Search layers and actions", "Ctrl+K", "Find a layer or a command", "search"),
    Spec("filter", "&Filter layers", "Ctrl+F", "Filter the layer tree", "filter", "model"),
    Spec("fit", "&Fit picture", "Ctrl+0", "Show the whole matrix", "fit", "model"),
    Spec("reset_layout", "&Reset layout", "", "Put every panel back in its place", "grid"),
    Spec("theme_dark", "&Dark", "", "Dark colours", "dark"),
    Spec("theme_light", "&Light", "", "Light colours", "light"),
    Spec("theme_system", "As the &system", "", "The system's choice of colours"),
    Spec("prune", "&Prune", "Ctrl+Return", "Run the plan", "play", "prune"),
    Spec("pause", "P&ause", "Ctrl+.", "Let the run wait, or go on", "pause", "running"),
    Spec("cancel", "&Cancel", "Ctrl+Shift+.", "Stop what the engine does", "stop", "busy"),
    Spec("resume", "Res&ume run", "Ctrl+Shift+Return",
         "Go on from the checkpoint", "play", "checkpoint"),
    Spec("measure", "&Measure", "Ctrl+M", "Time dense against sparse on this machine",
         "measure", "measure"),
    Spec("measure_what", "&What to measure…", "Ctrl+Shift+M",
         "Layers, patterns, sparsities, batches, and a latency table", "settings", "model"),
    Spec("restart", "&Restart engine", "Ctrl+Shift+R", "Start a fresh engine", "restart"),
    Spec("guide", "User &guide", "F1", "How everything works", "guide"),
    Spec("shortcuts", "&Shortcuts", "Ctrl+/", "All keys", "keyboard"),
    Spec("about", "&About Secateur", "", "Version and licence", "info"),
)  # fmt: skip


class Actions(QObject):
    """The commands by name; enabled as the session allows, each saying why when it can't."""

    def __init__(self, session: Session, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._actions: dict[str, QAction] = {}
        for spec in SPECS:
            action = QAction(spec.text, self)
            action.setObjectName(f"action_{spec.name}")
            if spec.shortcut:
                action.setShortcut(QKeySequence(spec.shortcut))
            self._actions[spec.name] = action
        for name in ("theme_dark", "theme_light", "theme_system"):
            self[name].setCheckable(True)
        for signal in (
            session.model_changed, session.plan_changed, session.selection_changed,
            session.run_changed, session.engine_changed, session.busy_changed,
        ):  # fmt: skip
            signal.connect(self.update)
        theme.follow(self, self._draw_icons)
        self.update()

    def __getitem__(self, name: str) -> QAction:
        return self._actions[name]

    def all(self) -> list[QAction]:
        """Every command, in the order of the menus."""
        return list(self._actions.values())

    def connect_to(self, slots: dict[str, Callable[[], None]]) -> None:
        """Give commands what they do; raises KeyError for an unknown name."""
        for name, slot in slots.items():
            self[name].triggered.connect(lambda _=False, slot=slot: slot())

    def update(self) -> None:
        """Enable what can be done now; let the rest say why not."""
        for spec in SPECS:
            reason = self._why_not(spec.needs)
            action = self[spec.name]
            action.setEnabled(not reason)
            action.setToolTip(tip_of(action, reason or spec.tip))
            action.setStatusTip(reason or spec.tip)
        paused = self._session.run.state == "paused"
        self["pause"].setText("Cont&inue" if paused else "P&ause")
        self["prune"].setText(f"&{verb(self._session.plan)}")

    def _why_not(self, needs: str) -> str:
        session = self._session
        match needs:
            case "":
                return ""
            case "model":
                return "" if session.info is not None else "Open a model first"
            case "selection":
                return "" if session.selection else "Select a layer first"
            case "running":
                return "" if session.run.active else "Nothing runs"
            case "busy":
                return "" if session.busy else "Nothing runs"
            case "checkpoint":
                return "" if session.can_resume else "No run was stopped half-way"
        return session.why_not(needs)

    def _draw_icons(self) -> None:
        colours = theme.current()
        for spec in SPECS:
            if spec.icon:
                self[spec.name].setIcon(icon(spec.icon, colours))
