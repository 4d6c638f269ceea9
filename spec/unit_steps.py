"""One step of a dot-product unit: what each kind makes of the products, or of the scaled ones, and the accumulator.

`u` holds the parameters of the unit (`spec.units.unit_of`), `round_` rounds to its accumulator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import count
from math import floor, trunc
from types import SimpleNamespace
from typing import NamedTuple

from spec.binary32 import is_infinite, is_nan, is_negative, magnitude, with_sign
from spec.formats import FixedFormat, FloatFormat, Format, Value, floor_log2, power_of_two
from spec.names import fixed
from spec.oracle import OVERFLOW, encode, encode_flags, value

ZERO = Fraction(0)


class Term(NamedTuple):
    """A summand with its nominal exponent, which says nothing where the value is zero, infinite or NaN."""

    value: Value
    exponent: int


class Alignment(NamedTuple):
    """The sum of aligned terms."""

    exponent: int | None  # E, where there is one
    sum: Fraction


# ---- exact sums ---------------------------------------------------------------------------------------------------


def special_sum(values: Sequence[Value]) -> Value | None:
    """NaN or infinity, where that is the sum: the only one there is, or NaN of several different ones."""
    found = {x for x in values if isinstance(x, str)} - {"-0"}
    if not found:
        return None
    return found.pop() if len(found) == 1 else "nan"


def zero_sum(values: Sequence[Value], rounding: str, zero: str) -> Value:
    """The zero that a sum is: under "ieee" that of the summands if they are alike, else as IEEE 754-2019, 6.3."""
    if zero == "positive" or not values:
        return ZERO
    negative = [is_negative(x) for x in values]
    if all(magnitude(x) == 0 for x in values) and len(set(negative)) == 1:
        return with_sign(ZERO, negative[0])
    return with_sign(ZERO, rounding == "toward_negative")


def exact_sum(values: Sequence[Value], rounding: str, zero: str) -> Value:
    special = special_sum(values)
    if special is not None:
        return special
    return sum(map(number, values), ZERO) or zero_sum(values, rounding, zero)


def number(x: Value) -> Fraction:
    """A value as a number: a zero without its sign, and 0 for what is none."""
    return x if isinstance(x, Fraction) else ZERO


# ---- rounding -----------------------------------------------------------------------------------------------------


class Rounder:
    """Rounds to the accumulator of a unit; where that is stochastic each rounding takes the next random number."""

    def __init__(self, u: SimpleNamespace, random: Iterable[int] | None, random_bit_count: int) -> None:
        self.u, self.bits = u, random_bit_count
        self.random = iter(random or ())

    def __call__(self, x: Value, rounding: str | None = None) -> Value:
        rounding = rounding or self.u.rounding
        random = next(self.random) if rounding.startswith("stochastic") else None
        return rounded(self.u, x, self.u.accumulator, rounding, random, self.bits)

    def sum(self, *values: Value, rounding: str | None = None) -> Value:
        """The sum of the values, rounded once."""
        return self(exact_sum(values, rounding or self.u.rounding, self.u.zero), rounding)


def rounded(u: SimpleNamespace, x: Value, fmt: FloatFormat, rounding: str, random: int | None = None,
            random_bit_count: int = 32) -> Value:
    """The value of the format that x becomes in this unit."""
    code, flags = encode_flags(x, fmt, rounding, None, random, random_bit_count)
    if flags & OVERFLOW and u.overflow is not None:
        code = beyond(is_negative(x), fmt, u.overflow)
    if u.flush_results == "tiny" and is_tiny(x, fmt, rounding):
        return with_sign(ZERO, is_negative(x))
    return flushed(value(code, fmt), fmt, "signed" if u.flush_results is True else None)


def is_tiny(x: Value, fmt: FloatFormat, rounding: str) -> bool:
    """Whether x, rounded to the digits of a format as if its exponents had no end, is subnormal in it."""
    if not is_subnormal(x, fmt) or rounding.startswith("stochastic"):
        return False
    code, _ = encode_flags(4 * x, fmt, rounding)  # next to the least normal value all digits are there
    return abs(number(value(code, fmt))) < 4 * fmt.min_normal


def beyond(negative: bool, fmt: FloatFormat, overflow: str) -> int:
    """What a finite sum beyond the range becomes, whatever the rounding."""
    if overflow == "infinity":
        return encode(with_sign("inf", negative), fmt, "ties_to_even", "infinity")
    return encode(with_sign(fmt.max, negative), fmt)


def rounded_product(u: SimpleNamespace, x: Value) -> Value:
    """NaN stays what it is, also where the product's format has none; infinity becomes the largest value there."""
    return x if is_nan(x) else rounded(u, x, u.product, u.product_rounding)


