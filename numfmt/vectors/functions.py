"""Functions by the names the field uses (f32_to_e4m3fn, e5m2_mul, mxfp4_encode32), and what they compute.

A name is one of

    <src>_to_<dst>     a conversion; either side may be an integer: i8 i16 i32 i64 ui8 ui16 ui32 ui64
    <fmt>_<operation>  add sub mul div rem sqrt mulAdd mac eq le lt eq_signaling le_quiet lt_quiet roundToInt
                       min max minNum maxNum nextUp nextDown scaleB logB
    <block>_encode<K>  K binary32 numbers into a scale code and K element codes
    <fmt>_dot<L>       the exact sum of L products, rounded once to binary32
    <unit>_dot<K>      K products as a matrix unit adds them: unit_functions.py
    <fmt>              operands alone
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..blocks import WHOLE_AXIS, BlockFormat
from ..formats import CodebookFormat, FixedFormat, FloatFormat, Format
from ..named import scalar_format
from ..named_blocks import get_format
from ..platforms import get_platform
from ..rounding import Overflow, Rounding, unknown
from ..units import DotUnit

Array = npt.NDArray[Any]

INTEGERS = {f"{u}i{bits}": f"{'uint' if u else 'int'}{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)}

# TestFloat's name of an operation: the operation, and how many operands of the format it takes.
OPERATIONS = {
    "add": ("add", 2), "sub": ("sub", 2), "mul": ("mul", 2), "div": ("div", 2), "rem": ("rem", 2), "sqrt": ("sqrt", 1),
    "mulAdd": ("fma", 3), "mac": ("mac", 3), "eq": ("equal", 2), "le": ("less_equal", 2), "lt": ("less", 2),
    "eq_signaling": ("equal_signaling", 2), "le_quiet": ("less_equal_quiet", 2), "lt_quiet": ("less_quiet", 2),
    "roundToInt": ("round_to_integral", 1), "min": ("minimum", 2), "max": ("maximum", 2),
    "minNum": ("minimum_number", 2), "maxNum": ("maximum_number", 2), "nextUp": ("next_up", 1),
    "nextDown": ("next_down", 1), "scaleB": ("scale_b", 1), "logB": ("log_b", 1),
}  # fmt: skip
FIXED_OPERATIONS = ("add", "sub", "mul", "mac")
COMPARISONS = ("equal", "equal_signaling", "less", "less_quiet", "less_equal", "less_equal_quiet")
MAX_LENGTH = 4096  # elements of a block or a dot

_CONVERSION = re.compile(r"(.+?)_to_(.+)")
_LONG = re.compile(r"(.+)_(encode|dot)(\d+)")
_OPERANDS = re.compile(r"(.+?)\s+([123])")


@dataclass(frozen=True)
class Function:
    """A function whose rows a vector file holds.

    Attributes:
        name: as it was given.
        operation: a key of `numfmt.arithmetic.OPERATIONS`, or "encode_block", "dot", "unit_dot", "operands".
        sources: format of each operand column; integers are fixed point.
        to: format of the result; None for comparisons, conversions to integers and operands alone.
        result_bits: width of a result code; 0 for operands alone.
        operand_widths: bits of a code of each operand.
        operand_sizes: codes a row of each operand: 1, but for blocks and dots.
        size: K of encode<K> and dot<K>, else 1.
        integer: "int32", … of a conversion to or from an integer, else None.
        block: the block format of an encoding, or of the operands of a dot.
        unit: the matrix unit of a unit_dot, with the one format of scales and size of blocks that its rows have.

    >>> f = parse("e4m3fn_mul")
    >>> f.operation, f.operand_widths, str(f.to), f.result_bits
    ('mul', (8, 8), 'float8_e4m3fn', 8)
    """

    name: str
    operation: str
    sources: tuple[Format, ...]
    to: Format | None
    result_bits: int
    size: int = 1
    integer: str | None = None
    block: BlockFormat | None = None
    unit: DotUnit | None = None

    @property
    def operand_widths(self) -> tuple[int, ...]:
        """Bits of a code of each operand."""
        return tuple(source.bits for source in self.sources)

    @property
    def operand_sizes(self) -> tuple[int, ...]:
        """Codes a row of each operand."""
        if self.operation == "dot" and self.block is not None:
            return (self.size, self.scales) * 2
        if self.unit is not None:
            pair = (self.size, self.scales) if self.unit.scales else (self.size,)
            return (*pair * 2, 1)
        return (self.size,) * len(self.sources)

    @property
    def operand_names(self) -> tuple[str, ...]:
        """Names of the operand columns."""
        if self.operation == "dot" and self.block is not None:
            return ("a", "a_scale", "b", "b_scale")
        if self.unit is not None and self.unit.scales:
            return ("a", "a_scale", "b", "b_scale", "c")
        if self.operation == "encode_block":
            return ("x",)
        if self.operation == "scale_b":
            return ("a", "n")
        return ("a", "b", "c")[: len(self.sources)]

    @property
    def scales(self) -> int:
        """Scales a row, of blocks."""
        if self.unit is not None:
            return self.size // self.unit.scale_blocks[0]
        assert self.block is not None
        size = self.block.elements_per_block
        return -(-self.size // size) if size else 1

    @property
    def result_parts(self) -> tuple[tuple[str, Format | None, int, int], ...]:
        """Name, format, bits and codes a row of each part of the result."""
        if self.operation == "operands":
            return ()
        if self.operation == "encode_block":
            assert self.block is not None
            assert not isinstance(self.block.scale, BlockFormat)
            scale, element = self.block.scale, self.block.element
            return (("scale", scale, scale.bits, self.scales), ("codes", element, element.bits, self.size))
        return (("result", self.to, self.result_bits, 1),)

    @property
    def has_flags(self) -> bool:
        """Whether rows have exception flags: all but encodings of blocks, dots of units and operands alone."""
        return self.operation not in ("encode_block", "unit_dot", "operands")

    @property
    def is_long(self) -> bool:
        """Whether operands are rows of codes."""
        return self.operation in ("encode_block", "dot", "unit_dot")

    @property
    def rounds(self) -> bool:
        """Whether rounding, overflow and random bits can decide a result."""
        exact = ("operands", "minimum", "maximum", "minimum_number", "maximum_number", "next_up", "next_down", "rem")
        return self.operation not in (*exact, *COMPARISONS)

    @property
    def formats(self) -> tuple[Format | BlockFormat, ...]:
        """Every format that the function's definition depends on."""
        found: list[Format | BlockFormat] = [*self.sources]
        found += [f for f in (self.to, self.block) if f is not None]
        if self.unit is not None:
            found += [f for f in (self.unit.accumulator, self.unit.product) if f is not None]
        return tuple(dict.fromkeys(found))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Rules:
    """What decides a result beside the operands; None is the default of the format.

    Raises:
        ValueError: an unknown mode, random bits for a mode that takes none, or a count that is missing.

    >>> Rules("rtz").rounding
    <Rounding.TOWARD_ZERO: 'toward_zero'>
    """

    rounding: Rounding | None = None
    overflow: Overflow | None = None
    platform: str | None = None
    tininess: str = "after"
    exact: bool = False
    random_bit_count: int | None = None

    def __post_init__(self) -> None:
        def set_field(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        if self.rounding is not None:
            set_field("rounding", Rounding.parse(self.rounding))
        if self.overflow is not None:
            set_field("overflow", Overflow.parse(self.overflow))
        if self.platform is not None:
            get_platform(self.platform)
        if self.tininess not in ("after", "before"):
            raise ValueError(f"tininess {self.tininess!r} is given; it is 'after' or 'before' rounding")
        count, mode = self.random_bit_count, self.rounding
        counted = mode is not None and mode.is_stochastic and mode is not Rounding.STOCHASTIC
        if counted and (count is None or not 1 <= count <= 32):
            raise ValueError(f"random_bit_count={count} is given; {mode} needs 1 to 32 random bits")
        if not counted and count not in (None, 0, 32 if mode is Rounding.STOCHASTIC else None):
            raise ValueError(f"random_bit_count={count} is given; rounding {mode or 'the default'} takes no such count")

    @property
    def random_bits(self) -> int:
        """Random bits a result takes: 0 but for stochastic rounding."""
        if self.rounding is None or not self.rounding.is_stochastic:
            return 0
        return 32 if self.rounding is Rounding.STOCHASTIC else int(self.random_bit_count or 0)


# ---- names -----------------------------------------------------------------------------------------------------


def parse(name: str | Function) -> Function:
    """The function of a name.

    Raises:
        ValueError: an unknown name, with the nearest ones, or a combination that means nothing.

    >>> parse("f32_to_e4m3fn").operation, parse("mxfp4_encode32").operand_sizes
    ('convert', (32,))
    >>> parse("f16_le_quiet").operation, parse("h100.e4m3_dot64").operation
    ('less_equal_quiet', 'unit_dot')
    """
    if isinstance(name, Function):
        return name
    text = name.strip()
    if match := _LONG.fullmatch(text):
        return _long(text, *match.groups())
    if match := _CONVERSION.fullmatch(text):
        return _conversion(text, *match.groups())
    for suffix in sorted(OPERATIONS, key=len, reverse=True):
        if text.lower().endswith(f"_{suffix.lower()}"):
            return _operation(text, text[: -len(suffix) - 1], suffix)
    count = 1
    kind = text
    if match := _OPERANDS.fullmatch(text):
        kind, count = match[1], int(match[2])
    try:
        return Function(text, "operands", (operand_format(kind, text),) * count, None, 0)
    except ValueError:
        raise ValueError(unknown("function", text, _nearby(text))) from None


def operand_format(kind: str, name: str) -> Format:
    """The scalar format, or integer as fixed point, that a function's name mentions."""
    if kind in INTEGERS:
        return _integer_format(INTEGERS[kind])
    try:
        return scalar_format(kind)
    except ValueError as error:
        raise ValueError(f"function {name!r}: {error}") from None


def _integer_format(integer: str) -> FixedFormat:
    return FixedFormat(int(integer.removeprefix("u").removeprefix("int")), signed=not integer.startswith("u"))


def _conversion(name: str, source: str, target: str) -> Function:
    if source in INTEGERS and target in INTEGERS:
        raise ValueError(f"function {name!r} is given; one side of a conversion is a float, as in {source}_to_f32")
    made, into = operand_format(source, name), operand_format(target, name)
    if target in INTEGERS:
        _need_float(name, made, "a conversion to an integer")
        return Function(name, "to_integer", (made,), None, into.bits, integer=INTEGERS[target])
    if source in INTEGERS:
        _need_float(name, into, "a conversion from an integer")
        return Function(name, "from_integer", (made,), into, into.bits, integer=INTEGERS[source])
    return Function(name, "convert", (made,), into, into.bits)


def _operation(name: str, kind: str, suffix: str) -> Function:
    fmt = operand_format(kind, name)
    operation, count = OPERATIONS[suffix]
    if isinstance(fmt, CodebookFormat) or (isinstance(fmt, FixedFormat) and operation not in FIXED_OPERATIONS):
        has = "add, sub, mul and mac" if isinstance(fmt, FixedFormat) else "conversions only, as in f32_to_nf4"
        raise ValueError(f"function {name!r} is given; {fmt} has {has}")
    if operation == "mac" and not isinstance(fmt, FixedFormat):
        raise ValueError(f"function {name!r} is given; mac is for fixed point, floats have {kind}_mulAdd")
    sources: tuple[Format, ...] = (fmt,) * count
    if operation == "scale_b":
        sources = (fmt, FixedFormat(32))
    if operation in COMPARISONS:
        return Function(name, operation, sources, None, 1)
    return Function(name, operation, sources, fmt, fmt.bits)


def _long(name: str, kind: str, verb: str, length: str) -> Function:
    size = int(length)
    if not 1 <= size <= MAX_LENGTH:
        raise ValueError(f"function {name!r} is given; {verb} takes 1 to {MAX_LENGTH} elements")
    try:
        fmt = get_format(kind)
    except ValueError as error:
        if verb == "dot":
            from .unit_functions import parsed

            if (found := parsed(name, kind, length)) is not None:
                return found
        raise ValueError(f"function {name!r}: {error}") from None
    if isinstance(fmt, BlockFormat):
        _check_block(name, fmt)
    if verb == "encode":
        if not isinstance(fmt, BlockFormat):
            raise ValueError(f"function {name!r} is given; encode takes a block format, {fmt} has f32_to_{kind}")
        return Function(name, "encode_block", (scalar_format("f32"),), fmt.element, fmt.element.bits, size, block=fmt)
    to = scalar_format("f32")
    if isinstance(fmt, BlockFormat):
        assert not isinstance(fmt.scale, BlockFormat)
        return Function(name, "dot", (fmt.element, fmt.scale) * 2, to, to.bits, size, block=fmt)
    if isinstance(fmt, CodebookFormat) or fmt.bits > 32:
        raise ValueError(f"function {name!r} is given; dot takes floats and fixed point of at most 32 bits")
    return Function(name, "dot", (fmt, fmt), to, to.bits, size)


def _check_block(name: str, fmt: BlockFormat) -> None:
    one_axis = len(fmt.block) == 1
    if not one_axis or fmt.micro or fmt.scale_rule.zero_point is not None or isinstance(fmt.scale, BlockFormat):
        raise ValueError(f"function {name!r} is given; a row holds one scale code a block along one axis, unlike {fmt}")
    if fmt.scale_rule.name == "q4_1" or fmt.block == (WHOLE_AXIS,):
        raise ValueError(f"function {name!r} is given; blocks of a row have a fixed size, unlike those of {fmt}")


def _need_float(name: str, fmt: Format, what: str) -> None:
    if not isinstance(fmt, FloatFormat):
        raise ValueError(f"function {name!r} is given; {what} has a float on the other side, {fmt} is none")


def _nearby(text: str) -> list[str]:
    """Names that a mistyped one may have meant."""
    kind = text.partition("_")[0]
    known = ["f32", "f16", "bf16", "e4m3fn", "e5m2", "e2m1"]
    names = [f"{k}_{op}" for k in dict.fromkeys([kind, *known]) for op in OPERATIONS]
    names += [f"{k}_to_{j}" for k in known for j in known if k != j]
    return [*names, "mxfp4_encode32", "mxfp8_encode32", "nvfp4_encode16", "e4m3fn_dot32", "mxfp8_e4m3_dot32"]


def functions_of(fmt: str | Format | BlockFormat) -> list[str]:
    """Names of the functions of a format, or of a matrix unit.

    >>> functions_of("mxfp4"), functions_of("h100.e4m3")
    (['mxfp4_encode32', 'mxfp4_dot32'], ['h100.e4m3_dot48'])
    """
    name = str(fmt)
    try:
        made = get_format(fmt)
    except ValueError as error:
        from .unit_functions import unit_dot

        if str(error).startswith("unknown format") and "." in name:
            return [unit_dot(name).name]
        raise
    if isinstance(made, BlockFormat):
        size = made.elements_per_block or 32
        return [f"{name}_{verb}{size}" for verb in ("encode", "dot")]
    if isinstance(made, CodebookFormat):
        return [f"f32_to_{name}", f"{name}_to_f32"]
    if isinstance(made, FixedFormat):
        return [*(f"{name}_{op}" for op in FIXED_OPERATIONS), f"{name}_dot32"]
    others = [f"f32_to_{name}", f"f64_to_{name}", f"{name}_to_f32", f"{name}_to_f64"]
    integers = [f"{name}_to_{i}" for i in INTEGERS] + [f"{i}_to_{name}" for i in INTEGERS]
    return [*(f"{name}_{op}" for op in OPERATIONS if op != "mac"), *others, *integers, f"{name}_dot32"]


# ---- results ---------------------------------------------------------------------------------------------------


def evaluate(
    function: Function,
    operands: Sequence[Array],
    rules: Rules,
    random: Array | None = None,
    *,
    threads: int | None = None,
) -> tuple[Array, Array | None]:
    """Results and flags of rows of operands.

    Args:
        operands: one array of codes a column: of n codes, (n, K) for blocks and dots.
        random: random numbers of `rules.random_bits` bits, one a result code that is rounded.
        threads: at most so many.

    Returns:
        (results, flags): unsigned codes, n of them or (n, S + K) for blocks (scales, then elements); uint8 flags,
        or None where they are not defined.

    Raises:
        ValueError: rules that the function's formats cannot express.

    >>> evaluate(parse("e4m3fn_mul"), [np.uint8([0x3C]), np.uint8([0x3D])], Rules())
    (array([66], dtype=uint8), array([1], dtype=uint8))
    """
    from . import evaluation, long_functions

    match function.operation:
        case "operands":
            return np.zeros((len(operands[0]), 0), np.uint8), None
        case "encode_block":
            return long_functions.encode(function, operands[0], rules, random, threads), None
        case "dot":
            return long_functions.dot(function, operands, rules, random, threads)
        case "unit_dot":
            from .unit_functions import dot

            return dot(function, operands, rules, random, threads), None
        case "convert" if not isinstance(function.to, FloatFormat) or not isinstance(function.sources[0], FloatFormat):
            return evaluation.converted(function, operands[0], rules, random, threads)
    return evaluation.computed(function, operands, rules, random, threads)


def check_rules(function: Function, rules: Rules) -> None:
    """Raise ValueError where the function's formats cannot express the rules: one row of zeros is computed.

    >>> check_rules(parse("e4m3fn_mul"), Rules(overflow="wrap"))
    Traceback (most recent call last):
    ValueError: overflow 'wrap' is given for float8_e4m3fn; only fixed-point formats take it; 'saturate' fits
    """
    from .rows import fields_of

    zeros = [one.zeros(1) for one in fields_of(function, rules) if one.role in ("operand", "random")]
    random = zeros.pop() if rules.random_bits and function.rounds else None
    evaluate(function, zeros, rules, random, threads=1)
