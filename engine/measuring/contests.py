"""Which forms of a layer or of the whole model race against which, and under what question."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...kernels.dispatch.calls import Call
from ...kernels.dispatch.candidates import EVERY, Candidates, Limits, candidates
from ...kernels.dispatch.host import facts, kernels
from ...kernels.dispatch.question import question_of
from ...kernels.dispatch.race import Form, runs
from ...kernels.modules.layers import matrix_of
from ..compaction import count
from ..dependencies import Channels
from .forms import fewer_outputs, replaced, with_mask
from .rig import Rig
from .trials import Trial

Json = dict[str, Any]
Make = Callable[[], nn.Module]


@dataclass(frozen=True)
class Contest:
    """One race to hold, if nobody remembers its answer.

    `question` is what decides its outcome; where it is the dispatcher's own, both share the answer.
    `standing` are the forms that certainly run, dense first; `sparse` makes the others, which are
    called with `x` and may refuse it. `paths` None: whatever an earlier race tried.
    """

    question: Json
    standing: Callable[[], list[Form]]
    sparse: Mapping[str, nn.Module] = field(default_factory=dict)
    x: Tensor | None = None
    paths: Collection[str] | None = None

    def forms(self) -> list[Form]:
        """Those that run."""
        found = self.standing()
        for path, module in self.sparse.items():
            if self.x is not None and runs(module, self.x):
                found.append(Form(path, module, (self.x,), {}))
        return found

    def form(self, path: str) -> Form:
        """One of them."""
        if path in self.sparse:
            return Form(path, self.sparse[path], (self.x,), {})
        return next(form for form in self.standing() if form.path == path)


def alone(rig: Rig, trial: Trial, path: str, channels: Channels, limits: Limits) -> Contest:
    """A layer by itself: dense, with fewer outputs, in the sparse forms that fit."""
    dense = rig.dense(path)
    (x,) = dense.args
    mask = trial.masks.layers[path].to(rig.device)
    if trial.removes and channels.fixed(path) is None:
        small = fewer_outputs(dense.module, mask.any(dim=1), x)
        if small is not None:
            left = {"outputs left": int(mask.any(dim=1).sum())}
            return _contest({**question_of(dense.module, x), **left}, [dense, small])
    gemm = rig.model.info.layer(path).gemm
    whole = gemm is None or matrix_of(dense.module) is None or bool(mask.all())
    if whole or (trial.removes and channels.fixed(path) is None):
        return _contest(question_of(dense.module, x), [dense])
    assert gemm is not None
    pruned = with_mask(dense.module, gemm.store(mask))
    return _contest(question_of(pruned, x), [dense], candidates(pruned, limits), x)


def compacted(
    rig: Rig, small: nn.Module, path: str, calls: Mapping[str, Call], limits: Limits
) -> Contest:
    """The layer as it is in the compacted model, and in the sparse forms that fit."""
    dense = rig.dense(path)
    layer = small.get_submodule(path)
    x = calls[path].example(rig.device) if path in calls else dense.args[0]
    found = candidates(layer, limits)
    question = question_of(layer, x)
    if count(layer) >= count(dense.module):
        return _contest(question, [dense], found, x)
    renamed = Candidates({f"compacted, {p}": partial(found.__getitem__, p) for p in found})
    question["compacted from"] = [repr(dense.module), list(dense.args[0].shape)]
    return _contest(question, [dense, Form("compacted", layer, (x,), {})], renamed, x)


def whole(rig: Rig, trial: Trial, digest: str) -> Contest:
    """The whole model: dense, compacted, and with the layers that won by themselves.

    `digest` is that of the model's weights.
    """
    winners = dict(trial.winners)

    def forms() -> list[Form]:
        found = [Form("dense", rig.module, rig.args, rig.kwargs)]
        if trial.removes and trial.small is None:
            trial.small = rig.compacted(trial.masks)
        name = "grouped" if all("grouped" in path for path, _ in winners.values()) else "sparse"
        base = rig.module
        if trial.small is not None and count(trial.small) < count(base):
            base, name = trial.small, f"compacted, {name}"
            found.append(Form("compacted", base, rig.args, rig.kwargs))
        layers = {path: _remade(trial, path) for path in winners}
        sparse = {path: layer for path, layer in layers.items() if layer is not None}
        if sparse:
            found.append(Form(name, replaced(base, sparse), rig.args, rig.kwargs))
        return found

    question = {
        "model": [rig.model.address, digest],
        "masks": trial.digest(),
        "removes": trial.removes,
        "layers": {path: form for path, (form, _) in winners.items()},
        "inputs": _shapes([rig.args, rig.kwargs]),
        "dtype": rig.dtype(None),
        "kernels": kernels(),
        **facts(rig.device),
    }
    return Contest(question, forms)


def _remade(trial: Trial, path: str) -> nn.Module | None:
    """A layer in the form that won, for the compacted model if there is one.

    There the layer may have lost inputs too, and with them the form: then None.
    """
    form, make = trial.winners[path]
    if trial.small is None:
        return make()
    found = candidates(trial.small.get_submodule(path), EVERY)
    name = form.removeprefix("compacted, ")
    return found.get(name)


def _contest(
    question: Json,
    standing: list[Form],
    sparse: Mapping[str, nn.Module] | None = None,
    x: Tensor | None = None,
) -> Contest:
    sparse = sparse or {}
    paths = {form.path for form in standing} | sparse.keys()
    return Contest(question, lambda: list(standing), sparse, x, paths)


def _shapes(value: Any) -> Any:
    """The shapes of all tensors in what a model is called with."""
    if isinstance(value, torch.Tensor):
        return list(value.shape)
    if isinstance(value, Mapping):
        return {name: _shapes(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_shapes(item) for item in value]
    return str(value)
