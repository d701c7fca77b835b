"""The main window: puts the panels together and connects commands with the session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QShowEvent
from PySide6.QtWidgets import QApplication, QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from ..engine.errors import BadInput
from .actions import Actions
from .docks import Docks
from .layers.layer_panel import LayerPanel
from .look import theme
from .look.icons import app_icon
from .look.widgets import hairline
from .menus import build_menus
from .notice_bar import NoticeBar, Offer
from .plan.plan_panel import PlanPanel
from .plan.presets import PresetsMenu
from .recent import Recent
from .runs.run_strip import RunStrip
from .search import SearchPalette
from .start_page import StartPage
from .state.session import Session
from .status import StatusLine
from .topbar import TopBar

_SIZE = (1440, 900)
_THEME = "theme"
_FULL = 0.995
"""A layer with a smaller share of non-zeros was pruned before; single zeros come by chance."""


class MainWindow(QMainWindow):
    """One window of docks around the canvas. State lives in the session, not here."""

    def __init__(self, session: Session, settings: QSettings) -> None:
        super().__init__()
        self.setObjectName("main_window")
        self.session = session
        self._settings = settings
        self.setWindowIcon(app_icon())
        self.setAcceptDrops(True)
        self.resize(*_SIZE)
        self.setMinimumHeight(560)  # how narrow it may be, the panels that are shown know
        self.recent = Recent(settings, self)
        self.actions_ = Actions(session, self)
        self.layers = LayerPanel(session)
        self.layers.menu_actions = [self.actions_["set_dense"], self.actions_["select_all"]]
        self.plan = PlanPanel(session)
        self.docks = Docks(self, self.layers, self.layers.heading, self.plan, RunStrip(session))
        self.start_page = StartPage(session, self.actions_, self.recent)
        self._centre = QStackedWidget()
        self._centre.addWidget(self.start_page)
        self.canvas: QWidget | None = None
        self.setCentralWidget(self._centre)
        self.notice = NoticeBar()
        self._add_bars()
        self.palette_ = SearchPalette(session, self.actions_, self)
        self._connect()
        self._laid_out = self.docks.restore(settings)
        # A saved size may come from a larger screen.
        room = self.screen().availableSize()
        self.resize(self.size().boundedTo(room))
        self._show_title()
        self._centre.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self._centre.setFocus()

    # Building

    def _add_bars(self) -> None:
        undo = self.session.undo.createUndoAction(self, "&Undo")
        redo = self.session.undo.createRedoAction(self, "&Redo")
        undo.setShortcut("Ctrl+Z")
        redo.setShortcut("Ctrl+Shift+Z")
        menus = build_menus(
            self.actions_, self.recent, [undo, redo], self.docks.toggles(),
            PresetsMenu(self.session), self.session.open,
        )  # fmt: skip
        head = QWidget()
        box = QVBoxLayout(head)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(TopBar(self.session, self.actions_, menus))
        box.addWidget(self.notice)
        box.addWidget(hairline())
        self.setMenuWidget(head)
        # Shortcuts must work also where the menu bar is native or hidden.
        self.addActions([*self.actions_.all(), undo, redo, *self.docks.toggles()])
        self.statusBar().setSizeGripEnabled(False)
        self.status = StatusLine(self.session)
        self.statusBar().addWidget(self.status, 1)

    def _connect(self) -> None:
        session, actions = self.session, self.actions_
        actions.connect_to(
            {
                "open": self._open_file,
                "open_folder": self._open_folder,
                "open_address": self._open_address,
                "new_network": self._new_network,
                "open_plan": self._open_plan,
                "save_plan": self._save_plan,
                "save_project": self._save_project,
                "export": self.export,
                "quit": self._quit,
                "set_dense": lambda: session.set_rule(session.selection, None),
                "select_all": self._select_all,
                "search": self.palette_.open,
                "filter": self._focus_filter,
                "fit": self._fit,
                "reset_layout": self.docks.reset,
                "theme_dark": lambda: self.set_theme("dark"),
                "theme_light": lambda: self.set_theme("light"),
                "theme_system": lambda: self.set_theme("system"),
                "prune": session.prune,
                "pause": self._pause,
                "cancel": session.cancel,
                "resume": session.resume_run,
                "measure": session.measure,
                "measure_what": self._ask_what,
                "restart": session.restart_engine,
                "guide": self._show_guide,
                "shortcuts": self._show_shortcuts,
                "about": self._show_about,
            }
        )
        session.model_changed.connect(self._model_changed)
        session.undo.cleanChanged.connect(self._show_title)
        session.notice.connect(self._tell)
        session.busy_changed.connect(self._busy_changed)
        session.opening.consent_needed.connect(self._ask_consent)
        session.pruning.consent_needed.connect(self._ask_data_consent)
        self.plan.help_wanted.connect(self._show_guide)
        self._mark_theme()

    # What the session says

    def _model_changed(self) -> None:
        if self.session.info is None:
            return
        if self.canvas is None:
            from .canvas import Canvas  # not needed before a model is open

            self.canvas = Canvas(self.session)
            self._centre.addWidget(self.canvas)
        self._centre.setCurrentWidget(self.canvas)
        self.recent.add(str(self.session.project or self.session.address))
        self.notice.hide()
        self._offer_zeros()
        self._show_title()
        self.layers.tree.setFocus()

    def _offer_zeros(self) -> None:
        """Ask quietly whether zeros that the model came with are to stay."""
        info, plan = self.session.info, self.session.plan
        known = info.prunable if info is not None and self.session.project is None else ()
        sparse = [la.path for la in known if la.density is not None and la.density < _FULL]
        if not sparse or plan.take_zeros:
            return

        def keep() -> None:
            self.notice.hide()
            plan = replace(self.session.plan, take_zeros=True)
            self.session.set_plan(plan, "keep zeros that are there")

        count = len(sparse)
        text = f"{count} layer{'s have' if count > 1 else ' has'} zeros already. Keep them pruned?"
        self.notice.tell(text, "info", (("notice_zeros", "Keep them pruned", keep),))

    def _show_title(self) -> None:
        info = self.session.info
        name = f"{info.name}[*] — Secateur" if info is not None else "Secateur"
        self.setWindowTitle(name)
        self.setWindowModified(info is not None and self.session.dirty)

    def _tell(self, text: str, level: str) -> None:
        if level == "info":
            self.status.tell(text)  # nothing to act on, so nothing moves
            return
        offers: list[Offer] = []
        if level == "error" and self.session.can_resume:
            offers.append(("notice_resume", "Resume run", self._resume))
        if self.session.engine_state == "failed":
            offers.append(("notice_restart", "Restart engine", self.session.restart_engine))
        if lines := self.session.faults.details.get(text):
            offers.append(("notice_details", "Details", lambda: self._show_details(lines)))
        self.notice.tell(text, level, tuple(offers))

    def _busy_changed(self) -> None:
        if self.session.busy:
            self.notice.hide()  # it spoke of what was before

    def _resume(self) -> None:
        self.notice.hide()
        self.session.resume_run()

    def _show_details(self, lines: tuple[str, ...]) -> None:
        from .details import DetailsDialog

        DetailsDialog(lines, self).show()

    def _ask_consent(self, address: str, message: str) -> None:
        from .look.dialogs import ask_consent

        ask_consent(self, message, lambda: self.session.open(address, trust=True))

    def _ask_data_consent(self, address: str, message: str) -> None:
        from .look.dialogs import ask_data_consent

        def agreed() -> None:
            self.session.pruning.agree_to_data(address)
            self.session.prune()

        ask_data_consent(self, message, agreed)

    # Commands

    def set_theme(self, choice: str) -> None:
        """Use ``dark``, ``light`` or ``system`` from now on."""
        self._settings.setValue(_THEME, choice)
        theme.apply(_application(), choice)
        self._mark_theme()

    def _mark_theme(self) -> None:
        for name in ("dark", "light", "system"):
            self.actions_[f"theme_{name}"].setChecked(theme.choice() == name)

    def export(self) -> None:
        """Open the export dialog."""
        from .runs.export_dialog import ExportDialog

        ExportDialog(self.session, self).show()

    def _open_file(self) -> None:
        from .look.dialogs import ask_file

        self._open(ask_file(self))

    def _open_folder(self) -> None:
        from .look.dialogs import ask_folder

        self._open(ask_folder(self, "Open a Hugging Face model or a project"))

    def _open(self, address: str) -> None:
        if address:
            self.session.open(address)

    def _open_address(self) -> None:
        from .look.dialogs import AddressDialog

        AddressDialog(self, self.session.open).show()

    def _new_network(self) -> None:
        from .new_network.dialog import NewNetworkDialog

        dialog = NewNetworkDialog(self.session, self)
        dialog.help_wanted.connect(self._show_guide)
        dialog.show()

    def _open_plan(self) -> None:
        from .look.dialogs import ask_plan

        if name := ask_plan(self):
            self._try(lambda: self.session.open_plan(Path(name)))

    def _save_plan(self) -> None:
        from .look.dialogs import PLANS, ask_save

        if name := ask_save(self, "Save the plan", Path("plan.yaml"), PLANS):
            self._try(lambda: self.session.save_plan(Path(name)))

    def _save_project(self) -> None:
        from .look.dialogs import ask_folder

        if name := ask_folder(self, "Save the project in a new or empty folder"):
            self._try(lambda: self.session.save_project(Path(name)))

    def _try(self, what: Callable[[], None]) -> None:
        try:
            what()
        except (BadInput, OSError) as error:
            self.session.notice.emit(str(error), "error")

    def _select_all(self) -> None:
        info = self.session.info
        if info is not None:
            self.session.select([layer.path for layer in info.prunable])

    def _focus_filter(self) -> None:
        self.docks.layers.show()
        self.layers.filter.setFocus()
        self.layers.filter.selectAll()

    def _fit(self) -> None:
        fit = getattr(self.canvas, "fit", None)
        if fit is not None:
            fit()

    def _ask_what(self) -> None:
        ask = getattr(self.canvas, "ask_what_to_measure", None)
        if ask is not None:
            ask()

    def _pause(self) -> None:
        paused = self.session.run.state == "paused"
        (self.session.unpause if paused else self.session.pause)()

    def _show_guide(self, page: str = "index.md") -> None:
        from .help import GuideDialog

        try:
            GuideDialog(self, page).show()
        except FileNotFoundError as error:
            self.session.notice.emit(str(error), "error")

    def _show_shortcuts(self) -> None:
        from .help import ShortcutsDialog

        ShortcutsDialog(self.actions_, self).show()

    def _show_about(self) -> None:
        from .help import about

        about(self, self.session.engine_text)

    def _quit(self) -> None:
        if self._may_leave():
            self.close()

    def _may_leave(self) -> bool:
        """Whether nothing would be lost; if something would, a question that can close us later."""
        session = self.session
        if not session.run.active:
            return True
        from .look.dialogs import ask_quit

        ask_quit(self, session.busy, self.close)
        return False

    # Qt's events

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if _dropped(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        path = _dropped(event)
        if path is not None:
            event.acceptProposedAction()
            if path.suffix in (".yaml", ".yml", ".json") and self.session.info is not None:
                self._try(lambda: self.session.open_plan(path))
            else:
                self.session.open(str(path))

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._laid_out:
            self._laid_out = True
            self.docks.reset()  # now its size is known

    def closeEvent(self, event: QCloseEvent) -> None:
        if event.spontaneous() and not self._may_leave():
            event.ignore()
            return
        self.docks.save(self._settings)
        self.session.close()
        super().closeEvent(event)


def saved_theme(settings: QSettings) -> str:
    """The person's choice of colours: ``dark``, ``light`` or ``system``."""
    choice = str(settings.value(_THEME, "system"))
    return choice if choice in theme.CHOICES else "system"


def _dropped(event: QDropEvent) -> Path | None:
    urls = event.mimeData().urls()
    return Path(urls[0].toLocalFile()) if len(urls) == 1 and urls[0].isLocalFile() else None


def _application() -> QApplication:
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    return app
