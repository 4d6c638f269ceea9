"""Codes worth meeting: the ends, the specials and the digit patterns of a format, and codes at exact values."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random

from ..formats import CodebookFormat, FixedFormat, FloatFormat, Format, Specials, Subnormals

Dyadic = tuple[int, int]  # m × 2^e, m with its sign


def floor_code(fmt: Format, value: Dyadic) -> int:
    """The code next to a value, from its side of zero; the end of the range beyond it.

    >>> from numfmt import get_format
    >>> hex(floor_code(get_format("e4m3fn"), (1001, 0))), hex(floor_code(get_format("e4m3fn"), (-19, -4)))
    ('0x7e', '0xb9')
    """
    m, e = value
    negative, size = m < 0, abs(m)
    match fmt:
        case FixedFormat():
            shift = e + fmt.fraction_bits
            whole = size << shift if shift >= 0 else size >> -shift
            return _fixed_code(fmt, -min(whole, -fmt.min_integer) if negative else min(whole, fmt.max_integer))
        case FloatFormat():
            magnitude = _floor_magnitude(fmt, size, e)
            code = magnitude | (fmt.sign_mask if negative and (magnitude or fmt.has_negative_zero) else 0)
            return fmt.join_integer_bit(code) if fmt.integer_bit else code
        case CodebookFormat():
            at = [i for i, v in enumerate(fmt.values) if v * 2 ** max(0, -e) <= m * 2 ** max(0, e)]
            return max(at, key=lambda i: fmt.values[i], default=fmt.values.index(fmt.min))
    raise ValueError(f"{fmt} is given; only scalar formats have codes of values")


def _floor_magnitude(fmt: FloatFormat, size: int, e: int) -> int:
    t, top = fmt.trailing_bits, size.bit_length() - 1 + e
    if size == 0 or top > fmt.emax:
        return fmt.max_code if size else 0
    lowest = fmt.emin - t - (fmt.subnormals is Subnormals.SHIFTED)
    if top < fmt.emin:
        if fmt.subnormals in (Subnormals.NONE, Subnormals.NORMAL):
            return 0
        shift = e - lowest
        return min(size << shift if shift >= 0 else size >> -shift, (1 << t) - 1)
    shift = t - size.bit_length() + 1
    kept = size << shift if shift >= 0 else size >> -shift
    return min((top + fmt.bias << t) + kept - (1 << t), fmt.max_code)


def _fixed_code(fmt: FixedFormat, n: int) -> int:
    if fmt.sign_magnitude:
        return (-n | 1 << (fmt.bits - 1)) if n < 0 else n
    return n & (1 << fmt.bits) - 1


def exact_code(fmt: Format, value: Dyadic) -> int | None:
    """The code of a value, or None where the format has none."""
    code = floor_code(fmt, value)
    found = dyadic(fmt, code)
    if found is None:
        return None
    (m, e), (n, f) = found, value
    if m == 0 or n == 0:
        return code if m == n else None
    return code if e + m.bit_length() == f + n.bit_length() and m << max(0, e - f) == n << max(0, f - e) else None


def dyadic(fmt: Format, code: int) -> Dyadic | None:
    """The value of a code; None of specials."""
    if not isinstance(fmt, FloatFormat) or fmt.integer_bit:
        value = fmt.exact(code)
        if isinstance(value, str):
            return (0, 0) if value == "-0" else None
        return value.numerator, 1 - value.denominator.bit_length()
    t, magnitude = fmt.trailing_bits, code & fmt.magnitude_mask
    field, fraction = magnitude >> t, magnitude & (1 << t) - 1
    negative = bool(code & fmt.sign_mask)
    if magnitude > fmt.max_code or (field == 0 and fraction and fmt.subnormals is Subnormals.NONE):
        return None
    if magnitude == 0 and fmt.zero:
        return None if negative and not fmt.has_negative_zero and fmt.specials is not Specials.MERGED else (0, 0)
    m, e = fraction | 1 << t, field - fmt.bias - t
    if field == 0 and fmt.subnormals is not Subnormals.NORMAL:
        m, e = fraction, fmt.emin - t - (fmt.subnormals is Subnormals.SHIFTED)
    return -m if negative else m, e


def around(fmt: Format, value: Dyadic, reach: int = 1) -> Iterator[int]:
    """Codes at a value and `reach` steps to both sides of it, in the format's own order of magnitudes."""
    code = floor_code(fmt, value)
    for step in range(-reach, reach + 2):
        moved = stepped(fmt, code, step)
        if moved is not None:
            yield moved


