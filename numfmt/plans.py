"""From a format and its rounding rules to the integer parameters that kernels read.

Everything here is exact Python arithmetic, done once for each combination of arguments and cached.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from ._core.fixed import Grid
from ._core.parameters import Carrier, Gap, Results, Round, Source, Target
from ._core.rounding import FRACTION_BITS
from ._core.table import Table
from .carriers import BINARY256, holds, magnitude_pattern, pattern, signed, value_of
from .formats import CodebookFormat, FixedFormat, FloatFormat, Format, Subnormals
from .rounding import Overflow, Platform, Rounding, Rule
from .specials import Rules, SpecialCodes, special_codes

# nearest, lsb, sign, flip: the table in _core/rounding.py
_MODES = {
    Rounding.TIES_TO_EVEN: (1, 1, 0, 0),
    Rounding.TIES_TO_ODD: (1, 1, 0, 1),
    Rounding.TIES_TO_AWAY: (1, 0, 0, 1),
    Rounding.TIES_TO_ZERO: (1, 0, 0, 0),
    Rounding.TIES_TO_POSITIVE: (1, 0, 1, 1),
    Rounding.TIES_TO_NEGATIVE: (1, 0, 1, 0),
    Rounding.TOWARD_ZERO: (0, 0, 0, 0),
    Rounding.AWAY_FROM_ZERO: (0, 0, 0, 1),
    Rounding.TOWARD_POSITIVE: (0, 0, 1, 1),
    Rounding.TOWARD_NEGATIVE: (0, 0, 1, 0),
    Rounding.TO_ODD: (0, 1, 0, 1),
    # How the dropped fraction is rounded to N bits before the random number is added.
    Rounding.STOCHASTIC: (0, 0, 0, 0),
    Rounding.STOCHASTIC_A: (0, 0, 0, 0),
    Rounding.STOCHASTIC_B: (1, 0, 0, 1),
    Rounding.STOCHASTIC_C: (1, 1, 0, 0),
}


@dataclass(frozen=True, eq=False)
class Plan:
    """One kernel call: which kernel, on which carrier, with which parameters."""

    kernel: str  # "float", "gapped", "fixed" or "table"
    carrier: Carrier
    general: bool
    parameters: Target | Grid | Table
    results: Results
    mode: Round
    gap: Gap | None = None
    source: Source | None = None  # to decode the codes of a gapped format

    @property
    def is_stochastic(self) -> bool:
        """Whether the kernel takes random numbers."""
        return self.mode.random_bits > 0


def resolve(
    fmt: Format,
    rounding: Rounding | str | None,
    overflow: Overflow | str | None,
    platform: Platform | None,
    random_bit_count: int | None,
    wrap_bits: int = 0,
) -> Rules:
    """Rules for one format; raises ValueError for what the format cannot express."""
    rule = platform.rule(str(fmt)) if platform is not None else Rule()
    if rounding is not None:
        rule = Rule(**{**rule.__dict__, "rounding": None, "lowest_away": False, "thresholds": None})
    if overflow is not None:
        rule = Rule(**{**rule.__dict__, "overflow": None, "infinity": None})
    mode = Rounding.parse(rounding or rule.rounding or fmt.default_rounding)
    limit = Overflow.parse(overflow or rule.overflow or fmt.default_overflow or Overflow.SATURATE)
    _check_overflow(fmt, limit, wrap_bits)
    return Rules(mode, limit, rule, _random_bits(mode, random_bit_count), wrap_bits)


def _random_bits(mode: Rounding, count: int | None) -> int:
    if not mode.is_stochastic:
        if count is not None:
            raise ValueError(f"random_bit_count={count} is given; rounding {mode.value!r} takes no random bits")
        return 0
    if mode is Rounding.STOCHASTIC and count not in (None, 32):
        raise ValueError(f"random_bit_count={count} is given; 'stochastic' uses 32, 'stochastic_a' takes 1 to 32")
    if count is None:
        return 32
    if not 1 <= count <= 32:
        raise ValueError(f"random_bit_count={count} is given; it must be 1 to 32")
    return count


_FIXED_ONLY = (Overflow.WRAP, Overflow.SATURATE_ZERO, Overflow.SYMMETRIC, Overflow.WRAP_SIGN_MAGNITUDE)


def _check_overflow(fmt: Format, overflow: Overflow, wrap_bits: int) -> None:
    def refuse(why: str) -> None:
        raise ValueError(f"overflow {overflow.value!r} is given for {fmt}; {why}")

    if overflow is Overflow.NAN and not (fmt.has_nan or fmt.has_infinity):
        refuse("the format has neither NaN nor infinity; 'saturate' fits")
    if not isinstance(fmt, FixedFormat):
        if overflow in _FIXED_ONLY:
            refuse("only fixed-point formats take it; 'saturate' fits")
    elif fmt.sign_magnitude or not fmt.signed:
        if overflow is Overflow.SYMMETRIC:
            refuse("only two's complement has an asymmetric range; 'saturate' fits")
        if overflow is Overflow.WRAP_SIGN_MAGNITUDE or (fmt.sign_magnitude and overflow is Overflow.WRAP):
            refuse("only two's complement formats take it; 'saturate' fits")
    if wrap_bits and overflow is not Overflow.WRAP:
        raise ValueError(f"wrap_bits={wrap_bits} is given with overflow {overflow.value!r}; only 'wrap' takes it")
    if wrap_bits and not 0 <= wrap_bits <= fmt.bits:
        raise ValueError(f"wrap_bits={wrap_bits} is given; {fmt} has 0 to {fmt.bits}")


# Plans


@lru_cache(maxsize=4096)
def encode_plan(fmt: Format, rules: Rules, carrier: Carrier) -> Plan | None:
    """How to encode carrier patterns into codes, or None where the carrier is too narrow."""
    codes = special_codes(fmt, rules)
    results = results_of(codes, lambda code: signed(code, carrier.bits))
    return _plan(fmt, rules, carrier, codes, results, in_carrier=False)


@lru_cache(maxsize=4096)
def quantize_plan(fmt: Format, rules: Rules, carrier: Carrier) -> Plan | None:
    """How to round carrier patterns to the format's values, or None where the carrier is too narrow."""
    codes = special_codes(fmt, rules)
    if isinstance(fmt, FixedFormat) or (isinstance(fmt, FloatFormat) and gap_of(fmt)):  # encoded, and the codes decoded
        results = results_of(codes, lambda code: signed(code, carrier.bits))
    else:
        results = results_of(codes, lambda code: signed(pattern(fmt.exact(code), carrier), carrier.bits))
    return _plan(fmt, rules, carrier, codes, results, in_carrier=True)


