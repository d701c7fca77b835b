"""What is known of a model's channels, by the paths of its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ..info import LayerInfo
from .ids import Flags, Ids
from .order import Order, find_order
from .record import Recording
from .resolve import Classes, resolve


@dataclass(frozen=True)
class Row:
    """Where a layer's matrix is: the parameter's name, and the dimensions of outputs and inputs."""

    weight: str
    out: int = 0
    into: int = 1

    @classmethod
    def of(cls, layer: LayerInfo) -> Row:
        """The row of a layer that has a matrix."""
        turned = layer.gemm is not None and layer.gemm.transposed
        return cls(layer.weight, int(turned), int(not turned))


@dataclass(frozen=True)
class Channels:
    """What is known of a model's channels.

    `problem` says why the model could not be followed at all, None if it was. `note` is a sentence
    on what the trace could not see, empty if it saw all.
    """

    problem: str | None = None
    note: str = ""
    rows: Mapping[str, Row] = field(default_factory=dict)
    biases: Mapping[str, str] = field(default_factory=dict)
    recording: Recording | None = field(default=None, repr=False)

    @cached_property
    def classes(self) -> Classes:
        """The classes of all ids of the recording."""
        assert self.recording is not None
        return resolve(self.recording)

    def kept(self) -> dict[str, dict[int, Flags]]:
        """By parameter and dimension which entries are needed, bool [size], where some are not.

        A channel is not needed where everything that reads it reads exact zeros, or has only zero
        weights on it, and nothing forbids its removal.
        """
        result: dict[str, dict[int, Flags]] = {}
        if self.recording is None:
            return result
        for name, dims in self.recording.dims.items():
            for dim, ids in enumerate(dims):
                if ids is not None and not (flags := self.classes.needed[ids]).all():
                    result.setdefault(name, {})[dim] = flags
        return result

    def units(self, path: str) -> Ids:
        """The class of each output of a layer, int64 [outputs]; -1 for one that must stay."""
        ids = self._ids(path, "out")
        if ids is None:
            return np.full(1, -1, dtype=np.int64)
        classes = self.classes.full[ids]
        stays = np.array([c in self.classes.reasons for c in classes.tolist()], dtype=np.bool_)
        return np.where(stays, -1, classes)

    def lines(self, path: str) -> tuple[Ids, Ids] | None:
        """The class of each output and of each input channel of a layer, int64; None: not known."""
        out, into = self._ids(path, "out"), self._ids(path, "into")
        if out is None or into is None:
            return None
        return self.classes.full[out], self.classes.full[into]

    @property
    def outputs(self) -> dict[str, Flags]:
        """By layer which outputs are needed, bool [outputs]."""
        return self._needed("out")

    @property
    def inputs(self) -> dict[str, Flags]:
        """By layer which input channels are needed, bool [channels]."""
        return self._needed("into")

    def _needed(self, side: str) -> dict[str, Flags]:
        result = {}
        for path in self.rows:
            ids = self._ids(path, side)
            if ids is not None:
                result[path] = self.classes.needed[ids]
        return result

    def vectors(self, path: str) -> tuple[str, ...]:
        """Names of the 1-d parameters whose entries go to zero with the layer's removed outputs.

        Its own bias, and weight and bias of a norm that sees this layer's outputs and no others;
        each has one entry for each output. Of a layer that is not followed only the bias is known.
        """
        own = (self.biases[path],) if path in self.biases else ()
        row = self.rows.get(path)
        if self.recording is None or row is None:
            return own
        dims = self.recording.dims
        outs = self._ids(path, "out")
        size = 1 if outs is None else len(outs)
        norms = self.recording.vectors.get(self._home(row.weight), [])
        lengths = {n: 1 if (ids := dims[n][0]) is None else len(ids) for n in norms}
        return (*own, *(n for n in norms if lengths[n] == size and n not in own))

    def consumers(self, path: str) -> tuple[str, ...]:
        """The layers that read this layer's outputs."""
        return self._sharing(path, "into")

    def partners(self, path: str) -> tuple[str, ...]:
        """The layers whose outputs go only together with this layer's."""
        return tuple(p for p in self._sharing(path, "out") if p != path)

    def fixed(self, path: str) -> str | None:
        """Why no output of the layer can be removed from the model, None if they can."""
        if self.problem is not None:
            return self.problem
        row = self.rows.get(path)
        if self.recording is None or row is None or self._home(row.weight) not in self._used:
            return "the model does not use it for its example input"
        ids = self._ids(path, "out")
        if ids is None:
            return "it has one output only"
        classes = self.classes.full[ids]
        if len(free := np.unique(classes)) == 1 and int(free[0]) not in self.classes.reasons:
            return "its outputs go only together, all of them"
        reasons = self.classes.reasons
        if all(c in reasons for c in classes.tolist()):
            return reasons[int(classes.min())]
        return None

    def also(self, path: str) -> tuple[str, ...]:
        """The layers that shrink along with this layer's outputs: their outputs or their inputs."""
        if self.fixed(path) is not None:
            return ()
        partners = self.partners(path)
        return (*partners, *(c for c in self.consumers(path) if c not in partners))

    def heads(self, path: str) -> int | None:
        """Columns of the layer's W for each attention head that it reads; None if it reads none.

        Where several heads of queries share one of keys, they count as one.
        """
        if self.recording is None or path not in self.rows or self._attending is None:
            return None
        ids = self._ids(path, "into")
        if ids is None or self.recording.dims[self.rows[path].weight][2:]:
            return None
        classes = self.classes.full[ids]
        starts = np.flatnonzero(np.diff(classes, prepend=-1))
        size, rest = divmod(len(classes), len(starts))
        even = not rest and size > 1 and np.array_equal(starts, np.arange(0, len(classes), size))
        alone = len(np.unique(classes)) == len(starts) > 1
        return size if even and alone and bool(self._attending[classes].all()) else None

    def branch(self, path: str) -> bool:
        """Whether the layer ends a residual branch, which adds nothing once its weights are zero.

        Between its outputs and the addition are at most a batch norm and scales.
        """
        row = self.rows.get(path)
        if self.recording is None or row is None:
            return False
        return self._home(row.weight) in self.recording.branches

    def order(self, path: str) -> Order | str:
        """What must be put in another order along with the layer's input channels.

        In words where they can't be, exactly.
        """
        if self.problem is not None or self.recording is None:
            return self.problem or "the model was not traced"
        ids = self._ids(path, "into")
        if ids is None:
            return "it reads one channel only"
        readers = {path: (row.weight, row.into) for path, row in self.rows.items()}
        return find_order(self.recording, self.classes, ids, readers)

    # The recording by path

    @cached_property
    def _used(self) -> set[str]:
        assert self.recording is not None
        return self.recording.used

    @cached_property
    def _homes(self) -> dict[int, str]:
        """The first name of each parameter, by the identity of its ids."""
        assert self.recording is not None
        homes: dict[int, str] = {}
        for name, dims in self.recording.dims.items():
            homes.setdefault(id(dims), name)
        return homes

    def _home(self, name: str) -> str:
        assert self.recording is not None
        dims = self.recording.dims.get(name)
        return name if dims is None else self._homes[id(dims)]

    def _ids(self, path: str, side: str) -> Ids | None:
        row = self.rows.get(path)
        if self.recording is None or row is None:
            return None
        dims = self.recording.dims.get(row.weight, ())
        dim = row.out if side == "out" else row.into
        return dims[dim] if dim < len(dims) else None

    @cached_property
    def _attending(self) -> Flags | None:
        assert self.recording is not None
        found = self.recording.ledger.attention
        if not found:
            return None
        flags = np.zeros(self.recording.ledger.count, dtype=np.bool_)
        for part in found:
            flags[self.classes.full[part]] = True
        return flags

    @cached_property
    def _touching(self) -> dict[str, tuple[dict[int, int], list[tuple[str, ...]]]]:
        """For outputs and inputs: the group of each class, and the layers of each group."""
        tables = {}
        for side in ("out", "into"):
            by_class: dict[int, list[str]] = {}
            for path in self.rows:
                ids = self._ids(path, side)
                for label in () if ids is None else np.unique(self.classes.full[ids]).tolist():
                    by_class.setdefault(label, []).append(path)
            groups: dict[tuple[str, ...], int] = {}
            of = {c: groups.setdefault(tuple(p), len(groups)) for c, p in by_class.items()}
            tables[side] = (of, list(groups))
        return tables

    def _sharing(self, path: str, side: str) -> tuple[str, ...]:
        """The layers that share a class with the outputs of `path`, in model order."""
        ids = self._ids(path, "out")
        if ids is None:
            return ()
        of, groups = self._touching[side]
        here = {of[c] for c in np.unique(self.classes.full[ids]).tolist() if c in of}
        found = {p for group in here for p in groups[group]}
        return tuple(p for p in self.rows if p in found)


def rows_of(layers: Iterable[LayerInfo]) -> dict[str, Row]:
    """Where the matrix of each layer is, by path."""
    return {layer.path: Row.of(layer) for layer in layers if layer.gemm is not None}


def own_biases(layers: Iterable[LayerInfo], shapes: Mapping[str, Any]) -> dict[str, str]:
    """The bias that belongs to each layer's weight, by path; `shapes` by name."""
    biases = {}
    for layer in layers:
        name = "bias".join(layer.weight.rsplit("weight", 1))
        bias = shapes.get(name) if name != layer.weight else None
        if bias is not None and layer.gemm and tuple(bias.shape) == layer.gemm.shape[:1]:
            biases[layer.path] = name
    return biases
