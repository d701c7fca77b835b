"""Choosing nested levels in a run, and what they come to (S4, shared-weights training)."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..allocation.bytes_ import Bytes
from ..allocation.flops import Flops
from ..errors import BadInput
from ..events import Event, Log, Progress
from ..export.storage import trial
from ..levels import SharedBytes
from ..masks import Masks
from ..models.model import Model
from ..nested import Levels
from ..plan import Plan, Rule
from ..report import LevelReport
from ..schedules.nested import Nested
from .pruner import Pruner
from .run_report import nonzeros_of


def loosest_rules(plan: Plan, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    """The rules as the run begins: nested levels stand in place of their sparsities.

    Raises BadInput for a plan whose levels could not share weights.
    """
    schedule = plan.schedule
    if not isinstance(schedule, Nested):
        return dict(rules)
    strictest = schedule.levels[-1]
    if isinstance(plan.allocation, Flops | Bytes):
        raise BadInput(
            f"allocation {plan.allocation.kind} has a target of its own and would make all nested "
            "levels alike; uniform, global or erk would do"
        )
    floor = getattr(plan.allocation, "floor", 0.0)
    if floor > 1 - strictest:
        raise BadInput(
            f"with a floor of {floor:g} the level {strictest:g} cannot be reached; lower the floor "
            "or the level"
        )
    if plan.take_zeros:
        raise BadInput(
            "take_zeros and schedule nested do not go together: leave take_zeros out, and zeros, "
            "which score lowest, are the first to go"
        )
    for path, rule in rules.items():
        if rule.criterion.updates_weights:
            raise BadInput(
                f"{path} would be scored by {rule.criterion.label}, which gives the kept weights "
                "new values at every sparsity, so that nested levels could not share them; "
                "magnitude or taylor would do"
            )
    return {path: replace(rule, sparsity=schedule.levels[0]) for path, rule in rules.items()}


def note_of(plan: Plan) -> tuple[str, ...]:
    """What is to be said of nested levels; nothing under another schedule."""
    if not isinstance(plan.schedule, Nested):
        return ()
    words = ", ".join(f"{level:g}" for level in plan.schedule.levels)
    trained = plan.training is not None and plan.training.epochs > 0
    how = "; only the loosest is trained" if trained else ""
    return (
        f"the levels {words} stand in place of the rules' sparsities{how}; all else in this report "
        f"is of the loosest, {plan.schedule.levels[0]:g}",
    )


@dataclass(frozen=True)
class Level:
    """One level as it was chosen: its sparsity, what each layer was to reach, its masks.

    `accuracy` is a fraction, None without data.
    """

    sparsity: float
    requested: Mapping[str, float]
    masks: Masks
    accuracy: float | None


def choose(
    pruner: Pruner, schedule: Nested, loosest: Level, accuracy: Callable[[Masks], float | None]
) -> Generator[Event, None, tuple[Level, ...]]:
    """All levels, from the loosest on, which is there already.

    Scores are of the pruner's weights of now. No layer gets denser from one level to the next,
    whatever the allocation says. `accuracy` measures the model under masks.
    """
    level, found = loosest, [loosest]
    for number, sparsity in enumerate(schedule.levels[1:], 1):
        yield Progress(number, len(schedule.levels), f"level {sparsity:g}")
        asked = pruner.sparsities(sparsity)
        wanted = {path: max(share, level.requested[path]) for path, share in asked.items()}
        before = level.masks.layers
        layers = {path: pruner.within(path, share, before[path]) for path, share in wanted.items()}
        masks = pruner.with_vectors(layers)
        level = Level(sparsity, wanted, masks, accuracy(masks))
        found.append(level)
    for level in found:
        if level.accuracy is not None:
            yield Log(f"level {level.sparsity:g}: accuracy {level.accuracy:.1%}")
    return tuple(found)


@dataclass(frozen=True)
class Nest:
    """The levels of a finished run: their masks, and what the report says of them."""

    levels: Levels
    reports: tuple[LevelReport, ...]
    shared: SharedBytes


def nest_of(model: Model, chosen: tuple[Level, ...], folder: Path | None) -> Nest:
    """Write each level and all together to a folder in `folder`, and look how large they are.

    All tensors are on the CPU.
    """
    levels = Levels(
        tuple(level.sparsity for level in chosen), tuple(level.masks.cpu() for level in chosen)
    )
    shared = shared_bytes(model, levels, folder)
    reports = []
    for level, masks, size in zip(chosen, levels.masks, shared.separate, strict=True):
        layers = {path: (level.requested[path], 1 - masks.density(path)) for path in masks.layers}
        reports.append(
            LevelReport(
                sparsity=level.sparsity,
                achieved=masks.sparsity,
                nonzeros=nonzeros_of(model, masks),
                accuracy=level.accuracy,
                bytes=size,
                layers=layers,
            )
        )
    return Nest(levels, tuple(reports), shared)


def shared_bytes(model: Model, levels: Levels, folder: Path | None = None) -> SharedBytes:
    """What one file with all `levels` takes, and one file for each; see `compressed_bytes`."""
    from ..export.base import Source
    from ..export.nested_file import NestedFile

    with trial(folder) as path:
        shared = NestedFile(levels).write(Source(model, levels.masks[0]), path).shared
    assert shared is not None
    return shared
