"""Vectors of lanes, for loops that say themselves which elements the processor takes at once.

This module is the `xp` of kernels whose operands are such vectors. What is one number for all of them
stays a lane; where the two meet it takes part as often as the vector has elements.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .lanes import LANE32, Lane, splat, widest


@intrinsic
def where(typing_context: Any, condition: Any, yes: Any, no: Any) -> Any:
    """`yes` where the condition holds, else `no`."""
    lane = widest((yes, no))
    if isinstance(condition, Lane) and lane.count == 1:
        lane = Lane(lane.width, lane.signed, condition.count)

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return lane(condition, lane, lane), generate


def _choice(comparison: str) -> Any:
    @intrinsic
    def choose(typing_context: Any, a: Any, b: Any) -> Any:
        lane = widest((a, b))

        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.select(builder.icmp_signed(comparison, *args), *args)

        return lane(lane, lane), generate

    return choose


minimum, maximum = _choice("<"), _choice(">")


def _of_elements(name: str) -> Any:
    @intrinsic
    def apply(typing_context: Any, vector: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = ir.FunctionType(args[0].type, [args[0].type, ir.IntType(1)])
            function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{vector.count}i32")
            return builder.call(function, [args[0], ir.IntType(1)(0)])

        return vector(vector), generate

    return apply


# Absolute values of 32-bit lanes, and the zeros above their leading bits: 32 of zero.
magnitude, leading_zeros = _of_elements("abs"), _of_elements("ctlz")


@intrinsic
def largest(typing_context: Any, vector: Any) -> Any:
    """The largest element of a vector."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [args[0].type])
        name = f"llvm.vector.reduce.smax.v{vector.count}i32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return LANE32(vector), generate


# ---- numbers ---------------------------------------------------------------------------------------------------


@intrinsic
def product(typing_context: Any, patterns: Any, factor: Any) -> Any:
    """Patterns of binary32 numbers times a float32."""
    return _operation("fmul", patterns)


@intrinsic
def quotient(typing_context: Any, patterns: Any, divisor: Any) -> Any:
    """Patterns of binary32 numbers divided by a float32."""
    return _operation("fdiv", patterns)


@intrinsic
def multiples(typing_context: Any, integers: Any, unit: Any) -> Any:
    """Patterns of integers times a float32."""
    return _operation("fmul", integers, "sitofp")


def _operation(name: str, operand: Any, read: str = "bitcast") -> Any:
    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        numbers = getattr(builder, read)(args[0], ir.VectorType(ir.FloatType(), operand.count))
        result = getattr(builder, name)(numbers, splat(builder, args[1], operand.count))
        return builder.bitcast(result, args[0].type)

    return operand(operand, types.float32), generate


# ---- memory ----------------------------------------------------------------------------------------------------

LENGTH = 16  # elements that loops over blocks take at once: on AVX-512 a register of 32-bit lanes
QUARTER = 16  # bytes that every processor can write past its caches at once; four of them are a cache line