def stepped(fmt: Format, code: int, steps: int) -> int | None:
    """The finite code so many steps farther from zero (of fixed point: up), or None."""
    match fmt:
        case FloatFormat():
            if fmt.integer_bit:
                _, code = fmt.split_integer_bit(code)
            magnitude = (code & fmt.magnitude_mask) + steps
            if not 0 <= magnitude <= fmt.max_code:
                return None
            if fmt.subnormals is Subnormals.NONE and 0 < magnitude < fmt.min_code:
                magnitude = fmt.min_code if steps > 0 else 0
            moved = code & fmt.sign_mask | magnitude
            return fmt.join_integer_bit(moved) if fmt.integer_bit else moved
        case _:
            return (code + steps) & (1 << fmt.bits) - 1


def significands(digits: int, level: int, random: Random) -> list[int]:
    """Trailing significands of `digits` digits in TestFloat's manner: ends, single digits, runs and a few others."""
    if digits <= 0:
        return [0]
    ones = (1 << digits) - 1
    found = {0, 1, ones, ones - 1 if digits > 1 else 0, 1 << (digits - 1), ones >> 1}
    every = 1 if level > 1 or digits < 8 else max(1, digits // 6)
    for i in range(0, digits, every):
        found |= {1 << i, ones ^ (1 << i)}
        if level > 1:
            found |= {(1 << i) - 1, ones ^ ((1 << i) - 1)}
    found |= {random.getrandbits(digits) for _ in range(4 * level)}
    return sorted(s for s in found if 0 <= s <= ones)


def interesting(fmt: Format, level: int, random: Random) -> list[int]:
    """Codes that operands of any operation should take."""
    match fmt:
        case FloatFormat():
            return _interesting_float(fmt, level, random)
        case FixedFormat():
            found = {0, 1, 2, 3, fmt.max_integer, fmt.max_integer - 1, fmt.max_integer // 2, fmt.max_integer // 2 + 1}
            found |= {1 << i for i in range(0, fmt.bits - fmt.signed, 1 if level > 1 else 3)}
            found |= {random.randrange(fmt.max_integer + 1) for _ in range(8 * level)}
            signed = found | {-n for n in found if -n >= fmt.min_integer} | {fmt.min_integer, fmt.min_integer + 1}
            return sorted({_fixed_code(fmt, n) for n in signed})
        case _:
            return list(range(1 << fmt.bits))


def _interesting_float(fmt: FloatFormat, level: int, random: Random) -> list[int]:
    t = fmt.trailing_bits
    last, middle = fmt.max_code >> t, fmt.bias
    fields = {0, 1, 2, middle - 1, middle, middle + 1, last - 1, last, middle + t, middle - t}
    if level > 1:
        fields |= {3, middle - 2, middle + 2, middle + t + 1, middle - t - 1, last // 4, 3 * last // 4, last - 2}
    shapes = significands(t, level, random)
    few = sorted({s for s in (0, 1, (1 << t) - 1, 1 << max(t - 1, 0)) if s < 1 << t})
    found = {fmt.max_code, fmt.min_code, 0}
    for field in fields:
        if 0 <= field <= last:
            usual = shapes if field in (0, middle, last) or level > 1 else few
            found |= {(field << t) | s for s in usual}
    finite = {m for m in found if m <= fmt.max_code and dyadic(fmt, _joined(fmt, m)) is not None}
    signed = finite | ({m | fmt.sign_mask for m in finite} if fmt.signed else set())
    if not fmt.has_negative_zero:
        signed -= {fmt.sign_mask} if fmt.signed else set()
    return sorted({_joined(fmt, m) for m in signed} | set(special_codes(fmt)))


def _joined(fmt: FloatFormat, code: int) -> int:
    return fmt.join_integer_bit(code) if fmt.integer_bit else code


def special_codes(fmt: Format) -> list[int]:
    """Infinities and NaNs: both signs, quiet and signaling, payloads at either end."""
    if not isinstance(fmt, FloatFormat):
        return []
    magnitudes: set[int] = set()
    if fmt.infinity_code is not None:
        magnitudes.add(fmt.infinity_code)
    if fmt.specials is Specials.IEEE:
        infinity, quiet = fmt.max_code + 1, 1 << (fmt.trailing_bits - 1)
        payloads = {quiet, quiet | 1, 2 * quiet - 1, 1, quiet - 1, quiet >> 1}
        magnitudes |= {infinity + p for p in payloads if p}
    elif fmt.nan_code is not None:
        if fmt.nan_code > fmt.magnitude_mask:  # in the place of -0
            return sorted({m | s for m in magnitudes for s in (0, fmt.sign_mask)} | {fmt.nan_code})
        magnitudes.add(fmt.nan_code)
    return sorted({_joined(fmt, m | s) for m in magnitudes for s in {0, fmt.sign_mask}})


def numbers(fmt: FloatFormat, level: int, random: Random) -> list[int]:
    """The interesting codes of positive numbers."""
    return [c for c in interesting(fmt, level, random) if (v := dyadic(fmt, c)) is not None and v[0] > 0]


# ---- boundaries of a format of results -------------------------------------------------------------------------


def boundaries(fmt: Format, level: int, random: Random) -> list[Dyadic]:
    """Values, midpoints and eighths between them where rounding decides something: positive ones.

    Every code of formats up to 8 bits (at level 2 up to 12), else the interesting ones and the ends.
    """
    if isinstance(fmt, CodebookFormat):
        ordered = sorted(set(fmt.values))
        middles = [(a + b) / 2 for a, b in pairwise(ordered)]
        return [_dyadic(v.numerator, v.denominator) for v in [*ordered, *middles]]
    if isinstance(fmt, FixedFormat):
        n = sorted({abs(_signed(fmt, c)) for c in interesting(fmt, level, random)})
        steps = [8 * i + j for i in n for j in (0, 1, 3, 4, 5, 7)]
        return [(i, -fmt.fraction_bits - 3) for i in steps]
    if fmt.bits <= (8 if level == 1 else 12):
        codes = list(range(fmt.max_code + 1))
    else:
        codes = [c & fmt.magnitude_mask for c in numbers(fmt, level, random)] + ([0] if fmt.zero else [])
        codes += [random.randrange(fmt.max_code) for _ in range(32 * level)]
        codes += [fmt.max_code, fmt.max_code - 1, fmt.min_code, fmt.min_code + 1, (1 << fmt.trailing_bits) - 1]
    found: list[Dyadic] = []
    for code in sorted(set(codes)):
        value = dyadic(fmt, _joined(fmt, code))
        if value is None:
            continue
        m, e = value
        step = max(m.bit_length() - 1 + e, fmt.emin) - fmt.trailing_bits - 3
        unit = (m << max(0, e - step)) >> max(0, step - e)
        found += [(unit + j, step) for j in range(8)]
    found += ends(fmt)
    return found


def ends(fmt: FloatFormat) -> list[Dyadic]:
    """Values around and beyond both ends of the range, and around the smallest normal."""
    t = fmt.trailing_bits
    step = fmt.emax - t - 3
    unit = (fmt.max_code & (1 << t) - 1 | 1 << t) << 3
    found = [(unit + j, step) for j in (0, 1, 3, 4, 5, 7, 8, 12, 16)]
    found += [(1, fmt.emax + k) for k in (1, 2, 3, 10)] + [(3, fmt.emax), (3, fmt.emax + 1)]
    low = fmt.emin - t - 3
    found += [((8 << t) - j, low) for j in range(9)] + [((8 << t) + j, low) for j in (1, 3, 4, 5, 7, 8)]
    found += [(j, low) for j in (1, 2, 3, 4, 5, 7, 8, 12)] + [(1, low - k) for k in (1, 2, 10)]
    return found


def _dyadic(numerator: int, denominator: int) -> Dyadic:
    return numerator, 1 - denominator.bit_length()


def _signed(fmt: FixedFormat, code: int) -> int:
    value = fmt.exact(code)
    return 0 if isinstance(value, str) else int(value / fmt.quantum)
