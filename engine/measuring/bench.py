"""The cells to measure in one setting, in order, and each cell's measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...kernels.dispatch.calls import recorded
from ...kernels.dispatch.candidates import MAY_WIN, Limits
from ...kernels.dispatch.peaks import Peaks, peaks
from ...kernels.dispatch.race import DENSE
from ...kernels.dispatch.stopwatch import Stopwatch
from ...kernels.modules.work import Work, work
from ..dependencies import Channels, trace
from ..errors import BadInput
from ..masks import Masks
from ..patterns import Pattern
from ..verdicts import verdict
from .breakdown import breakdown
from .cell_times import cell_times
from .contests import Contest, alone, compacted, whole
from .rig import Rig
from .trials import Trial, as_pruned, by_magnitude, word

Json = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One cell to come: the layer (None: whole model) and how to set up its race."""

    layer: str | None
    trial: Trial
    pattern: str
    kept: float
    contest: Callable[[], Contest]


class Bench:
    """One setting's model and stopwatch; `digest` is that of the weights.

    `limits` say which forms are tried, `by_steps` that their steps are timed too. `lone` are the
    layers that can't run alone, `misfits` the patterns that don't fit, in words.
    """

    def __init__(
        self,
        rig: Rig,
        stopwatch: Stopwatch,
        digest: str,
        limits: Limits = MAY_WIN,
        by_steps: bool = False,
    ) -> None:
        self.lone: list[str] = []
        self.misfits: dict[str, str] = {}
        self._rig, self._stopwatch, self._digest, self._limits = rig, stopwatch, digest, limits
        self._by_steps = by_steps
        stopwatch.check()
        self.peaks: Peaks = peaks(rig.device, rig.dtypes, stopwatch.memory)

    def pruned(
        self, masks: Masks, paths: list[str], labels: Mapping[str, str]
    ) -> tuple[int, Iterator[Task]]:
        """The cells of a pruned model: its pruned layers among `paths`, then all of it."""
        trial = as_pruned(masks, labels)
        small = trial.small = self._rig.compacted(masks)
        calls = recorded(small, self._rig.args, self._rig.kwargs, masks.layers)
        chosen = self._alone_among([path for path in paths if path in masks.layers])

        def tasks() -> Iterator[Task]:
            for path in chosen:
                contest = partial(compacted, self._rig, small, path, calls, self._limits)
                yield Task(path, trial, trial.labels[path], masks.density(path), contest)
            yield self._whole(trial)

        return len(chosen) + 1, tasks()

    def planned(
        self, paths: list[str], patterns: list[Pattern], sparsities: Sequence[float]
    ) -> tuple[int, Iterator[Task]]:
        """The cells of layers by patterns by sparsities; masks are made as they are needed."""
        model = self._rig.model
        running = set(self._alone_among(paths))
        all_of_it = len(paths) == len(model.info.prunable)
        combinations = []
        for pattern in patterns:
            fits = self._fitting(pattern, paths)
            if not fits:
                raise BadInput(f"none of the layers can take the pattern {word(pattern)}")
            fixed = pattern.fixed_sparsity
            for sparsity in sparsities if fixed is None else (fixed,):
                combinations.append((pattern, sparsity, fits))
        total = sum(len(running & set(fits)) + all_of_it for _, _, fits in combinations)
        removing = any(pattern.removes for pattern in patterns)
        channels = trace(model) if removing else Channels()

        def tasks() -> Iterator[Task]:
            for pattern, sparsity, fits in combinations:
                check = self._stopwatch.check
                trial = by_magnitude(model, pattern, sparsity, fits, channels, check)
                for path in (p for p in fits if p in running):
                    contest = partial(alone, self._rig, trial, path, channels, self._limits)
                    yield Task(path, trial, word(pattern), trial.masks.density(path), contest)
                if all_of_it:
                    yield self._whole(trial)

        return total, tasks()

    def dtype(self, path: str | None) -> str:
        """What a layer, or the model (None), computes in."""
        return self._rig.dtype(path)

    def cell(self, task: Task) -> Json:
        """Measure a task; raises Stopped, and whatever a form raises when it runs."""
        contest = task.contest()
        answer = self._stopwatch.answer(
            contest.question, contest.paths, contest.forms, self._rig.device
        )
        ran = answer.winner
        if task.layer is not None and ran in contest.sparse:
            make = partial(contest.sparse.__getitem__, ran)
            task.trial.winners[task.layer] = ran, make
        dtype = self._rig.dtype(task.layer)
        cell = {
            "model": self._rig.model.address,
            "layer": task.layer,
            "pattern": task.pattern,
            "kept": task.kept,
            "batch": self._rig.setting.batch,
            "dtype": dtype,
            "device": self._rig.device.type,
            "ran": ran,
            **cell_times(answer.times, ran, (p for p in answer.times if p not in (DENSE, ran))),
            "disturbed": answer.disturbed,
            "cached": answer.remembered,
            "crossover": None,
            "steps": [],
        }
        if self._by_steps and task.layer is not None:
            cell["steps"] = breakdown(contest, answer, self._stopwatch, self._rig.device)
        done = self._work(contest, ran)
        cell["roofline"] = self.peaks.roofline(done, dtype, cell["ms"])
        cell["verdict"] = verdict(cell, busy=answer.doubtful)
        return cell

    def _work(self, contest: Contest, path: str) -> Work:
        """What the form that ran computes and moves; found once, as it takes a run."""
        question = {**contest.question, "work of": path}
        known = self._stopwatch.memory.get(question)
        if known is not None:
            return Work(known["operations"], known["bytes"])
        form = contest.form(path)
        found = work(form.module, form.args, form.kwargs)
        self._stopwatch.memory.put(question, {"operations": found.operations, "bytes": found.bytes})
        return found

    def _whole(self, trial: Trial) -> Task:
        contest = partial(whole, self._rig, trial, self._digest)
        return Task(None, trial, trial.label, trial.kept(self._rig.model), contest)

    def _alone_among(self, paths: list[str]) -> list[str]:
        """Those of `paths` that can be measured by themselves; keeps which can't."""
        self.lone += [p for p in paths if p not in self._rig.calls and p not in self.lone]
        return [path for path in paths if path in self._rig.calls]

    def _fitting(self, pattern: Pattern, paths: list[str]) -> list[str]:
        """Those of `paths` that can take the pattern; says for each reason once which can't."""
        misfits: dict[str, list[str]] = {}
        fits = []
        for path in paths:
            misfit = pattern.misfit(self._rig.model.info.layer(path))
            if misfit is None:
                fits.append(path)
            else:
                misfits.setdefault(misfit, []).append(path)
        for misfit, [first, *others] in misfits.items():
            more = f" (and {len(others)} more)" if others else ""
            self.misfits[misfit] = f"{first} {misfit}{more}"
        return fits
