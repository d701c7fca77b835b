"""What the engine's process holds between requests: the open model, its run, its views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compiled_loops import CompiledLoops
from .control import Control
from .errors import BadInput
from .events import Event, Finished
from .info import LayerInfo
from .plan import Plan

if TYPE_CHECKING:
    from torch import Tensor

    from .masks import Masks
    from .models.model import Model
    from .runs.runner import Run
    from .topology import Topology
    from .views.views import Views


class Workspace:
    """One open model. Replaced as a whole by `open`, so that other threads see old or new.

    `loops` are those of the kernels, which jobs wait for where this machine lacks them.
    """

    def __init__(self) -> None:
        self.loops = CompiledLoops()
        self._open: tuple[Model, Views] | None = None
        self._trusts = False
        self._run: Run | None = None
        self._done: tuple[Model, Masks, dict[str, str]] | None = None
        self._topology: Topology | None = None

    def model(self) -> Model:
        """The open model; raises BadInput if there is none."""
        if self._open is None:
            raise BadInput("no model is open")
        return self._open[0]

    def views(self) -> Views:
        """Pictures of the open model; raises BadInput if there is none."""
        if self._open is None:
            raise BadInput("no model is open")
        return self._open[1]

    def current(self) -> tuple[Masks | None, Mapping[str, Tensor] | None]:
        """The masks to show (of the run under way, else of the last one) and trained weights."""
        if self._run is not None:
            return self._run.masks, None
        if self._done is not None:
            model, masks, _ = self._done
            return masks, model.state if model.state is not self.model().state else None
        return None, None

    def topology(self, path: str) -> tuple[LayerInfo, Topology | None, str | None]:
        """The layer, its masks and those before (of the run under way, else of the last one).

        And the address of the data where the layer is the first one and so reads it. Raises
        BadInput for a layer that there is not.
        """
        info = self.model().info
        try:
            layer = info.layer(path)
        except KeyError:
            raise BadInput(f"the model has no layer {path}") from None
        run, found, data = self._run, self._topology, info.data
        if run is not None:
            found, training = run.topology, run.plan.training
            data = (training and training.data) or data
        first = bool(info.prunable) and path == info.prunable[0].path
        return layer, found, data if first else None

    def pruned(self) -> tuple[Model, Masks | None, dict[str, str]]:
        """The model with the weights of the last run, its masks, and each layer's pattern.

        Before a run: the model as opened, None, and nothing.
        """
        if self._done is None:
            return self.model(), None, {}
        model, masks, labels = self._done
        return model, masks, labels

    def open(self, address: str, arch: str | None, trust: bool) -> dict[str, Any]:
        """Open a model or a project; on failure what was open stays."""
        from .models import open_model
        from .project import Project
        from .topology import Topology
        from .views.views import Views

        project, done = None, None
        if Project.is_project(Path(address)):
            opened = Project.open(address)
            model = opened.open_model(arch, trust)
            report = opened.report()
            if report is not None:
                done = (*opened.load(arch, trust), _labels(report))
            project = {"path": address, "plan": opened.plan.to_json(), "report": report}
        else:
            model = open_model(address, arch=arch, trust_pickle=trust)
        self._run, self._done = None, done
        self._topology = Topology(done[1], done[1].layers) if done is not None else None
        self._open, self._trusts = (model, Views(model)), trust
        return {"info": model.info.to_json(), "project": project}

    def load_project(self, folder: str, level: float | None = None) -> tuple[Model, Masks]:
        """A project's model and masks, of one of its levels if it has several.

        What the person agreed to for the open model holds here.
        """
        from .project import Project

        project = Project.open(folder)
        if self._open is None:
            return project.load(level=level)
        model = self._open[0]
        same = Path(project.address).resolve() == Path(model.address).resolve()
        return project.load(model.arch if same else None, same and self._trusts, level)

    def prune(
        self,
        plan: Plan,
        folder: Path,
        device: str,
        resume: bool,
        control: Control,
        trust_data: bool = False,
    ) -> Iterable[Event]:
        """Run a plan and write it as a project in `folder`; `trust_data` as for `Run`."""
        from .project import check_folder, make_folder
        from .runs.checkpoint import CHECKPOINT
        from .runs.runner import Run

        check_folder(folder)
        run = Run(
            self.model(),
            plan,
            control=control,
            folder=folder,
            device=device,
            trust_data=trust_data,
        )
        make_folder(folder)
        if not resume:
            (folder / CHECKPOINT).unlink(missing_ok=True)
        self._run = run
        try:
            for event in run.events():
                if isinstance(event, Finished):
                    event = self._finish(run, folder)
                yield event
        finally:
            self._run = None

    def _finish(self, run: Run, folder: Path) -> Finished:
        outcome = run.outcome
        assert outcome is not None
        result = outcome.save(folder)
        self._done = (outcome.model, outcome.masks, _labels(result))
        self._topology = run.topology
        return Finished(result)


def _labels(report: dict[str, Any]) -> dict[str, str]:
    return {layer["path"]: layer["pattern"] for layer in report["layers"]}