def results_of(codes: SpecialCodes, represent) -> Results:  # type: ignore[no-untyped-def]
    """What special operands become, as `represent` writes codes."""
    pairs = (codes.overflow, codes.infinity, codes.nan, codes.zero)
    return Results(*(represent(code) for pair in pairs for code in pair))


def round_parameters(rules: Rules) -> Round:
    """The rounding mode as integers."""
    n = rules.random_bit_count
    return Round(*_MODES[rules.rounding], n, 2 ** (n - 1) - 1 if n else 0)


def _plan(
    fmt: Format, rules: Rules, carrier: Carrier, codes: SpecialCodes, results: Results, in_carrier: bool
) -> Plan | None:
    mode = round_parameters(rules)
    match fmt:
        case FloatFormat():
            gap = gap_of(fmt)
            target = float_target(fmt, rules.rule, carrier, codes, in_carrier and gap is None)
            if gap is None:
                fits = fmt.trailing_bits < carrier.sign_shift if in_carrier else _codes_fit(fmt, carrier)
                return (
                    Plan("float", carrier, _is_general(fmt, rules.rule, carrier), target, results, mode)
                    if fits
                    else None
                )
            # A fraction of the hole takes t + FRACTION_BITS bits, but in 32 it is never made.
            fits = _codes_fit(fmt, carrier) and (
                not mode.random_bits or carrier.bits == 32 or fmt.trailing_bits + FRACTION_BITS < carrier.sign_shift
            )
            fits = fits and (not in_carrier or holds(carrier, fmt))
            source = source_plan(fmt, carrier) if in_carrier and fits else None
            return Plan("gapped", carrier, True, target, results, mode, gap, source) if fits else None
        case FixedFormat():
            grid = fixed_grid(fmt, rules, carrier)
            narrow = fmt.bits <= carrier.bits - 2 and fmt.bits - fmt.signed <= carrier.trailing
            fits = holds(carrier, fmt) and narrow if in_carrier else fmt.bits <= carrier.bits - 2
            return Plan("fixed", carrier, True, grid, results, mode) if fits else None
        case CodebookFormat():
            table = _table(fmt, rules, carrier, in_carrier)
            fits = (
                carrier is BINARY256
                or not mode.random_bits
                or (carrier.bits == 64 and table.reach <= 62 - carrier.trailing)
                or (carrier.bits == 32 and bool(table.width.any()))
            )
            return Plan("table", carrier, True, table, results, mode) if fits else None


