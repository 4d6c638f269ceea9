"""Fixed-width integers for Numba: arithmetic that wraps at the carrier's width, as in NumPy and XLA.

Numba widens every integer operation to 64 bits. That halves the speed of vector loops over 32-bit
patterns and changes what wraps. A `Lane` is an integer of the carrier's width whose operators stay in
that width; literals and plain integers take part as lanes. Kernels need no change: they use operators.

This module is also the `xp` of compiled kernels: `where`, `minimum` and `maximum` of scalars.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin, lower_cast
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model


class Lane(types.Type):
    """Type of an integer of `width` bits, signed or not."""

    def __init__(self, width: int, signed: bool = True) -> None:
        self.width, self.signed = width, signed
        super().__init__(f"{'Lane' if signed else 'Word'}{width}")

    def can_convert_from(self, typing_context: Any, other: Any) -> Any:
        """Plain integers and booleans become lanes."""
        return Conversion.safe if isinstance(other, types.Integer | types.Boolean) else None

    def unify(self, typing_context: Any, other: Any) -> Any:
        """A lane and a plain integer meet in the lane."""
        return self if isinstance(other, types.Integer | types.Boolean) else None


LANE32, LANE64, WORD32 = Lane(32), Lane(64), Lane(32, signed=False)


@register_model(Lane)
class _LaneModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lane: Lane) -> None:
        super().__init__(manager, lane, ir.IntType(lane.width))


# Instructions of llvmlite's builder for signed lanes, and where they differ for unsigned ones.
_ARITHMETIC = {
    operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.and_: "and_", operator.or_: "or_",
    operator.xor: "xor", operator.lshift: "shl", operator.rshift: "ashr", operator.neg: "neg", operator.invert: "not_",
}  # fmt: skip
_UNSIGNED = {operator.rshift: "lshr"}
_COMPARISON = {
    operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "==", operator.ne: "!=",
}  # fmt: skip


def _register(function: Any) -> None:
    """Give an operator a meaning for one or two lanes; plain integers are cast to lanes first."""
    comparison = _COMPARISON.get(function)

    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            lanes = [a for a in args if isinstance(a, Lane)]
            if lanes and all(isinstance(a, Lane | types.Integer | types.Boolean) for a in args):
                return signature(types.boolean if comparison else lanes[0], *[lanes[0]] * len(args))
            return None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        signed = sig.args[0].signed
        if comparison:
            return (builder.icmp_signed if signed else builder.icmp_unsigned)(comparison, *args)
        name = _ARITHMETIC[function] if signed else _UNSIGNED.get(function, _ARITHMETIC[function])
        return getattr(builder, name)(*args)

    lower_builtin(function, Lane)(lower) if function in (operator.neg, operator.invert) else lower_builtin(
        function, Lane, Lane
    )(lower)


for _function in (*_ARITHMETIC, *_COMPARISON):
    _register(_function)


@lower_cast(types.Integer, Lane)
@lower_cast(types.Boolean, Lane)
def _cast(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return _resize(builder, value, target.width, getattr(source, "signed", False))


def _resize(builder: Any, value: Any, width: int, signed: bool) -> Any:
    if value.type.width > width:
        return builder.trunc(value, ir.IntType(width))
    if value.type.width < width:
        return (builder.sext if signed else builder.zext)(value, ir.IntType(width))
    return value


def _maker(lane: Lane) -> Any:
    @intrinsic
    def make(typing_context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return _resize(builder, args[0], lane.width, getattr(sig.args[0], "signed", False))

        return lane(x), generate

    return make


lane32, lane64, word32 = _maker(LANE32), _maker(LANE64), _maker(WORD32)


@intrinsic
def plain(typing_context: Any, x: Any) -> Any:
    """The ordinary integer of a lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0]

    result = {LANE32: types.int32, LANE64: types.int64, WORD32: types.uint32}[x]
    return result(x), generate


@njit(forceinline=True)
def where(condition: Any, yes: Any, no: Any) -> Any:
    """`yes` if condition else `no`."""
    return yes if condition else no


@njit(forceinline=True)
def minimum(a: Any, b: Any) -> Any:
    """The smaller of two."""
    return a if a < b else b


@njit(forceinline=True)
def maximum(a: Any, b: Any) -> Any:
    """The larger of two."""
    return a if a > b else b


def block_maximum(size: int) -> Any:
    """A function of (int32 array, start, mask, limit): the largest x & mask of `size` elements, 0 for those > limit.

    Numba does not make vector instructions of a short reduction by itself.
    """

    @intrinsic
    def maximum_of_block(typing_context: Any, array: Any, start: Any, mask: Any, limit: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vector = ir.VectorType(ir.IntType(32), size)
            made = context.make_array(sig.args[0])(context, builder, args[0])
            at = builder.gep(made.data, [args[1]])
            elements = builder.load(builder.bitcast(at, vector.as_pointer()), align=4)

            def every(number: Any) -> Any:
                word, nothing = ir.IntType(32), ir.Constant(vector, ir.Undefined)
                one = builder.insert_element(nothing, builder.trunc(number, word), word(0))
                return builder.shuffle_vector(one, nothing, ir.Constant(vector, [0] * size))

            magnitudes = builder.and_(elements, every(args[2]))
            beyond = builder.icmp_signed(">", magnitudes, every(args[3]))
            magnitudes = builder.select(beyond, ir.Constant(vector, [0] * size), magnitudes)
            kind = ir.FunctionType(ir.IntType(32), [vector])
            reduce = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.smax.v{size}i32")
            return builder.call(reduce, [magnitudes])

        return types.int32(array, types.int64, types.int64, types.int64), generate

    return maximum_of_block


def block_fill(size: int) -> Any:
    """A function of (array of 32-bit elements, start, value) that stores the value `size` times from start on."""

    @intrinsic
    def fill_block(typing_context: Any, array: Any, start: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            element = context.get_data_type(sig.args[2])
            vector, lanes = ir.VectorType(element, size), ir.VectorType(ir.IntType(32), size)
            made = context.make_array(sig.args[0])(context, builder, args[0])
            nothing = ir.Constant(vector, ir.Undefined)
            one = builder.insert_element(nothing, args[2], ir.IntType(32)(0))
            every = builder.shuffle_vector(one, nothing, ir.Constant(lanes, [0] * size))
            at = builder.bitcast(builder.gep(made.data, [args[1]]), vector.as_pointer())
            builder.store(every, at, align=4)
            return context.get_dummy_value()

        return types.none(array, types.int64, array.dtype), generate

    return fill_block


@intrinsic
def bits_of(typing_context: Any, x: Any) -> Any:
    """The pattern of a float32 as a lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return LANE32(types.float32), generate


@intrinsic
def float_of(typing_context: Any, x: Any) -> Any:
    """The float32 of a pattern in a lane."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(LANE32), generate
