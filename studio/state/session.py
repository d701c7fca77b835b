"""The one writer of the studio's state: panels read it, bind to its signals, call its actions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtGui import QUndoStack

from ...engine.info import ModelInfo
from ...engine.plan import Plan, Rule
from ...engine.project import save_as
from .assigned import Assigned
from .client import EngineClient
from .engine_life import EngineLife
from .exporting import Exporting
from .faults import Faults
from .home import Home, default_home
from .jobs import Jobs
from .kept_times import times_of
from .measuring import Measuring
from .opening import Opening
from .past_run import run_of, steps_per_epoch
from .plan_edits import PlanCommand, describe, title, with_sparsity
from .pruning import Pruning
from .run_state import RunState
from .why_not import engine_words, why_not


class Session(QObject):
    """The opened model, the plan with its undo stack, the selection, and the engine's work.

    `info` is None until a model is open. `selection` holds layer paths, `current` the one that the
    canvas shows, `marked` those that something under the pointer speaks of. `report` is the last
    run's result, `project` its folder. `opening`, `pruning`, `measuring`, `exporting` and `faults`
    are parts with state and signals of their own. `masks_lost` says that the engine with a stopped
    run's masks has gone. `busy` says in words what keeps the engine from starting something else.
    """

    model_changed = Signal()
    plan_changed = Signal()
    selection_changed = Signal()
    marked_changed = Signal()
    run_changed = Signal()
    engine_changed = Signal()
    masks_changed = Signal()
    busy_changed = Signal()
    notice = Signal(str, str)

    def __init__(
        self,
        client: EngineClient | None = None,
        home: Path | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.client = client if client is not None else EngineClient(parent=self)
        self.home = Home(home if home is not None else default_home())
        self.undo = QUndoStack(self)
        self.info: ModelInfo | None = None
        self.address = ""
        self.plan = Plan()
        self.selection: tuple[str, ...] = ()
        self.current: str | None = None
        self.marked: frozenset[str] = frozenset()
        self.report: dict[str, Any] | None = None
        self.project: Path | None = None
        self.busy = ""
        self._assigned = Assigned(self.plan, None)
        self._gesture = 0
        self._resume_wanted = False
        self.masks_lost = False
        self._jobs = Jobs(self.client, self)
        self._jobs.changed.connect(self._job_changed)
        self._jobs.masks.connect(self.masks_changed)
        self.faults = Faults(self)
        self.faults.notice.connect(self.notice)
        self.opening = Opening(self._jobs, self)
        self.opening.opened.connect(self._opened)
        self.opening.reopened.connect(self._reopened)
        self.pruning = Pruning(self._jobs, self)
        self.pruning.finished.connect(self._pruned)
        self.measuring = Measuring(self._jobs, self)
        self.measuring.kept.connect(self._times_kept)
        self.measuring.measured.connect(self.run_changed)
        self.measuring.notice.connect(self.notice)
        for part in (self.opening, self.pruning, self.measuring):
            part.failed.connect(self.faults.tell_failure)
        self.exporting = Exporting(self._jobs, self)
        self._life = EngineLife(self.client, self.faults, self)
        self._life.gone.connect(self._engine_gone)
        self._life.fresh.connect(self._reopen)
        self.client.state_changed.connect(self.engine_changed)
        self._keeping = QTimer(self, singleShot=True, interval=400)
        self._keeping.timeout.connect(self.keep_plan)

    # What panels read

    @property
    def run(self) -> RunState:
        """The run in the strip: the one under way, or the last one."""
        return self._jobs.run

    @property
    def engine_state(self) -> str:
        """``starting``, ``ready``, ``failed`` or ``stopped``."""
        return self.client.state

    @property
    def engine_text(self) -> str:
        """Where the engine computes, in words: ``CPU, 2 threads``."""
        return engine_words(self.client)

    @property
    def dirty(self) -> bool:
        """Whether the plan was changed since it was opened or saved."""
        return not self.undo.isClean()

    @property
    def preview_rule(self) -> Rule | None:
        """The plan's rule for the current layer, None where it stays dense."""
        return self.rule_for(self.current) if self.current is not None else None

    def rule_for(self, path: str) -> Rule | None:
        """The rule that a layer follows, None where it stays dense; quick for many layers."""
        return self.assigned.rule_for(path)

    @property
    def assigned(self) -> Assigned:
        """The plan on the opened model."""
        if self._assigned.plan is not self.plan or self._assigned.info is not self.info:
            self._assigned = Assigned(self.plan, self.info)
        return self._assigned

    @property
    def can_resume(self) -> bool:
        """Whether the last run stopped early and left a checkpoint, and an engine can go on."""
        can_run = not self.run.active and self.engine_state in ("starting", "ready")
        return can_run and self.pruning.has_checkpoint

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of one pass over the plan's data, None unless the last run has shown it."""
        return steps_per_epoch(self.plan, self.report)

    def run_folders(self) -> list[Path]:
        """Where finished runs may lie: those of this person, and the project that is open."""
        own = self.home.runs()
        extra = [self.project] if self.project is not None and self.project not in own else []
        return [*own, *extra]

    def why_not(self, action: str) -> str:
        """Why ``open``, ``prune``, ``measure`` or ``export`` can't be done now, else empty."""
        return why_not(self, action)

    def rules_in_use(self) -> Iterable[Rule]:
        """The rules with something to prune that match a prunable layer of the model."""
        for layer in self.info.prunable if self.info else ():
            rule = self.rule_for(layer.path)
            if rule is not None and rule.sparsity > 0:
                yield rule

    # Opening

    def open(
        self,
        address: str,
        arch: str | None = None,
        trust: bool = False,
        plan: Plan | None = None,
    ) -> None:
        """Open a model address or a project folder; `trust` runs a pickle's code.

        `plan` is the one to begin with, as a step that can be undone.
        """
        if self._refused("open"):
            return
        if Path(address).exists():
            address = str(Path(address).resolve())
        self.opening.start(address, arch, trust, plan)

    def _reopened(self) -> None:
        self.masks_changed.emit()
        if self._resume_wanted:
            self._resume_wanted = False
            self.resume_run()

    def _opened(self, result: dict[str, Any], plan: Plan | None) -> None:
        self.keep_plan()
        info = ModelInfo.from_json(result["info"])
        project = result.get("project")
        self.info, self.address = info, info.model
        self.report = self.project = self.exporting.result = self.pruning.interrupted = None
        self.undo.clear()
        kept = None
        if project is not None:
            self.plan = Plan.from_json(project["plan"])
            self.report = project.get("report")
            self.project = Path(project["path"]) if self.report else None
        else:
            kept = self.home.kept_plan(self.address)
            self.plan = kept or Plan(model=self.address)
        self.measuring.begin(times_of(self.report, self.client.hello))
        first = info.prunable[:1] or info.layers[:1]
        self.selection = tuple(layer.path for layer in first)
        self.current = self.selection[0] if self.selection else None
        done = run_of(self.report, f"Last run · {title(self.plan)}") if self.report else RunState()
        self._jobs.show(done)
        self.model_changed.emit()
        self.plan_changed.emit()
        self.selection_changed.emit()
        self.masks_changed.emit()
        if plan is not None:
            self.set_plan(plan, "new sparse network")
        elif kept is not None:
            self.notice.emit("Your plan for this model from last time is back.", "info")

    # Selection and plan

    def select(self, paths: Iterable[str], current: str | None = None) -> None:
        """Select layers; the canvas shows `current`, by default the first of them."""
        paths = tuple(paths)
        if current is None or current not in paths:
            current = self.current if self.current in paths else (paths[0] if paths else None)
        if (paths, current) != (self.selection, self.current):
            self.selection, self.current = paths, current
            self.selection_changed.emit()

    def mark(self, paths: Iterable[str]) -> None:
        """Mark layers in the tree, without selecting them."""
        marked = frozenset(paths)
        if marked != self.marked:
            self.marked = marked
            self.marked_changed.emit()

    def set_plan(self, plan: Plan, text: str) -> None:
        """Replace the plan as one step of the undo stack that says `text`."""
        self._push(plan, text, None)

    def set_rule(self, paths: Iterable[str], rule: Rule | None, text: str = "") -> None:
        """Let exactly the layers at `paths` follow `rule` (None: stay dense)."""
        paths = tuple(paths)
        if paths:
            self.set_plan(self.plan.with_rule(paths, rule), text or describe(paths, rule))

    def set_sparsity_live(self, paths: Iterable[str], sparsity: float) -> None:
        """Set the sparsity while a slider moves; one drag is one undo step."""
        paths = tuple(paths)
        plan = with_sparsity(self.plan, paths, sparsity)
        rule = next((r for r in map(plan.rule_for, paths) if r is not None), None)
        if plan != self.plan:
            self._push(plan, describe(paths, rule), self._gesture)

    def commit_sparsity(self) -> None:
        """The slider was let go: the next change is a step of its own."""
        self._gesture += 1

    def open_plan(self, path: Path, text: str = "") -> None:
        """Read a plan file for the opened model; raises BadInput."""
        plan = replace(Plan.load(path), model=self.address or None)
        self.set_plan(plan, text or f"open plan {path.name}")

    def save_plan(self, path: Path) -> None:
        """Write the plan as a file."""
        self.plan.save(path)
        self.undo.setClean()

    def save_project(self, path: Path) -> None:
        """Write a project folder: plan and model address, and the last run's results if any.

        Raises BadInput for a folder that holds something else.
        """
        save_as(path, self.address, self.opening.arch, self.plan, self.project)
        self.undo.setClean()
        self.notice.emit(f"Saved the project in {path}", "info")

    def keep_plan(self) -> None:
        """Write the autosave now."""
        self._keeping.stop()
        if self.info is not None:
            try:
                self.home.keep_plan(self.address, self.plan)
            except OSError as error:
                self.notice.emit(f"The plan could not be kept on disk: {error}", "warning")

    def _push(self, plan: Plan, text: str, gesture: int | None) -> None:
        if plan != self.plan:
            self.undo.push(PlanCommand(self._apply, self.plan, plan, text, gesture))

    def _apply(self, plan: Plan) -> None:
        self.plan = plan
        self._keeping.start()
        self.plan_changed.emit()

    # Runs

    def prune(self) -> None:
        """Run the plan into a fresh project folder."""
        if not self._refused("prune") and self.info is not None:
            self.masks_lost = False
            self.pruning.start(self.home.new_run(self.info.name), self.plan)

    def resume_run(self) -> None:
        """Go on with the run that was cancelled or whose engine died, from its checkpoint."""
        if self._jobs.kind == "open":
            self._resume_wanted = True  # a fresh engine is still reading the model
        elif self.pruning.interrupted is not None and not self._refused("open"):
            self.masks_lost = False
            self.pruning.start(*self.pruning.interrupted, resume=True)

    def _pruned(self, report: dict[str, Any], folder: Path) -> None:
        self.report, self.project = report, folder
        # Times of the run before this one say nothing of this one.
        self.measuring.found.forget_run()
        self.masks_changed.emit()
        self.run_changed.emit()

    def measure(self, **asked: Any) -> None:
        """Time dense against sparse: what is wanted, but for what is `asked` by the engine's names.

        Cells come one by one, and what can't be measured as rows with an error.
        """
        if not self._refused("measure"):
            self.measuring.start(asked, self.selection, self.report is not None, self.project)

    def _times_kept(self, report: dict[str, Any]) -> None:
        self.report = report

    def export(self, format: str, path: Path, level: float | None = None) -> None:
        """Write the last run's model as ``onnx``, ``safetensors``, ``compressed`` or ``nested``.

        `level` is one of the run's nested levels, None its loosest.
        """
        if not self._refused("export"):
            self.exporting.start(self.project, format, path, level)

    def cancel(self) -> None:
        """Stop the job that is under way; finished work stays in its checkpoint."""
        self._jobs.cancel()

    def pause(self) -> None:
        """Let the run wait."""
        self._jobs.pause(True)

    def unpause(self) -> None:
        """Let a paused run go on."""
        self._jobs.pause(False)

    def _refused(self, action: str) -> bool:
        reason = self.why_not(action)
        if reason:
            self.notice.emit(reason + ".", "warning")
        return bool(reason)

    def _job_changed(self) -> None:
        busy = self._jobs.title
        if busy != self.busy:
            self.busy = busy
            self.busy_changed.emit()
        self.run_changed.emit()

    # The engine's life

    def restart_engine(self) -> None:
        """Start a fresh engine and open the model in it again."""
        self._life.restart()

    def close(self) -> None:
        """Keep the plan and end the engine; nothing is left running."""
        self.keep_plan()
        self.undo.blockSignals(True)  # it would speak to panels that are already gone
        self.client.shutdown()

    def _engine_gone(self, reason: str) -> None:
        self._resume_wanted = False
        self._jobs.lost(reason)
        self.masks_lost = True  # of a run that did not finish
        self.masks_changed.emit()

    def _reopen(self) -> None:
        if self.info is not None:
            address = str(self.project) if self.project is not None else self.address
            self.opening.again(address)