def gap_of(fmt: FloatFormat) -> Gap | None:
    """The hole in a float's grid, in codes of the grid without it; None where there is none."""
    one = 1 << fmt.trailing_bits
    match fmt.subnormals:
        case Subnormals.NONE:
            return Gap(0, one, 0)
        case Subnormals.SHIFTED:
            return Gap(one - 1, 2 * one, one)
        case Subnormals.NORMAL if fmt.zero:
            return Gap(0, one + 1, one)
        case _:
            return None


def _codes_fit(fmt: FloatFormat, carrier: Carrier) -> bool:
    """Whether packed codes, with an exponent unbounded above, stay positive in the carrier's integers."""
    if carrier is BINARY256:
        return True
    fields = 2 * carrier.bias + 2 - min(fmt.emin + carrier.bias, 2 * carrier.bias)
    narrow = fmt.bits <= carrier.bits - (not fmt.signed) and fmt.trailing_bits <= carrier.trailing
    return narrow and (fields + 1) << fmt.trailing_bits < 2**carrier.sign_shift


def _is_general(fmt: FloatFormat, rule: Rule, carrier: Carrier) -> bool:
    regular = fmt.signed and fmt.subnormals is Subnormals.GRADUAL
    within = fmt.emin >= 1 - carrier.bias and fmt.trailing_bits <= carrier.trailing
    return not (regular and within) or rule.absolute or rule.lowest_away


def float_target(fmt: FloatFormat, rule: Rule, carrier: Carrier, codes: SpecialCodes, in_carrier: bool) -> Target:
    """A float format's grid relative to a carrier."""
    if in_carrier:
        represent = lambda code: pattern(fmt.exact(code), carrier)  # noqa: E731
        sign = signed(1 << carrier.sign_shift, carrier.bits) if fmt.signed else 0
        largest = magnitude_pattern(fmt.max, carrier)
        smallest = magnitude_pattern(fmt.min_positive, carrier)
    else:
        represent = lambda code: code  # noqa: E731
        sign = signed(fmt.sign_mask, carrier.bits)
        largest, smallest = fmt.max_code, fmt.min_code
    return Target(
        trailing=fmt.trailing_bits,
        emin=fmt.emin + carrier.bias - (fmt.subnormals is Subnormals.SHIFTED),
        smallest=smallest,
        largest=largest,
        sign=sign,
        offset=0 if fmt.zero else 1 << fmt.trailing_bits,
        zeroless=int(not fmt.zero),
        unsigned=int(not fmt.signed and not rule.absolute),
        negative=signed(represent(codes.negative), carrier.bits),
        absolute=int(rule.absolute),
        lowest_away=int(rule.lowest_away),
    )


def fixed_grid(fmt: FixedFormat, rules: Rules | None, carrier: Carrier) -> Grid:
    """A fixed-point format relative to a carrier; without rules, for decoding."""
    overflow = rules.overflow if rules else Overflow.SATURATE
    low = -fmt.max_integer if overflow is Overflow.SYMMETRIC else fmt.min_integer
    mask = 2**fmt.bits - 1
    wrap, keep, top, negative_top = 0, mask, 0, 0
    if overflow in (Overflow.WRAP, Overflow.WRAP_SIGN_MAGNITUDE):
        wrap = 1 if overflow is Overflow.WRAP else 2
        n = rules.wrap_bits if rules else 0
        keep = 2 ** (fmt.bits - n) - 1
        if n:
            ones = 2 ** (n - fmt.signed) - 1
            top = ones * 2 ** (fmt.bits - n)
            negative_top = 2 ** (fmt.bits - 1) if fmt.signed else top
    return Grid(
        width=fmt.bits,
        field=carrier.bias + carrier.trailing - fmt.fraction_bits,
        low=low,
        high=fmt.max_integer,
        mask=mask,
        sign_magnitude=int(fmt.sign_magnitude),
        signed=int(fmt.signed),
        wrap=wrap,
        keep=keep,
        top=top,
        negative_top=negative_top,
    )


