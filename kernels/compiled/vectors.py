"""Vectors of numbers as values in compiled loops, so that their speed hangs on no vectoriser.

A vector may be wider than the processor's: LLVM cuts it into as many registers as it takes. None
of the functions checks bounds, and places count entries from the start of the array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, register_model

Emit = Callable[..., Any]

emitted: Callable[[Emit], Any] = intrinsic
"""Makes a function of compiled loops of what emits its instructions."""
constant: Callable[[Emit], Any] = intrinsic(prefer_literal=True)
"""The same with arguments that are constants."""

FUSED = ("contract", "nsz")
"""Sums and products with these flags become fused ones."""
_INT32 = ir.IntType(32)
# Bytes of a line of the cache, and how to fetch one: to read it, into all caches, as data.
_LINE = 64
_READ_OFTEN = 0, 3, 1


class Vector(types.Type):
    """The type of `lanes` numbers of one dtype side by side."""

    def __init__(self, number: Any, lanes: int) -> None:
        super().__init__(name=f"{number} x {lanes}")
        self.lanes = lanes
        single = ir.FloatType() if number == types.float32 else ir.IntType(number.bitwidth)
        self.ir = ir.VectorType(single, lanes)


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, kind.ir)


def address(context: Any, builder: Any, kind: Any, array: Any, place: Any) -> Any:
    """The address of an entry of an array."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [place])


