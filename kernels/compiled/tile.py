"""Tiles of sums that stay in registers: a panel of outputs times some pixels.

A panel is two vectors of outputs, or one where there are no more. Every kept position adds the
product of its weights with one input of each pixel: two loads of weights and one of each input for
twice as many fused products, which keeps a processor's arithmetic busy. Loops over positions read
as loops, and no vectoriser has to see what they are. No bounds are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Self

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.core.types.containers import UniTuple

from .vectors import FUSED, Vector, address, constant, shuffled, spread

_INT64 = ir.IntType(64)


@dataclass(frozen=True)
class Registers:
    """The `lanes` of a vector, and how many `pixels` a tile has at most.

    A tile's sums, two vectors of weights and one input fill the registers.
    """

    lanes: int
    pixels: int

    @classmethod
    def of(cls, features: Mapping[str, bool]) -> Self:
        """Of a processor: AVX-512 and Arm have 32 registers, others 16."""
        if features.get("avx512f"):
            return cls(16, 14)
        if features.get("sse2"):
            return cls(8 if features.get("avx") else 4, 6)
        return cls(4, 14)

    def vectors(self, outputs: int) -> int:
        """How many a panel has."""
        return 1 if outputs <= self.lanes else 2


HOST = Registers.of(binding.get_host_cpu_features())
"""Those of this processor."""


def _panel(builder: Any, start: Any, vector: Vector, count: int) -> list[Any]:
    """The vectors of a panel that lies at an address."""
    places = [builder.gep(start, [_INT64(at * vector.lanes)]) for at in range(count)]
    pointer = vector.ir.as_pointer()
    return [builder.load(builder.bitcast(place, pointer), align=4) for place in places]


@constant
def begin(typing: Any, bias: Any, place: Any, pixels: Any, lanes: Any, vectors: Any) -> Any:
    """A tile of `pixels` that has the panel of `bias` from `place` on for each.

    The last three are constants.
    """
    vector = Vector(types.float32, lanes.literal_value)
    count, wide = pixels.literal_value, vectors.literal_value

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = address(context, builder, bias, args[0], args[1])
        return cgutils.pack_array(builder, _panel(builder, start, vector, wide) * count)

    return UniTuple(vector, wide * count)(bias, types.intp, pixels, lanes, vectors), emit


@constant
def add_position(
    typing: Any, tile: Any, weights: Any, panel: Any, x: Any, place: Any, vectors: Any
) -> Any:
    """The tile and products of the weights from `panel` on with the inputs from `place` on."""
    wide = vectors.literal_value

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, args[0], tile.count)
        start = address(context, builder, weights, args[1], args[2])
        panel = _panel(builder, start, tile.dtype, wide)
        first = address(context, builder, x, args[3], args[4])
        for pixel in range(tile.count // wide):
            entry = builder.load(builder.gep(first, [_INT64(pixel)]))
            same = spread(builder, entry, tile.dtype)
            for at, weight in enumerate(panel, wide * pixel):
                more = builder.fmul(same, weight, flags=FUSED)
                sums[at] = builder.fadd(sums[at], more, flags=FUSED)
        return cgutils.pack_array(builder, sums)

    return tile(tile, weights, types.intp, x, types.intp, vectors), emit


@constant
def put(typing: Any, y: Any, place: Any, pitch: Any, rows: Any, tile: Any, vectors: Any) -> Any:
    """Write a tile as rows of pixels, `pitch` apart from `place` on: the first `rows` outputs."""
    lanes, wide = tile.dtype.lanes, vectors.literal_value
    pixels = tile.count // wide

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sums = cgutils.unpack_tuple(builder, args[4], tile.count)
        first = address(context, builder, y, args[0], args[1])
        for part, pixel in product(range(wide), range(0, pixels, lanes)):
            columns = sums[part::wide][pixel : pixel + lanes]
            for row, turned in enumerate(_turned(builder, columns, tile.dtype), part * lanes):
                with builder.if_then(builder.icmp_signed(">", args[3], _INT64(row)), likely=True):
                    run = shuffled(builder, turned, turned, [*range(len(columns))])
                    offset = builder.add(builder.mul(args[2], _INT64(row)), _INT64(pixel))
                    target = builder.bitcast(builder.gep(first, [offset]), run.type.as_pointer())
                    builder.store(run, target, align=4)
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp, types.intp, tile, vectors), emit


def _turned(builder: Any, columns: list[Any], vector: Vector) -> list[Any]:
    """The rows of a matrix of at most as many columns as lanes, as many as lanes.

    Each round puts side by side what was half the matrix apart.
    """
    lanes, half = vector.lanes, vector.lanes // 2
    rows = columns + [ir.Constant(vector.ir, ir.Undefined)] * (lanes - len(columns))
    low = [place + side for place in range(half) for side in (0, lanes)]
    high = [place + half for place in low]
    for _ in range(half.bit_length()):
        pairs = zip(rows[:half], rows[half:], strict=True)
        rows = [shuffled(builder, a, b, places) for a, b in pairs for places in (low, high)]
    return rows
