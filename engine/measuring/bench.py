"""The bench that `measure` works on: which forms of a layer or model race against which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.dispatch.calls import Call, recorded
from ...kernels.dispatch.candidates import SPARSE, candidates
from ...kernels.dispatch.race import DENSE, Form, race, runs, winner
from ...kernels.dispatch.timing import Timing
from ...kernels.modules.layers import matrix_of
from ..allocation import Share
from ..allocation.whole import choose_layers
from ..compaction import committed, compact, count
from ..control import Stopped
from ..criteria import CRITERIA
from ..dependencies import Channels, first_line, trace
from ..errors import BadInput
from ..gemm import Gemm
from ..masks import Masks
from ..models.model import Model
from ..patterns import Pattern
from .forms import fewer_outputs, replaced, with_mask

Json = dict[str, Any]


@dataclass
class Trial:
    """One set of masks to measure: a pruned project's, or one pattern at one sparsity."""

    masks: Masks
    labels: Mapping[str, str]
    removes: bool
    small: nn.Module | None = None
    winners: dict[str, Form] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One cell to come: the layer (None: whole model) and how to make its forms."""

    layer: str | None
    trial: Trial
    pattern: str
    kept: float
    forms: Callable[[], list[Form]]


class Bench:
    """The model on its device, what its layers are called with, and the timings so far."""

    def __init__(
        self,
        model: Model,
        batch: int,
        device: torch.device,
        seconds: float,
        cancel: Callable[[], bool],
    ) -> None:
        model.runnable()
        if model.inputs is None:
            raise BadInput(f"{model.address} cannot be measured: no example input is known for it")
        self.skipped: list[str] = []
        self._model, self._batch, self._device = model, batch, device
        self._seconds, self._cancel = seconds, cancel
        self._module = committed(model, Masks()).to(device)
        args, kwargs = model.inputs(batch)
        self._args = tuple(_to(arg, device) for arg in args)
        self._kwargs = {name: _to(arg, device) for name, arg in kwargs.items()}
        paths = [layer.path for layer in model.info.prunable]
        try:
            self._calls = recorded(self._module, self._args, self._kwargs, paths)
        except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
            raise BadInput(
                f"{model.address} cannot be measured: it fails on an example input of batch "
                f"{batch}: {first_line(error)}"
            ) from None
        self._dense: dict[str | None, Timing] = {}

    def pruned(
        self, masks: Masks, paths: list[str], labels: Mapping[str, str]
    ) -> tuple[int, Iterator[Task]]:
        """The cells of a pruned model: its pruned layers among `paths`, then all of it."""
        names = {p: labels.get(p) or _looks_like(mask) for p, mask in masks.layers.items()}
        trial = Trial(masks, names, removes=True)
        small = trial.small = self._compacted(masks)
        calls = recorded(small, self._args, self._kwargs, masks.layers)
        chosen = self._alone_among([path for path in paths if path in masks.layers])

        def tasks() -> Iterator[Task]:
            for path in chosen:
                forms = self._in_small(small, path, calls)
                yield Task(path, trial, names[path], masks.density(path), forms)
            yield self._whole(trial)

        return len(chosen) + 1, tasks()

    def planned(
        self, paths: list[str], patterns: list[Pattern], sparsities: Sequence[float]
    ) -> tuple[int, Iterator[Task]]:
        """The cells of layers by patterns by sparsities; masks are made as they are needed."""
        for sparsity in sparsities:
            if not 0 <= sparsity < 1:
                raise BadInput(f"sparsity must be at least 0 and below 1, not {sparsity:g}")
        alone = set(self._alone_among(paths))
        all_of_it = len(paths) == len(self._model.info.prunable)
        combinations = []
        for pattern in patterns:
            fits = self._fitting(pattern, paths)
            if not fits:
                raise BadInput(f"none of the layers can take the pattern {_word(pattern)}")
            fixed = pattern.fixed_sparsity
            for sparsity in sparsities if fixed is None else (fixed,):
                combinations.append((pattern, sparsity, fits))
        total = sum(len(alone & set(fits)) + all_of_it for _, _, fits in combinations)
        removing = any(pattern.removes for pattern in patterns)
        channels = trace(self._model) if removing else Channels()

        def tasks() -> Iterator[Task]:
            for pattern, sparsity, fits in combinations:
                trial = self._trial(pattern, sparsity, fits, channels)
                for path in (p for p in fits if p in alone):
                    kept = trial.masks.density(path)
                    forms = self._alone(trial, path, channels)
                    yield Task(path, trial, trial.labels[path], kept, forms)
                if all_of_it:
                    yield self._whole(trial)

        return total, tasks()

    def cell(self, task: Task) -> Json:
        """Time a task's forms; raises Stopped, and whatever a form raises when it runs."""
        forms = task.forms()
        if len(forms) == 1 and task.layer in self._dense:
            times = {DENSE: self._dense[task.layer]}
        else:
            times = self._race(forms)
            self._dense[task.layer] = times[DENSE]
        dense = times[DENSE]
        best = winner(times)
        if task.layer is not None and best != DENSE:
            task.trial.winners[task.layer] = next(form for form in forms if form.path == best)
        ran = times[best]
        layer = None if task.layer is None else self._model.info.layer(task.layer)
        return {
            "model": self._model.address,
            "layer": task.layer,
            "pattern": task.pattern,
            "kept": task.kept,
            "batch": self._batch,
            "dtype": layer.dtype if layer else self._dtype(),
            "device": self._device.type,
            "ran": best,
            "dense_ms": dense.median_ms,
            "ms": ran.median_ms,
            "speedup": dense.median_ms / ran.median_ms,
            "spread": max(dense.spread, ran.spread),
            "tried": [
                {"path": path, "ms": timing.median_ms}
                for path, timing in times.items()
                if path not in (best, DENSE)
            ],
        }

    def _race(self, forms: list[Form]) -> dict[str, Timing]:
        return race(forms, seconds=self._seconds, device=self._device.type, check=self._check)

    def _check(self) -> None:
        if self._cancel():
            raise Stopped

    def _fitting(self, pattern: Pattern, paths: list[str]) -> list[str]:
        """Those of `paths` that can take the pattern; says for each reason once which can't."""
        misfits: dict[str, list[str]] = {}
        fits = []
        for path in paths:
            misfit = pattern.misfit(self._model.info.layer(path))
            if misfit is None:
                fits.append(path)
            else:
                misfits.setdefault(misfit, []).append(path)
        for misfit, [first, *others] in misfits.items():
            self._skip(f"{first} {misfit}" + (f" (and {len(others)} more)" if others else ""))
        return fits

    def _trial(
        self, pattern: Pattern, sparsity: float, paths: list[str], channels: Channels
    ) -> Trial:
        """Masks by magnitude, with what goes along with removed outputs."""
        masks = Masks()
        for path, share in self._wanted(pattern, sparsity, paths).items():
            gemm = self._model.info.layer(path).gemm
            masks.layers[path] = pattern.mask(self._scores(path), share, gemm)
            if pattern.removes:
                alive = masks.layers[path].any(dim=1)
                for name in channels.vectors(path):
                    masks.vectors[name] = masks.vectors.get(name, alive) & alive
        return Trial(masks, dict.fromkeys(paths, _word(pattern)), pattern.removes)

    def _wanted(self, pattern: Pattern, sparsity: float, paths: list[str]) -> dict[str, float]:
        """The same sparsity for every layer; 0 or 1 where layers go or stay as a whole."""
        if not pattern.whole:
            return dict.fromkeys(paths, sparsity)
        shares = {}
        for path in paths:
            scores = self._scores(path)
            gemm = Gemm(tuple(scores.shape))
            shares[path] = Share(sparsity, gemm, partial(pattern.pool, scores, gemm))
        return choose_layers(shares)

    def _scores(self, path: str) -> Tensor:
        return CRITERIA.parse("magnitude").scores(self._model.matrix(path))

    def _alone_among(self, paths: list[str]) -> list[str]:
        """Those of `paths` that can be measured by themselves; says once which can't, and why."""
        others = [path for path in paths if path not in self._calls]
        if others:
            more = f" and {len(others) - 1} more are" if len(others) > 1 else " is"
            self._skip(
                f"{others[0]}{more} not measured alone: a part of another module, or the example "
                "input does not reach it as one tensor"
            )
        return [path for path in paths if path in self._calls]

    def _skip(self, reason: str) -> None:
        if reason not in self.skipped:
            self.skipped.append(reason)

    def _dense_form(self, path: str) -> tuple[Form, Tensor]:
        x = self._calls[path].example(self._device)
        return Form(DENSE, self._module.get_submodule(path), (x,), {}), x

    def _alone(self, trial: Trial, path: str, channels: Channels) -> Callable[[], list[Form]]:
        """The layer by itself: dense, with fewer outputs, in the sparse forms that fit."""

        def forms() -> list[Form]:
            dense, x = self._dense_form(path)
            mask = trial.masks.layers[path].to(self._device)
            if trial.removes and channels.fixed(path) is None:
                small = fewer_outputs(dense.module, mask.any(dim=1), x)
                return [dense, *([small] if small else [])]
            gemm = self._model.info.layer(path).gemm
            if gemm is None or matrix_of(dense.module) is None or bool(mask.all()):
                return [dense]
            pruned = with_mask(dense.module, gemm.store(mask))
            found = ((name, m) for name, m in candidates(pruned).items() if runs(m, x))
            return [dense, *(Form(name, m, (x,), {}) for name, m in found)]

        return forms

    def _in_small(
        self, small: nn.Module, path: str, calls: Mapping[str, Call]
    ) -> Callable[[], list[Form]]:
        """The layer as it is in the compacted model, and in the sparse forms that fit."""

        def forms() -> list[Form]:
            dense, x = self._dense_form(path)
            layer = small.get_submodule(path)
            given = calls[path].example(self._device) if path in calls else x
            smaller = count(layer) < count(dense.module)
            found = [Form("compacted", layer, (given,), {})] if smaller else []
            for name, module in candidates(layer).items():
                path_of = f"compacted, {name}" if smaller else name
                if runs(module, given):
                    found.append(Form(path_of, module, (given,), {}))
            return [dense, *found]

        return forms

    def _whole(self, trial: Trial) -> Task:
        """The whole model: dense, compacted, and with the layers that won by themselves."""
        sizes = {
            i.path: i.gemm.shape[0] * i.gemm.shape[1] for i in self._model.info.prunable if i.gemm
        }
        gone = sum(sizes[p] * (1 - trial.masks.density(p)) for p in trial.masks.layers)
        names = sorted(set(trial.labels.values()))
        label = names[0] if len(names) == 1 else "mixed"

        def forms() -> list[Form]:
            found = [Form(DENSE, self._module, self._args, self._kwargs)]
            if trial.removes and trial.small is None:
                trial.small = self._compacted(trial.masks)
            won = {p: f for p, f in trial.winners.items() if isinstance(f.module, SPARSE)}
            name = "grouped" if all("grouped" in f.path for f in won.values()) else "sparse"
            base = self._module
            if trial.small is not None and count(trial.small) < count(self._module):
                base, name = trial.small, f"compacted, {name}"
                found.append(Form("compacted", base, self._args, self._kwargs))
            if won:
                faster = replaced(base, {p: form.module for p, form in won.items()})
                found.append(Form(name, faster, self._args, self._kwargs))
            return found

        kept = 1 - gone / max(sum(sizes.values()), 1)
        return Task(None, trial, label, kept, forms)

    def _compacted(self, masks: Masks) -> nn.Module:
        return compact(self._model, masks).module.to(self._device)

    def _dtype(self) -> str:
        kinds = {p.dtype for p in self._module.parameters() if p.is_floating_point()}
        return "mixed" if len(kinds) > 1 else str(next(iter(kinds))).removeprefix("torch.")


def _word(pattern: Pattern) -> str:
    word = pattern.to_plan()
    return word if isinstance(word, str) else str(word["kind"])


def _looks_like(mask: Tensor) -> str:
    """The pattern that a mask shows: whole columns, whole rows, both, or neither."""
    rows, columns = mask.any(dim=1), mask.any(dim=0)
    if not bool((mask == rows[:, None] & columns).all()):
        return "mask"
    if bool(rows.all()):
        return "group"
    return "filter" if bool(columns.all()) else "group, filter"


def _to(value: Any, device: torch.device) -> Any:
    """An example input on the device, in whatever it is wrapped."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, (tuple, list)):
        return type(value)(_to(item, device) for item in value)
    return value
