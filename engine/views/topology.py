"""Which weights of a layer there are, and which came and went in the last change of its masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...kernels import pyramid
from ..errors import BadInput
from ..info import LayerInfo
from ..topology import Topology
from .pixels import pixels_of

VIEW = "topology"
NOTHING, KEPT, GROWN, DROPPED = range(4)
"""The codes of a tile's `value`."""

Json = dict[str, Any]
Arrays = dict[str, np.ndarray]


def summary(
    info: LayerInfo, topology: Topology | None, image: tuple[int, int] | None = None
) -> tuple[Json, Arrays]:
    """How a layer's weights lie, in numbers, and how many outputs still read each input.

    ``kept`` counts all weights that there are, of which ``grown`` are new since the change before;
    ``dropped`` are gone since then. ``dead_outputs`` are those that read no input. Arrays, int64:
    ``inputs`` [in], how many outputs read each input, and ``outputs`` [out], how many inputs each
    output reads. Without a `topology` all weights are there. `image` is the (height, width) as
    which the inputs can be shown.
    """
    out, ins = _shape(info)
    cells = _cells(info, topology)
    kept = np.ones((out, ins), np.bool_) if cells is None else cells.kept
    outputs = kept.sum(axis=1, dtype=np.int64)
    result = {
        "step": topology.step if topology else 0,
        "evolution": topology.evolution if topology else 0,
        "kept": int(outputs.sum()),
        "grown": int(cells.grown.sum()) if cells else 0,
        "dropped": int(cells.dropped.sum()) if cells else 0,
        "dead_outputs": int((outputs == 0).sum()),
        "out": out,
        "in": ins,
        "image": list(image) if image is not None and image[0] * image[1] == ins else None,
    }
    return result, {"inputs": kept.sum(axis=0, dtype=np.int64), "outputs": outputs}


def tile(
    info: LayerInfo, topology: Topology | None, rect: Sequence[int], size: Sequence[int]
) -> tuple[Json, Arrays]:
    """A picture of a rectangle of W[out, in]; `rect` and `size` as those of `Views.tile`.

    Four uint8 arrays [h, w]. `value` is a code: 0 nothing, 1 kept, 2 grown in the last change, 3
    dropped in it; where a pixel covers several cells it is the one of which there are most, the
    higher of equals, and nothing only where there is nothing else. `density`, `grown` and `dropped`
    are shares of the pixel's cells, 255 for all, and at least 1 where there is any; `density`
    counts kept and grown ones.
    """
    shape = _shape(info)
    rows, columns = pixels_of(rect, size, shape)[1:]
    cells = _cells(info, topology)
    if cells is None:
        kept = grown = dropped = None
        total = shape[0] * shape[1]
        achieved, there = 0.0, total
        full = np.full((len(rows) - 1, len(columns) - 1), 255, np.uint8)
        density, none = full, np.zeros_like(full)
        arrays = {"value": none + KEPT, "density": density, "grown": none, "dropped": none}
    else:
        total, there = cells.kept.size, int(cells.kept.sum())
        achieved = 1 - there / total
        kept, grown, dropped = (
            pyramid.densities(part, rows, columns)
            for part in (cells.kept, cells.grown, cells.dropped)
        )
        old = kept - grown
        most = np.maximum(np.maximum(old, grown), dropped)
        value = np.select(
            [most <= 0, dropped >= most, grown >= most], [NOTHING, DROPPED, GROWN], KEPT
        )
        arrays = {
            "value": value.astype(np.uint8),
            "density": _bytes(kept),
            "grown": _bytes(grown),
            "dropped": _bytes(dropped),
        }
    meta = {
        "lo": 0, "hi": 3, "step": topology.step if topology else 0,
        "evolution": topology.evolution if topology else 0, "achieved": achieved,
        "energy": None, "kept_units": there, "units": total, "unit": "weight",
        "misfit": None, "waits": None,
    }  # fmt: skip
    return meta, arrays


@dataclass(frozen=True)
class _Cells:
    """Bool [out, in]: what is there now, what of it is new, and what is gone."""

    kept: np.ndarray
    grown: np.ndarray
    dropped: np.ndarray


def _cells(info: LayerInfo, topology: Topology | None) -> _Cells | None:
    found = topology.of(info.path) if topology is not None else None
    if found is None:
        return None
    now, before = (mask.to("cpu").unpack().numpy() for mask in found)
    return _Cells(now, now & ~before, before & ~now)


def _shape(info: LayerInfo) -> tuple[int, int]:
    if info.gemm is None:
        raise BadInput(f"{info.path} has no weight matrix: {info.reason}")
    return info.gemm.shape


def _bytes(shares: np.ndarray) -> np.ndarray:
    """Shares in 0…1 as bytes; what is there at all is at least 1."""
    return np.ceil(shares * np.float32(255)).astype(np.uint8)


_PICTURES = {"sample": (8, 8), "mnist": (28, 28), "fashion-mnist": (28, 28)}


def image_of(data: str | None) -> tuple[int, int] | None:
    """Height and width of the grey images at an address of data, where that is known."""
    return _PICTURES.get(data.partition(":")[0]) if data else None
