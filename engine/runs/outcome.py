"""What a finished run leaves: the model, its masks, the report; written as a project on demand."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..masks import Masks, masked
from ..models.model import Model
from ..nested import Levels
from ..plan import Plan
from ..project import make_folder, save_run
from ..report import Report


@dataclass
class Outcome:
    """What a finished run of `plan` leaves: `model` computes with its new weights, without masks.

    `trained` says that the weights are not those that were loaded: by training, or because a
    criterion updates them. `levels` are there where masks are nested, and `masks` the loosest.
    """

    model: Model
    plan: Plan
    masks: Masks
    report: Report
    trained: bool
    levels: Levels | None = None

    def pruned(self) -> nn.Module:
        """A copy of the module with zeros where it was pruned, on the CPU.

        Its shapes are the model's; an export is smaller. Raises BadInput for a model that has
        weights alone.
        """
        with masked(self.model, self.masks):
            return copy.deepcopy(self.model.runnable())

    def save(self, folder: str | Path) -> dict[str, Any]:
        """Write the run as a project, in place of one that is there; gives its report.

        Raises BadInput for a folder that holds something else or cannot be written to.
        """
        folder = Path(folder)
        make_folder(folder)
        report = {**self.report.to_json(), "project": str(folder)}
        save_run(folder, self.model, self.trained, self.masks, report, self.plan, self.levels)
        return report
