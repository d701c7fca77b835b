"""Which channels hang together in a model, so that removing one removes all that belongs to it.

The model's code is traced symbolically and followed operation by operation. Only what is exact is
said: an operation that is not known lets the channels that it touches stay, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import nn

from ..models.model import Model
from .spaces import Flags, Ids
from .walk import Walk, axes, is_depthwise, traced

Kept = Mapping[str, Flags]


@dataclass(frozen=True)
class Channels:
    """What is known of a model's channels.

    `problem` says why the model could not be followed at all, None if it was. `outputs`, `inputs`
    and `norms` hold by path a bool array [channels] (for a linear layer [features]), True where
    the channel is needed: a channel is not needed where everything that reads it reads exact
    zeros, or has only zero weights on it, and nothing forbids its removal.
    """

    problem: str | None = None
    outputs: Kept = field(default_factory=dict)
    inputs: Kept = field(default_factory=dict)
    norms: Kept = field(default_factory=dict)
    _vectors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _consumers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _partners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    _fixed: Mapping[str, str] = field(default_factory=dict)
    _opaque: Mapping[str, str] = field(default_factory=dict)

    def vectors(self, path: str) -> tuple[str, ...]:
        """Names of the 1-d parameters whose entries go to zero with the layer's removed outputs.

        Its own bias, and weight and bias of a norm that sees this layer's outputs and no others;
        each has one entry for each output. Of a layer that is not followed only the bias is known.
        """
        return self._vectors.get(path, ())

    def consumers(self, path: str) -> tuple[str, ...]:
        """The layers that read this layer's outputs."""
        return self._consumers.get(path, ())

    def fixed(self, path: str) -> str | None:
        """Why no output of the layer can be removed from the model, None if they can."""
        if self.problem is not None:
            return self.problem
        if path in self._fixed:
            return self._fixed[path]
        if path in self.outputs:
            return None
        around = [p for p in self._opaque if f"{path}.".startswith(f"{p}.")]
        if around:
            return self._opaque[max(around, key=len)]
        return "the model does not use it for its example input"

    def partners(self, path: str) -> tuple[str, ...]:
        """The layers whose outputs go only together with this layer's."""
        return self._partners.get(path, ())

    def also(self, path: str) -> tuple[str, ...]:
        """The layers that shrink along with this layer's outputs: their outputs or their inputs."""
        if self.fixed(path) is not None:
            return ()
        partners = self.partners(path)
        return (*partners, *(c for c in self.consumers(path) if c not in partners))


def trace(model: Model) -> Channels:
    """Follow the channels of a model. Never raises: what can't be followed is fixed, and why.

    Runs the model once on an example of one. Weights that are zero already count as zero.
    """
    if model.module is None:
        channels = Channels("the file holds weights only, so what follows a layer is not known")
    elif model.inputs is None:
        channels = Channels("no example input is known, so the model could not be traced")
    else:
        args, kwargs = model.inputs(1)
        channels = trace_module(model.module, args, kwargs)
    vectors = _own_biases(model)
    for path, names in channels._vectors.items():
        own = vectors.get(path, ())
        vectors[path] = (*own, *(name for name in names if name not in own))
    return replace(channels, _vectors=vectors)


def _own_biases(model: Model) -> dict[str, tuple[str, ...]]:
    """The bias that belongs to each layer's weight, known even where nothing could be traced."""
    biases: dict[str, tuple[str, ...]] = {}
    for layer in model.info.layers:
        name = "bias".join(layer.weight.rsplit("weight", 1))
        bias = model.state.get(name) if name != layer.weight else None
        if bias is not None and layer.gemm and tuple(bias.shape) == layer.gemm.shape[:1]:
            biases[layer.path] = (name,)
    return biases


def trace_module(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Channels:
    """Like `trace`, for a module in eval mode and one example of its inputs."""
    try:
        graph, shapes = traced(module, args, kwargs)
        return _resolve(Walk(module, graph, shapes))
    except Exception as error:  # whatever a stranger's forward raises when it is traced
        # What torch.fx stumbles over inside says nothing to a person; its kind is kept for reports.
        name, kind = type(module).__name__, type(error).__name__
        return Channels(f"the code of {name} cannot be traced by torch.fx ({kind})")


def first_line(error: Exception) -> str:
    """What an error says, shortened to its first line, after its type."""
    return ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])


def _resolve(walk: Walk) -> Channels:
    classes = walk.spaces.classes()
    reasons = walk.spaces.reasons()
    needed = np.zeros(len(classes), dtype=np.bool_)
    needed[list(reasons)] = True
    for _, atoms, spare in walk.consumed:
        needed[classes[atoms[~spare]]] = True
    # A tensor without channels is no tensor: the first one of each stays.
    for atoms in [*walk.made.values(), *walk.tensors]:
        if len(atoms) and not needed[classes[atoms]].any():
            needed[classes[atoms[0]]] = True

    def kept(known: dict[str, Ids]) -> dict[str, Flags]:
        return {path: needed[classes[atoms]] for path, atoms in known.items()}

    members = {path: set(classes[atoms].tolist()) for path, atoms in walk.made.items()}
    read: dict[str, set[int]] = {}
    for path, atoms, _ in walk.consumed:
        read.setdefault(path, set()).update(classes[atoms].tolist())
    fixed = {}
    for path, own in members.items():
        if all(c in reasons for c in own):
            fixed[path] = reasons[min(own)]
    consumers, partners = {}, {}
    for path, own in members.items():
        consumers[path] = tuple(r for r in read if not read[r].isdisjoint(own))
        partners[path] = tuple(p for p in members if p != path and not members[p].isdisjoint(own))
    return Channels(
        outputs=kept(walk.made),
        inputs=kept(walk.read),
        norms=kept(walk.norms),
        _vectors={path: tuple(names) for path, names in walk.vectors.items()},
        _consumers=consumers,
        _partners=partners,
        _fixed=fixed,
        _opaque=walk.opaque,
    )


__all__ = ["Channels", "axes", "first_line", "is_depthwise", "trace", "trace_module"]
