"""What is known of a model without holding it: the studio's and the command line's layer table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .gemm import Gemm


@dataclass(frozen=True)
class LayerInfo:
    """One row of the layer table.

    `path` is the module's path, or the parameter's where one module holds several matrices.
    `weight` is the name of the weight in the state dict. `flops` counts a multiply-add as two and
    is None where no input is known. `density` is the share of non-zeros, None while not counted.
    `reason` says in one sentence why a layer is not prunable. `shares` names the layers that use
    the very same weight. `replaceable` says that another module can stand in its place; it is False
    where the one around it reads its weight itself.

    What a trace of the model found: `fixed` says why no output of the layer can be removed from the
    model, None if outputs can (or the model was not traced); `also` names the layers that shrink
    along with removed outputs; `branch` says that the layer ends a residual branch, so that
    without it the branch adds nothing.
    """

    path: str
    kind: str
    weight: str
    shape: tuple[int, ...]
    params: int
    dtype: str
    gemm: Gemm | None = None
    flops: int | None = None
    density: float | None = None
    prunable: bool = False
    reason: str | None = None
    shares: tuple[str, ...] = ()
    fixed: str | None = None
    also: tuple[str, ...] = ()
    branch: bool = False
    replaceable: bool = True

    def to_json(self) -> dict[str, Any]:
        """The row as the command line prints it and the protocol carries it."""
        return {
            "path": self.path,
            "kind": self.kind,
            "weight": self.weight,
            "shape": list(self.shape),
            "gemm": list(self.gemm.shape) if self.gemm else None,
            "view": self.gemm.to_json() if self.gemm else None,
            "params": self.params,
            "flops": self.flops,
            "dtype": self.dtype,
            "density": self.density,
            "prunable": self.prunable,
            "reason": self.reason,
            "shares": list(self.shares),
            "fixed": self.fixed,
            "also": list(self.also),
            "branch": self.branch,
            "replaceable": self.replaceable,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LayerInfo:
        """Read what `to_json` wrote."""
        values = {k: v for k, v in data.items() if k not in ("gemm", "view")}
        for key in ("shape", "shares", "also"):
            values[key] = tuple(data[key])
        view = data["view"]
        return cls(**values, gemm=Gemm.from_json(view) if view else None)


@dataclass(frozen=True)
class ModelInfo:
    """A model's layer table. `params` counts shared weights once, `bytes` what they take in memory.

    `input` describes one example input in words, empty where none is known. `data` is the address
    of the data that belongs to the model, if any. `runnable` is False for a bare state dict.
    `notes` are sentences for the person, such as what a trace could not follow.
    """

    model: str
    name: str
    layers: tuple[LayerInfo, ...]
    params: int
    bytes: int
    runnable: bool = True
    input: str = ""
    data: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def prunable(self) -> tuple[LayerInfo, ...]:
        """The layers that a plan's rules can match."""
        return tuple(layer for layer in self.layers if layer.prunable)

    def layer(self, path: str) -> LayerInfo:
        """The layer at `path`; raises KeyError."""
        for layer in self.layers:
            if layer.path == path:
                return layer
        raise KeyError(path)

    def to_json(self) -> dict[str, Any]:
        """The table as the command line prints it and the protocol carries it."""
        flops = [layer.flops for layer in self.layers if layer.flops is not None]
        return {
            "model": self.model,
            "name": self.name,
            "params": self.params,
            "bytes": self.bytes,
            "flops": sum(flops) if flops else None,
            "prunable": len(self.prunable),
            "runnable": self.runnable,
            "input": self.input,
            "data": self.data,
            "notes": list(self.notes),
            "layers": [layer.to_json() for layer in self.layers],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelInfo:
        """Read what `to_json` wrote."""
        return cls(
            model=data["model"],
            name=data["name"],
            layers=tuple(LayerInfo.from_json(row) for row in data["layers"]),
            params=data["params"],
            bytes=data["bytes"],
            runnable=data["runnable"],
            input=data["input"],
            data=data["data"],
            notes=tuple(data["notes"]),
        )