@constant
def load(typing: Any, array: Any, place: Any, lanes: Any) -> Any:
    """The `lanes` (constant) entries of an array of float32 or uint8 from `place` on."""
    result = Vector(array.dtype, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = address(context, builder, array, args[0], args[1])
        return builder.load(builder.bitcast(start, result.ir.as_pointer()), align=1)

    return result(array, types.intp, lanes), emit


@constant
def load_other(typing: Any, array: Any, place: Any, lanes: Any) -> Any:
    """Every other entry of an array of float32 from `place` on, `lanes` (constant, even) in all.

    It reads no further than the last of them.
    """
    result = Vector(array.dtype, lanes.literal_value)
    count = result.lanes

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = address(context, builder, array, args[0], args[1])
        later = builder.gep(start, [_INT32(count - 1)])
        pointer = result.ir.as_pointer()
        a, b = (builder.load(builder.bitcast(at, pointer), align=1) for at in (start, later))
        return shuffled(builder, a, b, [*range(0, count, 2), *range(count + 1, 2 * count, 2)])

    return result(array, types.intp, lanes), emit


@emitted
def store(typing: Any, array: Any, place: Any, vector: Any) -> Any:
    """Write a vector into an array of its dtype from `place` on."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = address(context, builder, array, args[0], args[1])
        builder.store(args[2], builder.bitcast(start, vector.ir.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), emit


@constant
def splat(typing: Any, number: Any, lanes: Any) -> Any:
    """A vector of `lanes` (constant) times the same number."""
    result = Vector(types.float32, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return spread(builder, args[0], result)

    return result(types.float32, lanes), emit


@constant
def gathered(typing: Any, array: Any, places: Any, first: Any, lanes: Any) -> Any:
    """The entries of an array of float32 at `lanes` (constant) of the int32 places from `first` on.

    They are loaded one by one.
    """
    result = Vector(array.dtype, lanes.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = ir.Constant(result.ir, ir.Undefined)
        for lane in map(_INT32, range(result.lanes)):
            start = address(context, builder, places, args[1], args[2])
            place = builder.load(builder.gep(start, [lane]))
            entry = builder.load(address(context, builder, array, args[0], place))
            found = builder.insert_element(found, entry, lane)
        return found

    return result(array, places, types.intp, lanes), emit


@constant
def repeated(typing: Any, vector: Any, lanes: Any) -> Any:
    """The entries of a vector of float32 again and again, `lanes` (constant) in all."""
    result = Vector(types.float32, lanes.literal_value)
    places = [lane % vector.lanes for lane in range(result.lanes)]
    return result(vector, lanes), lambda c, b, s, args: shuffled(b, args[0], args[0], places)


@constant
def expanded(typing: Any, array: Any, place: Any, words: Any, first: Any, lanes: Any) -> Any:
    """Entries of an array of float32 from `place` on, one after the other, where a bit is set.

    The `lanes` (constant) bits are those of int32 words from `first` on, lowest first; zeros where
    none is set. One instruction for 16 with AVX-512, otherwise a branch for each.
    """
    result = Vector(types.float32, lanes.literal_value)
    flags = ir.VectorType(ir.IntType(1), result.lanes)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = address(context, builder, array, args[0], args[1])
        bits = address(context, builder, words, args[2], args[3])
        mask = builder.load(builder.bitcast(bits, flags.as_pointer()), align=4)
        name = f"llvm.masked.expandload.v{result.lanes}f32"
        kind = ir.FunctionType(result.ir, [ir.FloatType().as_pointer(), flags, result.ir])
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        return builder.call(function, [start, mask, ir.Constant(result.ir, [0.0] * result.lanes)])

    return result(array, types.intp, words, types.intp, lanes), emit


@constant
def fetch(typing: Any, array: Any, place: Any, count: Any) -> Any:
    """Ask for the `count` (constant) entries of an array from `place` on to be brought nearer.

    They may lie beyond its end. What is read once and in turn comes from memory twice as fast so.
    """
    size = count.literal_value * array.dtype.bitwidth // 8

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        start = builder.bitcast(address(context, builder, array, args[0], args[1]), byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, *[_INT32] * 3])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
        for line in range(0, size, _LINE):
            near = builder.gep(start, [_INT32(line)])
            builder.call(function, [near, *map(_INT32, _READ_OFTEN)])
        return context.get_dummy_value()

    return types.void(array, types.intp, count), emit


@constant
def ones(typing: Any, words: Any, first: Any, bits: Any) -> Any:
    """How many of the `bits` (constant) of int32 words from `first` on are set."""
    whole = ir.IntType(bits.literal_value)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = address(context, builder, words, args[0], args[1])
        given = builder.load(builder.bitcast(start, whole.as_pointer()), align=4)
        return builder.trunc(builder.ctpop(given), ir.IntType(64))

    return types.int64(words, types.intp, bits), emit


@emitted
def as_bytes(typing: Any, vector: Any) -> Any:
    """Whole numbers from 0 to 127 as uint8."""
    result = Vector(types.uint8, vector.lanes)
    return result(vector), lambda c, builder, s, args: builder.fptosi(args[0], result.ir)


def _reduced(doc: str, name: str, emit: Emit) -> Any:
    """By one of LLVM's functions that reduce a vector of float32 to a number, in any order."""

    def typed(typing: Any, vector: Any) -> Any:
        def call(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind, given = emit(vector.ir, args[0])
            full = f"llvm.vector.reduce.{name}.v{vector.lanes}f32"
            function = builder.module.globals.get(full) or ir.Function(builder.module, kind, full)
            return builder.call(function, given, fastmath=("nnan", "nsz", "reassoc"))

        return types.float32(vector), call

    typed.__doc__ = doc
    return emitted(typed)


_ZERO = ir.Constant(ir.FloatType(), -0.0)
largest = _reduced(
    "The largest entry.", "fmax", lambda v, x: (ir.FunctionType(ir.FloatType(), [v]), [x])
)
sum_of = _reduced(
    "The sum of the entries.",
    "fadd",
    lambda v, x: (ir.FunctionType(ir.FloatType(), [ir.FloatType(), v]), [_ZERO, x]),
)


def _of_two(doc: str, make: Emit) -> Any:
    def typed(typing: Any, a: Any, b: Any) -> Any:
        return a(a, a), lambda context, builder, signature, args: make(builder, *args)

    typed.__doc__ = doc
    return emitted(typed)


def spread(builder: Any, number: Any, kind: Vector) -> Any:
    """A vector of the same number."""
    single = builder.insert_element(ir.Constant(kind.ir, ir.Undefined), number, _INT32(0))
    return shuffled(builder, single, single, [0] * kind.lanes)


def shuffled(builder: Any, a: Any, b: Any, places: list[int]) -> Any:
    """The entries at `places` of two vectors in a row."""
    kind = ir.VectorType(_INT32, len(places))
    return builder.shuffle_vector(a, b, ir.Constant(kind, places))


def _compared(relation: str) -> Emit:
    return lambda b, x, y: b.uitofp(b.fcmp_ordered(relation, x, y), x.type)


def _chosen(relation: str) -> Emit:
    return lambda b, x, y: b.select(b.fcmp_ordered(relation, x, y), x, y)


def _shuffled(places: Callable[[int], list[int]]) -> Emit:
    return lambda b, x, y: shuffled(b, x, y, places(x.type.count))


def _in_turn(n: int, of: range) -> list[int]:
    return [place + side for place in of for side in (0, n)]


add = _of_two("The sums.", lambda b, x, y: b.fadd(x, y, flags=FUSED))
less = _of_two("The differences.", lambda b, x, y: b.fsub(x, y, flags=FUSED))
times = _of_two("The products.", lambda b, x, y: b.fmul(x, y, flags=FUSED))
lower = _of_two("The smaller ones.", _chosen("<"))
higher = _of_two("The larger ones.", _chosen(">"))
above = _of_two("1 where the first is larger, else 0.", _compared(">"))
reach = _of_two("1 where the first is no smaller, else 0.", _compared(">="))
evens = _of_two("Entries 0, 2, … of both.", _shuffled(lambda n: [*range(0, 2 * n, 2)]))
odds = _of_two("Entries 1, 3, … of both.", _shuffled(lambda n: [*range(1, 2 * n, 2)]))
heads = _of_two("First halves in turn.", _shuffled(lambda n: _in_turn(n, range(n // 2))))
tails = _of_two("Second halves in turn.", _shuffled(lambda n: _in_turn(n, range(n // 2, n))))