def is_subnormal(x: Value, fmt: Format) -> bool:
    return isinstance(fmt, FloatFormat) and isinstance(x, Fraction) and 0 < abs(x) < fmt.min_normal


def flushed(x: Value, fmt: Format, how: str | None) -> Value:
    """x, or a zero where it is a subnormal of the format: "signed" as x, or "positive"."""
    if how is None or not is_subnormal(x, fmt):
        return x
    return with_sign(ZERO, how == "signed" and is_negative(x))


# ---- kind = aligned -----------------------------------------------------------------------------------------------


def to_odd(x: Fraction) -> int:
    """Without its fraction, and odd if there was one."""
    whole = trunc(x)
    if whole == x or whole % 2 == 1:
        return whole
    return whole + (1 if x > 0 else -1)


ALIGNMENTS: dict[str, Callable[[Fraction], int]] = {
    "toward_zero": trunc,
    "toward_negative": floor,
    "ties_to_even": round,  # Python's takes ties to even
    "to_odd": to_odd,
}


def floored(x: Fraction, exponent: int) -> Fraction:
    """The largest multiple of 2^exponent that is at most x."""
    return floor(x / power_of_two(exponent)) * power_of_two(exponent)


def align(u: SimpleNamespace, terms: Sequence[Term]) -> Alignment:
    """The sum of all terms as multiples of 2^(E - F). E is the largest nominal exponent, of nonzero terms."""
    exponents = [t.exponent for t in terms if number(t.value)]
    if u.zero_exponent is not None:
        exponents.append(u.zero_exponent)
    if not exponents:
        return Alignment(None, ZERO)
    largest = max(exponents)
    return Alignment(largest, sum((aligned_term(u, t.value, largest) for t in terms), ZERO))


def aligned_term(u: SimpleNamespace, x: Value, exponent: int) -> Fraction:
    quantum = power_of_two(exponent - u.fraction)
    return ALIGNMENTS[u.alignment](number(x) / quantum) * quantum


def digits_lost(x: Value, below: int) -> int:
    """How many digits of x, from its first 1 to its last, lie below 2^below."""
    size = abs(number(x))
    if size == 0:
        return 0
    first = floor_log2(size)
    last = next(exponent for exponent in count(first, -1) if size % power_of_two(exponent) == 0)
    return max(min(below, first + 1) - last, 0)


def align_products(u: SimpleNamespace, terms: Sequence[Term]) -> Alignment:
    """The aligned sum of a step without the accumulator: of all terms, or of the even and the odd ones apart."""
    if u.order != "even_odd":
        return align(u, terms)
    halves = [align(u, terms[start::2]) for start in (0, 1)]
    exponents = [half.exponent for half in halves if half.exponent is not None]
    if not exponents:
        return halves[0]
    largest = max(exponents)
    return Alignment(largest, sum((floored(half.sum, largest - u.fraction) for half in halves), ZERO))


def late_aligned(u: SimpleNamespace, terms: Sequence[Term], found: Alignment, acc: Term) -> Fraction:
    """The sum and the accumulator, both floored below the larger of their exponents, and added."""
    exponents = [found.exponent] if any(number(t.value) for t in terms) else []
    exponents += [acc.exponent] if number(acc.value) else []
    if not exponents:
        return ZERO
    largest = max(exponents)
    reached = u.late_reach is None or acc.exponent >= largest - u.late_reach
    addend = floored(number(acc.value), largest - u.fraction) if reached else ZERO
    return floored(found.sum, largest - u.late_fraction) + addend


def aligned(u: SimpleNamespace, round_: Rounder, terms: list[Term], acc: Term) -> tuple[Value, int | None]:
    """The accumulator after a step, and E."""
    early = u.addend == "early"
    summands = [*terms, acc] if early else terms
    values = [t.value for t in summands]
    found = align(u, summands) if early else align_products(u, terms)
    if u.late_fraction is not None:
        values.append(acc.value)
        exact = late_aligned(u, terms, found, acc)
    else:
        exact = found.sum
    special = special_sum(values)
    total = round_(exact or zero_sum(values, u.rounding, u.zero) if special is None else special)
    if early or u.late_fraction is not None:
        return total, found.exponent
    return round_.sum(acc.value, total, rounding=u.late_rounding), found.exponent


# ---- the other kinds ----------------------------------------------------------------------------------------------


