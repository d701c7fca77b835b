"""Runs of sums that stay in registers: several vectors of neighbouring outputs.

A weight adds its product with a run of inputs: one load for each fused product. No bounds are
checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.types.containers import UniTuple

from .vectors import FUSED, Vector, address, constant, emitted, spread

_INT64 = ir.IntType(64)


@constant
def begin_run(typing: Any, number: Any, vectors: Any, lanes: Any) -> Any:
    """A run of the same number, in so many vectors (both constants)."""
    count, vector = vectors.literal_value, Vector(types.float32, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return cgutils.pack_array(builder, [spread(builder, args[0], vector)] * count)

    return UniTuple(vector, count)(types.float32, vectors, lanes), emit


@emitted
def add_run(typing: Any, run: Any, weight: Any, x: Any, place: Any) -> Any:
    """The run and the products of a weight with the inputs from `place` on."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        same = spread(builder, args[1], run.dtype)
        first = address(context, builder, x, args[2], args[3])
        sums = []
        for at, before in enumerate(cgutils.unpack_tuple(builder, args[0], run.count)):
            place = _vector_at(builder, first, at, run.dtype)
            more = builder.fmul(same, builder.load(place, align=4), flags=FUSED)
            sums.append(builder.fadd(before, more, flags=FUSED))
        return cgutils.pack_array(builder, sums)

    return run(run, types.float32, x, types.intp), emit


@emitted
def put_run(typing: Any, y: Any, run: Any) -> Any:
    """Write a run to the beginning of an array."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        first = address(context, builder, y, args[0], _INT64(0))
        for at, vector in enumerate(cgutils.unpack_tuple(builder, args[1], run.count)):
            builder.store(vector, _vector_at(builder, first, at, run.dtype), align=4)
        return context.get_dummy_value()

    return types.void(y, run), emit


def _vector_at(builder: Any, first: Any, number: int, vector: Vector) -> Any:
    place = builder.gep(first, [_INT64(number * vector.lanes)])
    return builder.bitcast(place, vector.ir.as_pointer())