def _at(context: Any, builder: Any, kind: Any, array: Any, index: Any, pointed: Any) -> Any:
    """The address of an element, as one of another type."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), pointed.as_pointer())


def loader(count: int) -> Any:
    """A function of (array of unsigned integers, or of 32 bits an element; index) that reads so many elements there."""
    lane = Lane(32, count=count)

    @intrinsic
    def load(typing_context: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            size = context.get_abi_sizeof(context.get_data_type(array.dtype))
            stored = ir.VectorType(ir.IntType(8 * size), count) if count > 1 else ir.IntType(8 * size)
            at = _at(context, builder, sig.args[0], args[0], args[1], stored)
            elements = builder.load(at, align=size if array.aligned else 1)
            return elements if size == 4 else builder.zext(elements, context.get_data_type(lane))

        return lane(array, types.int64), generate

    return load


def nibble_loader(count: int) -> Any:
    """A function of (array of bytes, index of a byte) that reads codes of four bits, low halves first.

    Above its four bits an element holds the rest of its byte.
    """
    lane, words = Lane(32, count=count), ir.VectorType(ir.IntType(32), count)

    @intrinsic
    def load(typing_context: Any, array: Any, index: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            stored = ir.VectorType(ir.IntType(8), count // 2)
            halves = builder.load(_at(context, builder, sig.args[0], args[0], args[1], stored), align=1)
            twice = ir.Constant(words, [i // 2 for i in range(count)])
            both = builder.zext(builder.shuffle_vector(halves, ir.Constant(stored, ir.Undefined), twice), words)
            return builder.lshr(both, ir.Constant(words, [i % 2 * 4 for i in range(count)]))

        return lane(array, types.int64), generate

    return load


@intrinsic
def store_nibbles(typing_context: Any, array: Any, index: Any, codes: Any) -> Any:
    """Write codes of four bits to an array of bytes from a byte on, low halves first."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pairs = ir.VectorType(ir.IntType(16), codes.count // 2)
        packed = ir.VectorType(ir.IntType(8), codes.count // 2)
        pair = builder.bitcast(builder.trunc(args[2], ir.VectorType(ir.IntType(8), codes.count)), pairs)
        byte = builder.or_(pair, builder.lshr(pair, ir.Constant(pairs, 4)))
        at = _at(context, builder, sig.args[0], args[0], args[1], packed)
        builder.store(builder.trunc(byte, packed), at, align=1)
        return context.get_dummy_value()

    return types.none(array, types.int64, codes), generate


def _storer(past: bool) -> Any:
    @intrinsic
    def put(typing_context: Any, array: Any, index: Any, elements: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            size = context.get_abi_sizeof(context.get_data_type(array.dtype))
            stored = ir.VectorType(ir.IntType(8 * size), elements.count)
            value = args[2] if size == 4 else builder.trunc(args[2], stored)
            at = _at(context, builder, sig.args[0], args[0], args[1], stored)
            store = builder.store(value, at, align=QUARTER if past else size if array.aligned else 1)
            if past:
                store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
            return context.get_dummy_value()

        return types.none(array, types.int64, elements), generate

    return put


# An ordinary store reads the line that it changes a part of; `stream` writes lines past the caches, unread.
store, stream = _storer(past=False), _storer(past=True)


@intrinsic
def can_stream(typing_context: Any, array: Any) -> Any:
    """Whether an array begins where `stream` may write; it may at every LENGTH-th element then."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        address = builder.ptrtoint(data, ir.IntType(64))
        return builder.icmp_unsigned("==", builder.and_(address, ir.IntType(64)(QUARTER - 1)), ir.IntType(64)(0))

    return types.boolean(array), generate


@intrinsic
def finish_streams(typing_context: Any) -> Any:
    """Make what `stream` wrote visible to threads that see what this one writes next."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith(("x86_64", "i686")):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse.sfence"), [])
        else:
            builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), generate


@intrinsic
def fetch(typing_context: Any, array: Any, index: Any) -> Any:
    """Have the line of an element brought into the cache; one beyond the array's end does no harm."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word, byte = ir.IntType(32), ir.IntType(8)
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), word, word, word])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, everywhere, data = word(0), word(3), word(1)
        at = _at(context, builder, sig.args[0], args[0], args[1], byte)
        builder.call(prefetch, [at, to_read, everywhere, data])
        return context.get_dummy_value()

    return types.none(array, types.int64), generate


def filler(count: int) -> Any:
    """A function of (array of 32-bit elements, start, value) that stores the value `count` times from start on."""

    @intrinsic
    def fill(typing_context: Any, array: Any, start: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vector = ir.VectorType(args[2].type, count)
            at = _at(context, builder, sig.args[0], args[0], args[1], vector)
            builder.store(splat(builder, args[2], count), at, align=4 if array.aligned else 1)
            return context.get_dummy_value()

        return types.none(array, types.int64, array.dtype), generate

    return fill
