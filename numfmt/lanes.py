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
    """Type of an integer of `width` bits, signed or not; or of a vector of `count` of them."""

    def __init__(self, width: int, signed: bool = True, count: int = 1) -> None:
        self.width, self.signed, self.count = width, signed, count
        super().__init__(f"{'Lane' if signed else 'Word'}{width}" + (f"x{count}" if count > 1 else ""))

    def takes(self, other: Any) -> bool:
        """Whether the other type becomes this one: plain integers and booleans, and one lane for a vector."""
        one = isinstance(other, Lane) and other.count == 1 < self.count and other.width == self.width
        return one or isinstance(other, types.Integer | types.Boolean)

    def can_convert_from(self, typing_context: Any, other: Any) -> Any:
        """What a lane takes converts to it."""
        return Conversion.safe if self.takes(other) else None

    def unify(self, typing_context: Any, other: Any) -> Any:
        """A lane and what it takes meet in the lane."""
        return self if self.takes(other) else None


LANE32, LANE64, WORD32 = Lane(32), Lane(64), Lane(32, signed=False)


@register_model(Lane)
class _LaneModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lane: Lane) -> None:
        element = ir.IntType(lane.width)
        super().__init__(manager, lane, ir.VectorType(element, lane.count) if lane.count > 1 else element)


# Instructions of llvmlite's builder for signed lanes, and where they differ for unsigned ones.
_ARITHMETIC = {
    operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.and_: "and_", operator.or_: "or_",
    operator.xor: "xor", operator.lshift: "shl", operator.rshift: "ashr", operator.neg: "neg", operator.invert: "not_",
    operator.floordiv: "sdiv",  # of numbers ≥ 0
}  # fmt: skip
_UNSIGNED = {operator.rshift: "lshr"}
_COMPARISON = {
    operator.lt: "<", operator.le: "<=", operator.gt: ">", operator.ge: ">=", operator.eq: "==", operator.ne: "!=",
}  # fmt: skip


def widest(args: Any) -> Any:
    """The lane in which the operands of an operator meet: a vector, if one of them is; None without any lane."""
    return max((a for a in args if isinstance(a, Lane)), key=lambda lane: lane.count, default=None)


def truth(lane: Lane) -> Any:
    """The type of a lane's comparisons; that of a vector's are a vector of lanes of one bit."""
    return types.boolean if lane.count == 1 else Lane(1, count=lane.count)


def _register(function: Any) -> None:
    """Give an operator a meaning for one or two lanes; plain integers are cast to lanes first."""
    comparison = _COMPARISON.get(function)

    @infer_global(function)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            lane = widest(args)
            if lane is None or not all(a == lane or lane.takes(a) for a in args):
                return None
            return signature(truth(lane) if comparison else lane, *[lane] * len(args))

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
@lower_cast(Lane, Lane)
def _cast(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    if getattr(source, "count", 1) == target.count:
        return _resize(builder, value, target.width, getattr(source, "signed", False))
    return splat(builder, _resize(builder, value, target.width, getattr(source, "signed", False)), target.count)


def splat(builder: Any, value: Any, count: int) -> Any:
    """A vector of equal elements."""
    nothing = ir.Constant(ir.VectorType(value.type, count), ir.Undefined)
    one = builder.insert_element(nothing, value, ir.IntType(32)(0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


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


@njit(forceinline=True)
def some(condition: Any) -> Any:
    """The condition: of one element, some is the same as all."""
    return condition


@intrinsic
def likely(typing_context: Any, condition: Any) -> Any:
    """The condition, which almost always holds: what happens otherwise gets no registers at the expense of the rest."""

    def generate(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        truth = ir.IntType(1)
        kind = ir.FunctionType(truth, [truth, truth])
        expect = cgutils.get_or_insert_function(builder.module, kind, "llvm.expect.i1")
        return builder.call(expect, [args[0], truth(1)])

    return types.boolean(types.boolean), generate


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