@lru_cache(maxsize=1024)
def source_plan(fmt: FloatFormat, carrier: Carrier) -> Source:
    """How to decode a float format's codes in a carrier that holds all its values."""
    return Source(
        mask=signed(2**fmt.bits - 1, carrier.bits) if fmt.bits == carrier.bits else 2**fmt.bits - 1,
        sign_shift=fmt.bits - 1 if fmt.signed else fmt.bits,
        magnitude_mask=fmt.magnitude_mask,
        trailing=fmt.trailing_bits,
        rebias=carrier.bias - fmt.bias,
        largest=fmt.max_code,
        infinity=-1 if fmt.infinity_code is None else fmt.infinity_code,
        negative_zero=signed(pattern(fmt.exact(2 ** (fmt.bits - 1)), carrier), carrier.bits) if fmt.signed else 0,
        nan=pattern("nan", carrier),
        subnormal=int(fmt.subnormals in (Subnormals.GRADUAL, Subnormals.SHIFTED)),
        unused=int(fmt.subnormals is Subnormals.NONE),
        zero=pattern(fmt.exact(0), carrier),
        shifted=int(fmt.subnormals is Subnormals.SHIFTED),
    )


# Tables


def _table(fmt: CodebookFormat, rules: Rules, carrier: Carrier, in_carrier: bool) -> Table:
    """The sorted values of a codebook, as keys of the carrier."""
    values = sorted(set(fmt.values))
    result = [pattern(v, carrier) if in_carrier else fmt.values.index(v) for v in values]
    depth = len(values).bit_length()
    pairs = list(pairwise(values))
    at, above = _keys(values, carrier)
    middle_at, middle_above = _keys([(a + b) / 2 for a, b in pairs], carrier)
    if rules.rule.thresholds is not None:
        from_on, beyond = _keys([Fraction(t) for t, _ in rules.rule.thresholds], carrier)
        inclusive = [on for _, on in rules.rule.thresholds]
        middle_at = middle_above = [a if on else b for a, b, on in zip(from_on, beyond, inclusive, strict=True)]
    at += [carrier.magnitude_mask] * (2**depth - len(values))
    units = [min(_trailing_zeros(v) for v in pair if v != 0) for pair in pairs]
    lower, upper = ([int(pair[i] / Fraction(2) ** u) for pair, u in zip(pairs, units, strict=True)] for i in (0, 1))
    field = [unit + carrier.bias + carrier.trailing for unit in units]
    widest = max(abs(v).bit_length() for v in (*lower, *upper))
    room = 62 - carrier.trailing
    fits = widest + FRACTION_BITS - 1 <= 62
    exact = carrier is BINARY256

    def array(numbers: list[int]) -> Any:
        if exact:
            return numbers
        dtype = np.int32 if carrier.bits == 32 else np.int64
        return np.array([signed(n, carrier.bits) for n in numbers], dtype)

    quotients = [lower, upper, [b - a for a, b in zip(lower, upper, strict=True)], field]
    if carrier.bits == 32:  # distances of 30 bits, from the neighbour toward zero outward
        fits = widest <= 29 and not any(a < 0 < b for a, b in pairs)
    if not exact and not (rules.random_bit_count and fits):
        quotients = [[0] for _ in quotients]
    reach = room if fits and not exact else widest + FRACTION_BITS
    columns = [array(column) for column in (at, above, middle_at, middle_above, result, *quotients)]
    return Table._make([depth, len(values), *columns, reach])


def _trailing_zeros(value: Fraction) -> int:
    """Exponent of the largest power of two that divides a dyadic value."""
    n = abs(value.numerator)
    return (n & -n).bit_length() - value.denominator.bit_length()


def _keys(values: list[Fraction], carrier: Carrier) -> tuple[list[int], list[int]]:
    """For each value the least key at it or above it, and the least key above it."""
    at, above = [], []
    for value in values:
        key = magnitude_pattern(abs(value), carrier)
        exact = value_of(key, carrier) == abs(value)
        if value < 0:
            at.append(-key)
            above.append(-key + exact)
        else:
            at.append(key + (not exact))
            above.append(key + 1)
    return at, above