def sequence(u: SimpleNamespace, round_: Rounder, products: Sequence[Value], start: Value) -> Value:
    """The products added to `start`, one after the other; fused where they are exact."""
    found = start
    for p in products:
        found = round_.sum(p if u.product is None else rounded_product(u, p), found)
    return found


def odd_first(products: Sequence[Value]) -> list[Value]:
    """Of every two the second one first; a last one without partner comes alone."""
    return [p for k in range(0, len(products), 2) for p in reversed(products[k : k + 2])]


def chain(u: SimpleNamespace, round_: Rounder, products: list[Value], acc: Value) -> Value:
    if u.order == "even_odd":
        even, odd = (sequence(u, round_, products[start::2], ZERO) for start in (0, 1))
        return round_.sum(acc, round_.sum(even, odd), rounding=u.late_rounding)
    ordered = odd_first(products) if u.order == "odd_first" else products
    if u.addend == "late":
        return round_.sum(acc, sequence(u, round_, ordered, ZERO), rounding=u.late_rounding)
    return sequence(u, round_, ordered, acc) if products else round_.sum(acc)


def tree(u: SimpleNamespace, round_: Rounder, products: list[Value], acc: Value) -> Value:
    """Neighbours are added, level by level; one left over goes up as it is."""
    level = [rounded_product(u, p) for p in products]
    if not level:
        return round_.sum(acc, rounding=u.late_rounding)
    while len(level) > 1:
        left_over = level[len(level) // 2 * 2 :]
        level = [round_.sum(x, y) for x, y in zip(level[0::2], level[1::2], strict=False)] + left_over
    return round_.sum(acc, level[0], rounding=u.late_rounding)


def exact(u: SimpleNamespace, round_: Rounder, products: list[Value], acc: Value) -> Value:
    if u.addend == "early":
        return round_.sum(*products, acc)
    return round_.sum(acc, round_.sum(*products), rounding=u.late_rounding)


def fixed_sum(u: SimpleNamespace, _: Rounder, products: list[Value], acc: Value) -> Value:
    """Products as multiples of the accumulator's quantum, added exactly; the end of the range is looked at once."""
    fmt = u.accumulator
    if special_sum([*products, acc]) is not None:
        raise ValueError(f"{fmt.name} has neither NaN nor infinity, nor may the operands be any; given {products}")
    whole = sum((to_multiple(number(p), fmt, u.product_rounding) for p in products), number(acc))
    return value(encode(whole, fmt, u.rounding, u.overflow or "saturate"), fmt)


def to_multiple(x: Fraction, fmt: FixedFormat, rounding: str) -> Fraction:
    """x rounded to a multiple of the format's quantum, without ends."""
    size = max(floor_log2(abs(x) / fmt.quantum), 0) if x else 0
    wide = fixed(size + 3, fmt.fraction_bits)
    return number(wide.value(encode(x, wide, rounding)))


def product_of_accumulator(round_: Rounder, x: Value) -> Value:
    return round_(x) if special_sum([x]) is None else x


def kahan(u: SimpleNamespace, round_: Rounder, products: list[Value], acc: Value) -> Value:
    """Operation by operation: beside an infinite sum the compensation is infinite or NaN, and so is what follows."""
    comp: Value = ZERO
    for exact_product in products:
        y = round_.sum(product_of_accumulator(round_, exact_product), negated(comp))
        t = round_.sum(acc, y)
        comp = round_.sum(round_.sum(t, negated(acc)), negated(y))
        acc = t
    return acc if products else round_.sum(acc)


def neumaier(u: SimpleNamespace, round_: Rounder, products: list[Value], acc: Value) -> Value:
    comp: Value = ZERO
    for exact_product in products:
        p = product_of_accumulator(round_, exact_product)
        t = round_.sum(acc, p)
        large, small = (acc, p) if is_larger(acc, p) else (p, acc)
        comp = round_.sum(comp, round_.sum(round_.sum(large, negated(t)), small))
        acc = t
    return round_.sum(acc, comp)


def is_larger(x: Value, y: Value) -> bool:
    """Whether |x| is at least |y|; NaN is larger than nothing, and nothing than NaN."""
    if is_nan(x) or is_nan(y):
        return False
    return is_infinite(x) or (not is_infinite(y) and magnitude(x) >= magnitude(y))


def negated(x: Value) -> Value:
    return with_sign(magnitude(x), not is_negative(x))


KINDS: dict[str, Callable[[SimpleNamespace, Rounder, list[Value], Value], Value]] = {
    "chain": chain,
    "tree": tree,
    "exact": exact,
    "fixed": fixed_sum,
    "kahan": kahan,
    "neumaier": neumaier,
}
