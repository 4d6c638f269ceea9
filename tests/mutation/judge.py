"""The fast subset that judges a mutant: rounding, decoding and random words against expectations that owe numfmt nothing.

Expectations come from spec/ (fractions), from ml_dtypes, and from words that jax.random gave. They are
computed once; a worker that has imported a mutated numfmt goes through them until one fails.

    Suite          formats × modes × carriers, with operands and what the oracle makes of them
    check(case)    runs one case on the imported numfmt; None, or what is wrong

Each case runs on one engine:

    numpy   as users do
    strict  as NumPy, but nothing wraps, and what other engines rely on (numfmt/_core/__init__.py) is refused where it
            is broken: shift counts within the carrier's width, an array branch in every `where`, indices within tables
    python  on Python integers, one element at a time
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from math import floor
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import ml_dtypes
import numpy as np

from spec import oracle
from spec.formats import Value, floor_log2, power_of_two

Array = np.ndarray[Any, Any]

# ---- carriers, stated without numfmt ---------------------------------------------------------------------------

TRAILING = {32: 23, 64: 52, 256: 236}


def pattern(value: Value, bits: int) -> int:
    """The code of an exact value in the IEEE format of `bits` bits, which must hold it; NaN is quiet and positive."""
    trailing = TRAILING[bits]
    bias = 2 ** (bits - 2 - trailing) - 1
    top = (2 * bias + 1) << trailing
    sign = 1 << (bits - 1)
    if isinstance(value, str):
        return {"nan": top + (1 << (trailing - 1)), "inf": top, "-inf": top + sign, "-0": sign}[value]
    if value == 0:
        return 0
    exponent = max(floor_log2(abs(value)), 1 - bias)
    digits = abs(value) / power_of_two(exponent - trailing)
    if digits.denominator != 1 or exponent > bias:
        raise ValueError(f"not a value of binary{bits}")
    field = exponent + bias if digits >= 1 << trailing else 0
    return (field << trailing) + int(digits) % (1 << trailing) + (sign if value < 0 else 0)


def holds(value: Value, bits: int) -> bool:
    """Whether the IEEE format of `bits` bits holds a value."""
    try:
        pattern(value, bits)
    except ValueError:
        return False
    return True


def reals(patterns: Iterable[int], bits: int) -> list[Value]:
    """The exact values of carrier patterns."""
    read = {32: oracle.from_float32_bits, 64: oracle.from_float64_bits, 256: _from_binary256}[bits]
    return [read(int(p) % 2**bits) for p in patterns]


def _from_binary256(code: int) -> Value:
    return oracle.value(code, "binary256")


def integers(codes: Iterable[Any], bits: int) -> Array | list[int]:
    """Codes as a carrier's integers: a signed array, or for binary256 a list."""
    if bits == 256:
        return [int(c) for c in codes]
    return np.array([int(c) % 2**bits for c in codes], f"uint{bits}").view(f"int{bits}")


# ---- engines ---------------------------------------------------------------------------------------------------


class Broken(Exception):
    """An operation that other engines would not do alike."""


class NoPlan(Exception):
    """A carrier is too narrow for a format."""


class Strict:
    """An array of a carrier's integers that does not wrap, and whose operations refuse what the rules of `_core` forbid.

    binary32 is held in int64, binary64 in Python integers: a result that needs wrapping comes out wrong.
    """

    __slots__ = ("bits", "value")

    def __init__(self, value: Array, bits: int) -> None:
        self.value, self.bits = value, bits

    def __neg__(self) -> Strict:
        return Strict(-self.value, self.bits)

    def __invert__(self) -> Strict:
        return Strict(~self.value, self.bits)


def _plain(x: Any) -> Any:
    return x.value if isinstance(x, Strict) else x


def _install(name: str, compares: bool) -> None:
    function: Callable[[Any, Any], Any] = getattr(operator, name)

    def apply(a: Any, b: Any) -> Any:
        one = a if isinstance(a, Strict) else b
        left, right = _plain(a), _plain(b)
        if name in ("lshift", "rshift"):
            count = right if isinstance(right, np.ndarray) else np.array(right)
            if count.size and not ((count >= 0) & (count < one.bits)).all():
                raise Broken(f"shift count {count.min()} … {count.max()} of {one.bits} bits")
            if isinstance(left, int):
                left = np.full(1, left, one.value.dtype)
        elif (isinstance(right, np.ndarray) and right.dtype == bool) or (
            isinstance(left, np.ndarray) and left.dtype == bool
        ):
            raise Broken("a boolean as an integer")
        value = function(left, right)
        return value.astype(bool) if compares else Strict(value, one.bits)

    setattr(Strict, f"__{name}__", apply)
    if not compares:
        setattr(Strict, f"__r{name}__", lambda b, a: apply(a, b))


for _name in ("add", "sub", "mul", "floordiv", "and_", "or_", "xor", "lshift", "rshift"):
    _install(_name, False)
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    _install(_name, True)
for _name in ("and", "or"):
    setattr(Strict, f"__{_name}__", getattr(Strict, f"__{_name}___"))
    setattr(Strict, f"__r{_name}__", getattr(Strict, f"__r{_name}___"))


class StrictTable:
    """A table that the kernel indexes with arrays; no index may lie outside it."""

    def __init__(self, entries: Sequence[int] | Array, bits: int) -> None:
        self.entries, self.bits = np.array([int(e) for e in entries], _holder(bits)), bits

    def __getitem__(self, index: Strict) -> Strict:
        places = index.value.astype(np.intp)
        if places.size and not ((places >= 0) & (places < len(self.entries))).all():
            raise Broken(f"index {places.min()} … {places.max()} of {len(self.entries)} entries")
        return Strict(self.entries[places], self.bits)


def _holder(bits: int) -> Any:
    return np.int64 if bits == 32 else object


def strict(numbers: Array | list[int], bits: int) -> Strict:
    """Numbers as strict integers of a carrier."""
    return Strict(np.array(numbers if bits == 32 else [int(n) for n in numbers], _holder(bits)), bits)


def _strictly(numbers: Any, bits: int) -> Any:
    """The same of nothing, and of each of several arrays."""
    if isinstance(numbers, tuple):
        return tuple(strict(array, bits) for array in numbers)
    return None if numbers is None else strict(numbers, bits)


def _strict_where(condition: Any, yes: Any, no: Any) -> Any:
    if isinstance(condition, bool | np.bool_):
        return yes if condition else no
    if not isinstance(condition, np.ndarray) or condition.dtype != bool:
        raise Broken("a condition that is no boolean")
    if not isinstance(yes, Strict | np.ndarray) and not isinstance(no, Strict | np.ndarray):
        raise Broken("where without an array branch")
    one = yes if isinstance(yes, Strict) else no
    value = np.where(condition, _plain(yes), _plain(no))
    return Strict(value, one.bits) if isinstance(one, Strict) else value


def _extreme(numpy_one: Callable[[Any, Any], Any], python_one: Callable[[int, int], int]) -> Callable[[Any, Any], Any]:
    def extreme(a: Any, b: Any) -> Any:
        one = a if isinstance(a, Strict) else b
        if isinstance(one, Strict):
            return Strict(numpy_one(_plain(a), _plain(b)), one.bits)
        return python_one(a, b)

    return extreme


STRICT = SimpleNamespace(where=_strict_where, some=np.any, minimum=_extreme(np.minimum, min), maximum=_extreme(np.maximum, max))


# ---- cases -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One call of a kernel, and what it has to give."""

    kernel: str  # one of SCALAR, BLOCK, CORE, ARITHMETIC or DOT
    format: str
    bits: int  # of the carrier
    engine: str
    in_carrier: bool
    operands: Any  # patterns, or codes to decode
    expected: Any
    rounding: str | None = None
    overflow: str | None = None
    platform: str | None = None
    random: Any = None
    count: int | None = None  # N
    wrap_bits: int = 0
    by: Any = None  # exponents of the elements' scales, their divisors, or further operands
    finite: tuple[int, int] = (1, 1)  # whether overflow, and infinity, become finite values

    def __str__(self) -> str:
        """What kind of a call it is, in one line."""
        verb = "decode" if self.kernel.startswith("decode") else "quantize" if self.in_carrier else "encode"
        verb = self.kernel if self.kernel in CORE + ARITHMETIC + DOT else f"{self.kernel}: {verb}" if self.kernel in BLOCK else verb
        options = [self.rounding, self.overflow, self.platform, self.count and f"N={self.count}"]
        options += [f"wrap_bits={self.wrap_bits}" if self.wrap_bits else None]
        return " ".join([verb, self.format[:50], *(str(o) for o in options if o), f"binary{self.bits}", self.engine])


def check(case: Case) -> str | None:
    """What is wrong with the imported numfmt's answer; None if it is the expected one.

    Raises whatever a mutated kernel raises; NoPlan where the carrier is too narrow for the format.
    """
    if case.kernel == "threefry":
        return _check_words(case)
    return _compare(case, answer(case))


Call = Callable[[Any, Any, Any, Any], Any]  # of operands, random numbers, `by` and a namespace


def answer(case: Case) -> Any:
    """What the imported numfmt gives."""
    from numfmt import carriers, engines, plans
    from numfmt._core import parameters

    carrier = {32: parameters.BINARY32, 64: parameters.BINARY64, 256: carriers.BINARY256}[case.bits]
    if case.kernel in CORE:
        return _run(case, _core_call(case))
    if case.kernel in ARITHMETIC:
        from tests.mutation.judge_arithmetic import call_of

        return _run(case, call_of(case))
    if case.kernel in DOT:
        from tests.mutation import judge_dot

        return _run(case, judge_dot.call_of(case))
    if case.kernel == "block quotient":
        return _up_to_the_end(_run(case, _quotient_call(carrier)))
    fmt = _format(case.format)
    if case.kernel.startswith("decode"):
        if not carriers.holds(carrier, fmt):
            raise NoPlan(str(case))
        plan = (
            plans.source_plan(fmt, carrier) if case.kernel == "decode float" else plans.fixed_grid(fmt, None, carrier)
        )
        call: Call = lambda codes, _, __, xp: engines.decode(codes, carrier, plan, xp)  # noqa: E731
    else:
        rules = plans.resolve(fmt, case.rounding, case.overflow, _platform(case.platform), case.count, case.wrap_bits)
        found = (plans.quantize_plan if case.in_carrier else plans.encode_plan)(fmt, rules, carrier)
        if found is None:
            raise NoPlan(str(case))
        if case.engine == "strict" and found.kernel == "table":
            entries = found.parameters._asdict()
            arrays = {n: StrictTable(e, case.bits) for n, e in entries.items() if isinstance(e, np.ndarray | list)}
            found = replace(found, parameters=found.parameters._replace(**arrays))
        if case.kernel in BLOCK:
            call = _block_call(case, found, carrier)
        else:
            call = lambda patterns, random, _, xp: engines.apply(found, patterns, random, case.in_carrier, xp)  # noqa: E731
    return _run(case, call)


def _block_call(case: Case, plan: Any, carrier: Any) -> Call:
    """A kernel of block.py, or one of a scalar format whose parameters block.py moves."""
    from numfmt._core import block, fixed
    from numfmt._core import float as floating

    p, results, mode = plan.parameters, plan.results, plan.mode
    saturating = block.quantize_saturating if case.in_carrier else block.encode_saturating

    def saturated(x: Any, random: Any, shift: Any, xp: Any) -> Any:
        return saturating(x, random, carrier, p, shift, mode, xp=xp)

    def nearest(x: Any, random: Any, shift: Any, xp: Any) -> Any:
        kernel = block.quantize_nearest if case.in_carrier else block.encode_nearest
        return kernel(x, carrier, p, shift, mode, xp=xp)

    def codes(x: Any, random: Any, shift: Any, xp: Any) -> Any:
        general = case.kernel == "block slow"
        return floating.encode(x, random, carrier, block.shifted_target(p, shift), results, mode, general, xp=xp)

    def values(x: Any, random: Any, shift: Any, xp: Any) -> Any:
        moved, ends = block.shifted_values(p, results, shift, carrier, *case.finite)
        return floating.quantize(x, random, carrier, moved, ends, mode, False, xp=xp)

    def fixed_point(x: Any, random: Any, shift: Any, xp: Any) -> Any:
        grid = block.shifted_grid(p, shift)
        made = fixed.encode(x, random, carrier, grid, results, mode, xp=xp)
        return fixed.decode(made, carrier, grid, xp=xp) if case.in_carrier else made

    calls = {"block saturating": saturated, "block nearest": nearest, "block fixed": fixed_point}
    return calls.get(case.kernel, values if case.in_carrier else codes)


def _core_call(case: Case) -> Call:
    """A function of binary32.py, or that of fraction.py."""
    from numfmt import plans
    from numfmt._core import binary32, fraction

    if case.kernel == "fraction":
        rules = plans.resolve(_format("e4m3fn"), case.rounding, None, None, case.count)
        mode = plans.round_parameters(rules)
        return lambda d, random, by, xp: fraction.away_at_random(d, *by, random, mode, xp=xp)
    name = case.kernel.removeprefix("binary32 ")
    function = getattr(binary32, name)
    if name == "is_nan":
        return lambda a, _, __, xp: xp.where(function(a), a * 0 + 1, a * 0)
    if name == "round_pack":  # ±m comes with its sign

        def pack(m: Any, _: Any, field: Any, xp: Any) -> Any:
            negative = xp.where(m < 0, m * 0 + 1, m * 0)
            return function(negative, field, xp.where(m < 0, -m, m), xp=xp)

        return pack
    if case.by is None:
        return lambda a, _, __, xp: function(a, xp=xp)
    return lambda a, _, b, xp: function(a, b, xp=xp)


def _quotient_call(carrier: Any) -> Call:
    from numfmt._core import block

    return lambda x, _, divisor, xp: block.quotient(x, divisor, carrier, xp=xp)


def _up_to_the_end(patterns: Any) -> Array:
    """Finite values of binary64 beyond 2**1021 as that: `quotient` leaves open what it gives there."""
    patterns = np.array(patterns, object) if isinstance(patterns, list) else patterns
    end, infinity, mask = pattern(power_of_two(1021), 64), pattern("inf", 64), 2**63 - 1
    magnitude = patterns & mask
    return np.where((magnitude > end) & (magnitude < infinity), end | (patterns & ~mask), patterns)


def _run(case: Case, call: Call) -> Any:
    from numfmt import engines

    if case.engine == "python":
        nothing = [None] * len(case.operands)
        words, by = nothing if case.random is None else case.random, nothing if case.by is None else case.by
        by = list(zip(*by, strict=True)) if isinstance(by, tuple) else by
        return [call(int(p), r, b, engines.PYTHON) for p, r, b in zip(case.operands, words, by, strict=True)]
    if case.engine == "numpy":
        return call(case.operands, case.random, case.by, engines.NUMPY)
    random, by = (_strictly(array, case.bits) for array in (case.random, case.by))
    return call(strict(case.operands, case.bits), random, by, STRICT).value


def _compare(case: Case, got: Any) -> str | None:
    if case.engine == "numpy" and (got.dtype != case.operands.dtype or got.shape != case.operands.shape):
        return f"{got.dtype} {got.shape} instead of {case.operands.dtype} {case.operands.shape}"
    if case.engine == "python":
        got = [int(g) % 2**case.bits for g in got]
        wrong = [i for i, (g, e) in enumerate(zip(got, case.expected, strict=True)) if g != int(e) % 2**case.bits]
    else:
        wrong = np.flatnonzero(np.asarray(got) != case.expected).tolist()
    if not wrong:
        return None
    i, mask = wrong[0], 2**case.bits - 1
    word = "" if case.random is None else f" with {int(case.random[i]) & 0xFFFFFFFF:#x}"
    if case.kernel in CORE + ARITHMETIC + DOT:
        others = case.by if isinstance(case.by, tuple) else () if case.by is None else (case.by,)
        word += "".join(f" and {int(array[i]) & mask:#x}" for array in others)
    elif case.by is not None:
        word += f" by {int(case.by[i]):#x}" if case.bits == 64 else f" at 2**{int(case.by[i])}"
    return f"{int(case.operands[i]) & mask:#x}{word} gives {int(got[i]) & mask:#x} instead of {int(case.expected[i]) & mask:#x}"


_PARSED: dict[str, Any] = {}


def _format(name: str) -> Any:
    from numfmt import get_format

    if name not in _PARSED:
        _PARSED[name] = get_format(name)
    return _PARSED[name]


def _platform(name: str | None) -> Any:
    from numfmt.platforms import get_platform
    from numfmt.rounding import Platform, Rule

    if name in OWN:
        return Platform(name, "", default=Rule(**OWN[name]))
    return None if name is None else get_platform(name)


# Rules of platforms of our own: special operands get codes of their own; the lowest binade rounds away from zero.
OWN: dict[str, dict[str, Any]] = {
    "special codes": {"nan": (5, 5), "infinity": (7, 8), "zero": (9, 10)},
    "lowest away": {"lowest_away": True},
}

# csrc/kernels.cu of bitsandbytes, dQuantizeFP4: constants of binary32 that magnitudes are compared with.
BITSANDBYTES = (0.00260417, 0.0859375, 0.20833333, 0.29166667, 0.4166667, 0.583333, 0.8333333)


def forget() -> None:
    """Forget formats that another numfmt made."""
    _PARSED.clear()


# Words of jax.random 0.10: bits(key(7), (5,)) and key_data(fold_in(key(7), 5)); the two below them with counters above
# 2**32 are Threefry-2x32 known answers of the Random123 distribution (kat_vectors).
JAX_WORDS = [0xAC91290B, 0xF9807E00, 0x4D8729AA, 0x71A74530, 0xBB1B6386]
FOLDED = (0xD5917E25, 0x7415E54E)
KNOWN_BLOCKS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
]


def _check_words(case: Case) -> str | None:
    from numfmt import engines
    from numfmt._core.threefry import threefry, word

    del case
    if list(engines.random_words((0, 7), 0, 5)) != JAX_WORDS or [word(0, 7, 0, i) for i in range(5)] != JAX_WORDS:
        return "words of key(7)"
    if threefry(0, 7, 0, 5) != FOLDED:
        return "fold_in(key(7), 5)"
    for (k0, k1), (x0, x1), (y0, y1) in KNOWN_BLOCKS:
        if threefry(k0, k1, x0, x1) != (y0, y1):
            return "a known block"
        index = x0 << 32 | x1
        if index < 2**64 - 1 and int(engines.random_words((k0, k1), index, index + 1)[0]) != y0 ^ y1:
            return "a word above 2**32"
    return None


# ---- operands --------------------------------------------------------------------------------------------------


def directed(judge: oracle.Format, bits: int) -> list[int]:
    """Carrier patterns at a format's values, midpoints and neighbours, both signs, and where shifts meet their limits."""
    trailing = TRAILING[bits]
    bias = 2 ** (bits - 2 - trailing) - 1
    one, top = 1 << trailing, (2 * bias + 1) << trailing
    found = {0, 1, 2, 3, one - 1, one, one + 1, top - 1, top, top + 1, top + one // 2}
    found |= {1 << i for i in range(0, trailing, 5)} | {one - (1 << i) for i in range(0, trailing, 5)}
    for point, beside in _points(judge).items():
        below = _floor_pattern(point, bits)
        found |= {p for p in (below - 1, below, below + 1)[:: 1 if beside else 2] if 0 <= p <= top}
    for exponent in _exponents(judge, bits):
        if 1 - bias <= exponent <= bias:
            start = (exponent + bias) << trailing
            found |= {start + shape for shape in ((0, one - 1), (1, one // 2), (one // 3 * 2,))[exponent % 3]}
    return sorted(found | {p + (1 << (bits - 1)) for p in found})


def _exponents(judge: oracle.Format, bits: int) -> set[int]:
    """Exponents around which shift counts reach their limits: about the format's quantum, and at the ends of the carrier."""
    trailing = TRAILING[bits]
    bias = 2 ** (bits - 2 - trailing) - 1
    match judge:
        case oracle.FloatFormat():
            low = 1 - judge.bias - judge.trailing_bits
            high = floor_log2(judge.max)
        case oracle.FixedFormat():
            low, high = -judge.fraction_bits, judge.bits - judge.fraction_bits
        case _:
            sizes = [floor_log2(abs(v)) for v in judge.values if v]  # type: ignore[attr-defined]
            low, high = min(sizes), max(sizes)
    near = (
        {low + d for d in range(-8, 4)} | {low - trailing + d for d in range(-6, 6)} | {high + d for d in range(-1, 4)}
    )
    far = (
        {low + trailing + d for d in range(-4, 5)}
        | {low + bits - 1 + d for d in range(-12, 3)}
        | {0, 1 - bias, bias, bias - 1}
    )
    return near | far | {low - 32 + d for d in range(-4, 5)} | {low - 2 * trailing, 100, -100}


def _floor_pattern(point: Fraction, bits: int) -> int:
    """The largest finite carrier pattern whose value is at most `point` > 0."""
    trailing = TRAILING[bits]
    bias = 2 ** (bits - 2 - trailing) - 1
    exponent = max(floor_log2(point), 1 - bias)
    digits = floor(point / power_of_two(exponent - trailing))
    return min((exponent + bias - 1 << trailing) + digits, (2 * bias + 1 << trailing) - 1)


def _points(judge: oracle.Format) -> dict[Fraction, bool]:
    """Positive values and midpoints of a format and points between: whether what lies beside them counts too."""
    pairs = _pairs(judge)
    points = {abs(a + (b - a) * part): False for a, b in pairs[::2] for part in (Fraction(1, 4), Fraction(5, 7))}
    points |= {abs(v): True for a, b in pairs for v in (a, (a + b) / 2, b)}
    points.pop(Fraction(0), None)
    return points


def _pairs(judge: oracle.Format) -> list[tuple[Fraction, Fraction]]:
    """Neighbouring values all over a format's range and beyond its ends; those on both sides of a hole come last."""
    match judge:
        case oracle.FloatFormat():
            ranks = range(judge.max_rank + 3) if judge.bits <= 5 else sorted(_sampled_ranks(judge))
            pairs = [(judge.magnitude(r), judge.magnitude(r + 1)) for r in ranks]
            if judge.lowest_binade == "unused":
                pairs = [(a, b) for a, b in pairs if a >= judge.min_normal] + [(Fraction(0), judge.min_normal)]
            if judge.lowest_binade == "shifted":
                pairs.append((judge.magnitude(judge.steps - 1), judge.magnitude(judge.steps)))
        case oracle.FixedFormat():
            high = 2**judge.bits
            counts = set(range(high + 3)) if judge.bits <= 3 else {0, 1, 2, 3, 5, 6, high // 3}
            ends = {high >> 1, high, high * 3 // 2, high * 2, high * 5 // 4, high * 11 // 8 * 64}
            counts |= {e + d for e in ends for d in (-2, -1, 0, 1)}
            pairs = [(i * judge.quantum, (i + 1) * judge.quantum) for i in sorted(counts) if i >= 0]
        case _:
            values = sorted(set(judge.values))  # type: ignore[attr-defined]
            pairs = [*pairwise(values), (values[-1], 2 * values[-1]), (2 * values[0], values[0])]
    return pairs


def halves(judge: oracle.Format, bits: int, count: int, rng: np.random.Generator) -> list[int]:
    """Patterns at and beside points whose part of the way between neighbours ends on half of 2**-count."""
    pairs = _pairs(judge)
    chosen = [pairs[-1], *(pairs[i] for i in rng.integers(0, len(pairs), 2))]
    infinity = (2 ** (bits - 1 - TRAILING[bits]) - 1) << TRAILING[bits]
    found = set()
    for a, b in chosen:
        middle = int(rng.integers(2 ** (count - 2), 2 ** (count - 1)))
        for k in (0, 2 * middle, 2 * middle + 1, 2**count - 2):
            point = a + (b - a) * Fraction(2 * k + 1, 2 ** (count + 1))
            if point:
                sign = (point < 0 or (judge.signed and k % 3 == 0)) << (bits - 1)
                below = _floor_pattern(abs(point), bits)
                found |= {p + sign for p in (below - 1, below, below + 1) if 0 <= p < infinity}
    return sorted(found)


def _sampled_ranks(judge: oracle.FloatFormat) -> set[int]:
    steps, fields = judge.steps, 2**judge.exponent_bits
    chosen = {0, 1, 2, fields // 2, fields - 2, fields - 1}
    ranks = {f * steps + d for f in chosen for d in (-1, 0, 1, steps // 2)} | {judge.max_rank + d for d in (-1, 0, 1)}
    return {r for r in ranks if r >= 0}


def close(fraction: Fraction, count: int, rng: np.random.Generator) -> list[int]:
    """Random numbers of `count` bits around the one from which an operand is rounded outward, and others."""
    top = 2**count
    least = top - round(fraction * top)
    picked = {0, top - 1, least - 1, least, least + 1, int(rng.integers(0, top))}
    return sorted(r for r in picked if 0 <= r < top)


# ---- the suite -------------------------------------------------------------------------------------------------

FORMATS: dict[str, oracle.Format | str] = {
    "e4m3fn": "e4m3fn", "e5m2": "e5m2", "e4m3fnuz": "e4m3fnuz", "binary8p3se": "binary8p3se", "binary8p1ue": "binary8p1ue",
    "binary8p1se": "binary8p1se", "e8m0": "e8m0", "hif4_scale_e6m2": "hif4_scale_e6m2", "ue5m3": "ue5m3", "e2m1": "e2m1",
    "e3m0": "e3m0", "bfloat16": "bfloat16", "float16": "float16", "tf32": "tf32", "float32": "float32",
    "dlfloat16": "dlfloat16", "cfloat8_1_4_3": "cfloat8_1_4_3", "cfloat16_uhp": "cfloat16_uhp", "binary16p8se": "binary16p8se",
    "binary12p1ue": "binary12p1ue", "binary16p16uf": "binary16p16uf", "fp24_amd": "fp24_amd",
    "float(e=4, m=3, subnormals=none)": oracle.float_format(4, 3, lowest_binade="unused"),
    "float(e=8, m=3, subnormals=none)": oracle.float_format(8, 3, lowest_binade="unused"),
    "e8m2b140fnuz": oracle.float_format(8, 2, bias=140, infinity="none", nan="negative_zero"),
    "e8m3b160fnuz": oracle.float_format(8, 3, bias=160, infinity="none", nan="negative_zero"),
    "e5m2b60": oracle.float_format(5, 2, bias=60),
    "e4m3b-20fn": oracle.float_format(4, 3, bias=-20, infinity="none", nan="all_ones"),
    "e5m2b-110f": oracle.float_format(5, 2, bias=-110, infinity="none", nan="none"),
    "int8": "int8", "uint8": "uint8", "uint1": "uint1", "int2": "int2", "q3.4": "q3.4", "uq0.8": "uq0.8",
    "int16": "int16", "int32": "int32",
    # As many digits as a carrier has, or more, or one or two fewer.
    "e9m30": oracle.float_format(9, 30), "e12m60": oracle.float_format(12, 60), "e8m22": oracle.float_format(8, 22),
    "float(e=6, m=23, subnormals=none)": oracle.float_format(6, 23, lowest_binade="unused"),
    "float(e=6, m=28, subnormals=none)": oracle.float_format(6, 28, lowest_binade="unused"),
    # In binary64 33 bits are dropped at the end of these holes, as many as a fraction of the hole has.
    "float(e=6, m=19, specials=f, subnormals=shifted)": oracle.float_format(6, 19, infinity="none", nan="none", lowest_binade="shifted"),
    "float(e=6, m=20, subnormals=none)": oracle.float_format(6, 20, lowest_binade="unused"),
    "float(e=6, m=22, specials=f, subnormals=shifted)": oracle.float_format(6, 22, infinity="none", nan="none", lowest_binade="shifted"),
    "float(e=6, m=23, specials=f, subnormals=shifted)": oracle.float_format(6, 23, infinity="none", nan="none", lowest_binade="shifted"),
    "float(e=6, m=22, specials=f, subnormals=normal)": oracle.float_format(6, 22, infinity="none", nan="none", lowest_binade="normal"),
    "float(e=6, m=23, specials=f, subnormals=normal)": oracle.float_format(6, 23, infinity="none", nan="none", lowest_binade="normal"),
    # A hole among the carrier's subnormals.
    "float(e=8, m=3, bias=140, subnormals=none)": oracle.float_format(8, 3, bias=140, lowest_binade="unused"),
    "float(e=11, m=3, bias=1040, subnormals=none)": oracle.float_format(11, 3, bias=1040, lowest_binade="unused"),
    # Subnormal operands that are multiples of the quantum, and operands that all lie beyond the range but for zero.
    "ap_fixed<16,-144>": oracle.fixed(16, 160), "ap_fixed<16,-1069>": oracle.fixed(16, 1085),
    "ap_fixed<16,-184>": oracle.fixed(16, 200), "ap_fixed<16,-1184>": oracle.fixed(16, 1200),
    "fixed(bits=6, fraction=2, sign_magnitude=yes)": oracle.fixed(6, 2, encoding="sign_magnitude"),
    "ap_fixed<8,12>": oracle.fixed(8, -4), "ap_fixed<8,-3>": oracle.fixed(8, 11), "ap_ufixed<7,3>": oracle.fixed(7, 4, False),
    "ap_fixed<30,8>": oracle.fixed(30, 22), "ap_fixed<62,31>": oracle.fixed(62, 31), "ap_fixed<6,130>": oracle.fixed(6, -124),
    "ap_fixed<24,-125>": oracle.fixed(24, 149),
    "nf4": "nf4", "af4": "af4", "ternary": "ternary", "binary": "binary", "fp4_bnb": "fp4_bnb",
    "codebook(-3, -1, 2, 5)": oracle.codebook([-3, -1, 2, 5]),
    "codebook(-9, -5, -1, 2, 7, 8)": oracle.codebook([-9, -5, -1, 2, 7, 8]),
    "codebook(1/1024, 1, 1000, 1001)": oracle.codebook([Fraction(1, 1024), 1, 1000, 1001]),
    f"codebook(0, 1/{2**128})": oracle.codebook([0, Fraction(1, 2**128)]),
    f"codebook(0, 1/{2**141})": oracle.codebook([0, Fraction(1, 2**141)]),
    f"codebook(0, 1/{2**147})": oracle.codebook([0, Fraction(1, 2**147)]),
    f"codebook(0, 1/{2**1020})": oracle.codebook([0, Fraction(1, 2**1020)]),
    f"codebook(0, 1/{2**1050})": oracle.codebook([0, Fraction(1, 2**1050)]),
    f"codebook(0, 1/{2**1072})": oracle.codebook([0, Fraction(1, 2**1072)]),
    "codebook(-7/4, -3/2, -1/2)": oracle.codebook([Fraction(-7, 4), Fraction(-3, 2), Fraction(-1, 2)]),
}  # fmt: skip
DETERMINISTIC = [mode for mode in oracle.DETERMINISTIC if mode not in oracle.FIXED_ONLY]
SAMPLE = ["ties_to_even", "toward_negative", "to_odd", "ties_to_zero"]
STOCHASTIC = [("stochastic_a", n) for n in (1, 8, 31, 32)] + [("stochastic_b", n) for n in (1, 2, 31, 32)]
STOCHASTIC += [("stochastic_c", n) for n in (1, 2, 8, 31, 32)]
OVERFLOWS = ["saturate", "propagate", "infinity", "nan"]
FIXED_OVERFLOWS = ["saturate_zero", "symmetric", "wrap", "wrap_sign_magnitude"]


class Suite:
    """All cases, in a fixed order that puts different ones next to each other."""

    def __init__(self, seed: int = 0, formats: Sequence[str] | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.patterns: dict[tuple[str, int, int], int | None] = {}
        self.cases: list[Case] = [Case("threefry", "", 32, "numpy", False, None, None)]
        with patch.object(oracle, "ENUMERABLE_BITS", 8):  # above, the oracle computes neighbours; listing takes seconds
            for name in FORMATS if formats is None else formats:
                found = FORMATS[name]
                self._add_format(name, oracle.get(found) if isinstance(found, str) else found)
            if formats is None:
                self._add_platforms()
        order = self.rng.permutation(len(self.cases))
        self.cases = [self.cases[i] for i in order]

    def _add_format(self, name: str, judge: oracle.Format) -> None:
        kernel = _kernel(judge)
        modes = DETERMINISTIC + (sorted(oracle.FIXED_ONLY) if judge.kind == "fixed" else [])
        for bits in (32, 64):
            operands = directed(judge, bits)
            brackets = [oracle.bracket(v, judge) for v in reals(operands, bits)]
            for mode in modes if bits == 64 else SAMPLE:
                codes = [oracle.choose(b, judge, mode, None) for b in brackets]
                self._add(name, judge, kernel, bits, operands, codes, mode, None)
            self._add_overflows(name, judge, kernel, bits, operands, brackets)
            self._add_stochastic(name, judge, kernel, bits, operands)
        self._add_exact(name, judge, kernel)
        if judge.kind != "codebook":
            self._add_decoding(name, judge)

    def _add(
        self,
        name: str,
        judge: oracle.Format,
        kernel: str,
        bits: int,
        operands: Sequence[int],
        codes: Sequence[int],
        mode: str | None,
        overflow: str | None,
        **options: Any,
    ) -> None:
        """encode and quantize of the same operands, on NumPy and on the strict engine."""
        carried = {code: self._pattern(name, judge, code, bits) for code in set(codes)}
        narrow = None not in carried.values()
        random = options.pop("random", None)
        given = integers(operands, bits)
        words = None if random is None else _words(random, bits)
        results = {False: integers(codes, bits)}
        if narrow:
            results[True] = integers([carried[code] for code in codes], bits)
        for in_carrier, expected in results.items():
            self.cases.append(
                Case(kernel, name, bits, "numpy", in_carrier, given, expected, mode, overflow, random=words, **options)
            )
            if isinstance(judge, oracle.FloatFormat) and judge.trailing_bits >= bits:
                continue  # quantize shifts by so many bits, and drops what comes of it
            if mode in ("ties_to_even", "stochastic_b") or overflow in FIXED_OVERFLOWS:
                part = slice(None) if bits == 32 else slice(len(self.cases) % 7, None, 7)
                self.cases.append(
                    Case(
                        kernel,
                        name,
                        bits,
                        "strict",
                        in_carrier,
                        given[part],
                        expected[part],
                        mode,
                        overflow,
                        random=None if words is None else words[part],
                        **options,
                    )
                )

    def _add_overflows(
        self, name: str, judge: oracle.Format, kernel: str, bits: int, operands: list[int], brackets: list[Any]
    ) -> None:
        overflows = [(o, 0) for o in OVERFLOWS if judge.kind == "float" or o == "saturate"]
        if judge.kind == "fixed":
            overflows = [(o, 0) for o in FIXED_OVERFLOWS] + [("wrap", n) for n in (1, 2, 3) if n <= judge.bits]
        for overflow, wrap_bits in overflows:
            for mode in ("ties_to_even", "toward_negative"):
                part = slice(None) if judge.kind == "fixed" else slice(len(mode) % 3, None, 3)
                try:
                    codes = [oracle.choose(b, judge, mode, overflow, wrap_bits=wrap_bits) for b in brackets[part]]
                except ValueError:  # not for this format
                    break
                self._add(name, judge, kernel, bits, operands[part], codes, mode, overflow, wrap_bits=wrap_bits)

    def _add_stochastic(self, name: str, judge: oracle.Format, kernel: str, bits: int, operands: list[int]) -> None:
        finite = [p for p, v in zip(operands, reals(operands, bits), strict=True) if isinstance(v, Fraction)]
        for mode, count in STOCHASTIC:
            chosen = [finite[i] for i in self.rng.choice(len(finite), min(12, len(finite)), replace=False)]
            if count > 8:
                chosen += halves(judge, bits, count, self.rng)
            rows: list[tuple[int, int, int]] = []
            for p, x in zip(chosen, reals(chosen, bits), strict=True):
                b = oracle.bracket(x, judge)
                numbers = close(b.fraction, count, self.rng)
                rows += [(p, r, oracle.choose(b, judge, mode, None, r, count)) for r in numbers]
            above = self.rng.integers(0, 2 ** (32 - count), len(rows))  # bits above the low N do not count
            random = [r + (int(a) << count) for (_, r, _), a in zip(rows, above, strict=True)]
            self._add(
                name,
                judge,
                kernel,
                bits,
                [p for p, _, _ in rows],
                [c for _, _, c in rows],
                mode,
                None,
                count=count,
                random=random,
            )

    def _add_exact(self, name: str, judge: oracle.Format, kernel: str) -> None:
        """The exact carrier: Python integers of 256 bits."""
        operands = directed(judge, 256)
        operands = operands[:: max(1, len(operands) // 100)]
        values = reals(operands, 256)
        for mode in ("ties_to_even", "toward_negative", "to_odd"):
            codes = [oracle.encode(v, judge, mode, None) for v in values]
            carried = [self._pattern(name, judge, c, 256) for c in codes]
            self.cases.append(Case(kernel, name, 256, "python", False, operands, codes, mode))
            self.cases.append(Case(kernel, name, 256, "python", True, operands, carried, mode))
        for mode, count in (("stochastic_a", 32), ("stochastic_b", 2), ("stochastic_c", 31)):
            random = [int(r) for r in self.rng.integers(0, 2**count, len(operands))]
            codes = [oracle.encode(v, judge, mode, None, r, count) for v, r in zip(values, random, strict=True)]
            self.cases.append(
                Case(kernel, name, 256, "python", False, operands, codes, mode, random=random, count=count)
            )

    def _add_decoding(self, name: str, judge: oracle.Format) -> None:
        width = judge.bits
        codes = list(range(2**width)) if width <= 10 else self._sampled_codes(judge)
        for bits in (32, 64):
            patterns = [self._pattern(name, judge, c, bits) for c in codes]
            if None in patterns:
                continue
            junk = [c + (i % 5 << width) if width <= bits - 8 else c for i, c in enumerate(codes)]
            junk = [c - 2**width if i % 3 == 1 and width < bits else c for i, c in enumerate(junk)]
            expected = integers(patterns, bits)
            for engine in ("numpy", "strict"):
                self.cases.append(
                    Case(f"decode {judge.kind}", name, bits, engine, True, integers(junk, bits), expected)
                )

    def _sampled_codes(self, judge: oracle.Format) -> list[int]:
        width = judge.bits
        ends = {0, 1, 2, 3, 2**width - 1, 2 ** (width - 1), 2 ** (width - 1) - 1, 2 ** (width - 1) + 1}
        ends |= {1 << i for i in range(width)} | {2**width - (1 << i) for i in range(width)}
        if isinstance(judge, oracle.FloatFormat):
            ends |= {
                f * judge.steps + d
                for f in range(2 ** (width - judge.trailing_bits))
                for d in (-1, 0, 1, judge.steps // 2)
            }
            ends |= {judge.max_rank + d for d in (-1, 0, 1, 2)}
        return sorted({c % 2**width for c in ends} | {int(c) for c in self.rng.integers(0, 2 ** min(width, 62), 200)})

    def _pattern(self, name: str, judge: oracle.Format, code: int, bits: int) -> int | None:
        """The carrier pattern of a code's value; None where the carrier does not hold it."""
        key = (name, code, bits)
        if key not in self.patterns:
            value = oracle.value(code, judge)
            self.patterns[key] = pattern(value, bits) if holds(value, bits) else None
        return self.patterns[key]

    def _add_platforms(self) -> None:
        """Platforms whose rules the kernels know: ml_dtypes answers itself; torch as numfmt/platforms.py says it measured."""
        for name, dtype in (
            ("e8m0", "float8_e8m0fnu"),
            ("e4m3fn", "float8_e4m3fn"),
            ("e5m2", "float8_e5m2"),
            ("e2m1", "float4_e2m1fn"),
        ):
            judge = oracle.get(name)
            operands = directed(judge, 32)
            x = np.array(operands, np.uint32).view(np.float32)
            with np.errstate(all="ignore"):
                codes = x.astype(getattr(ml_dtypes, dtype)).view(np.uint8).tolist()
                absolute = np.abs(x).astype(getattr(ml_dtypes, dtype)).view(np.uint8).tolist()
            self._add(name, judge, "float", 32, operands, codes, None, None, platform="ml_dtypes")
            self._add(name, judge, "float", 64, _wide(x), codes, None, None, platform="ml_dtypes")
            if name == "e8m0":
                torch = [0 if v == 0 else c for v, c in zip(x, absolute, strict=True)]
                self._add(name, judge, "float", 32, operands, torch, None, None, platform="torch")
                sizes = [abs(v) if isinstance(v, Fraction) else v.lstrip("-") for v in reals(operands, 32)]
                up = [
                    oracle.encode(v if v != "0" else Fraction(0), judge, "toward_positive", "saturate") for v in sizes
                ]
                onnx = [c if np.isfinite(v) else 0xFF for v, c in zip(x, up, strict=True)]
                self._add(name, judge, "float", 32, operands, onnx, None, None, platform="onnx")
        for name in ("e4m3fn", "int8", "uint8", "float(e=4, m=3, subnormals=none)"):
            self._add_special_codes(name)
        self._add_bitsandbytes()
        for name in ("e4m3fn", "e8m0", "hif4_scale_e6m2"):
            self._add_lowest_away(name)

    def _add_bitsandbytes(self) -> None:
        """fp4_bnb: as many magnitudes as |x| exceeds constants, and a sign unless x is a zero; NaN becomes zero."""
        judge = oracle.get("fp4_bnb")
        assert isinstance(judge, oracle.CodebookFormat)
        codes = sorted(range(8), key=lambda code: judge.values[code])
        limits = [Fraction(float(np.float32(c))) for c in BITSANDBYTES]
        for bits in (32, 64):
            at = [pattern(limit, bits) + d for limit in limits for d in (-1, 0, 1)]
            operands = sorted({*directed(judge, bits), *at, *(p + (1 << (bits - 1)) for p in at)})
            expected = []
            for p, v in zip(operands, reals(operands, bits), strict=True):
                size = abs(v) if isinstance(v, Fraction) else 0 if v in ("nan", "-0") else 1
                code = codes[sum(size > limit for limit in limits)]
                expected.append(code + 8 * (p >> (bits - 1) if size else 0))
            self._add("fp4_bnb", judge, "table", bits, operands, expected, None, None, platform="bitsandbytes")

    def _add_special_codes(self, name: str) -> None:
        found, rule = FORMATS[name], OWN["special codes"]
        judge = oracle.get(found) if isinstance(found, str) else found
        operands = directed(judge, 64)[::5]
        operands += [(0x7FF << 52) + 1, 0x7FF << 52, 0, (0xFFF << 52) + 1, 0xFFF << 52, 1 << 63]
        codes = []
        for p, v in zip(operands, reals(operands, 64), strict=True):
            code, negative = oracle.encode(v, judge, None), p >> 63
            if v == "nan":
                code = rule["nan"][negative]
            elif v in ("inf", "-inf"):
                code = rule["infinity"][negative]
            elif isinstance(judge, oracle.FloatFormat) and code in (0, judge.code(0, True)):
                code = rule["zero"][negative]
            codes.append(code)
        self._add(name, judge, _kernel(judge), 64, operands, codes, None, None, platform="special codes")

    def _add_lowest_away(self, name: str) -> None:
        judge = oracle.get(name)
        assert isinstance(judge, oracle.FloatFormat)
        least = judge.min_normal
        for bits in (32, 64):
            operands = sorted(
                {*directed(judge, bits), *(_floor_pattern(least * f, bits) + d for f in (1, 2) for d in (-1, 0, 1))}
            )
            values = reals(operands, bits)
            lowest = [isinstance(v, Fraction) and least <= abs(v) < 2 * least for v in values]
            modes = ["away_from_zero" if low else None for low in lowest]
            codes = [oracle.encode(v, judge, mode, None) for v, mode in zip(values, modes, strict=True)]
            self._add(name, judge, "float", bits, operands, codes, None, None, platform="lowest away")


def _kernel(judge: oracle.Format) -> str:
    match judge:
        case oracle.FloatFormat(lowest_binade="subnormal") | oracle.FloatFormat(zero=False):
            return "float"
        case oracle.FloatFormat(lowest_binade="normal", trailing_bits=0):
            return "float"
        case oracle.FloatFormat():
            return "gapped"
        case oracle.FixedFormat():
            return "fixed"
    return "table"


def _words(random: Sequence[int] | Array, bits: int) -> Array:
    """Random numbers as a carrier's integers."""
    words = np.asarray(random, np.uint32)
    return words.view(np.int32) if bits == 32 else words.astype(np.int64)


def _wide(x: Array) -> list[int]:
    """float32 values as binary64 patterns, NaNs with their sign."""
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return [int(p) for p in x.astype(np.float64).view(np.uint64)]


# Which cases a change in a file can touch.
SCALAR = ("float", "gapped", "fixed", "table", "decode float", "decode fixed", "threefry")
BLOCK = (  # judge_blocks.py makes them
    "block float", "block slow", "block saturating", "block nearest", "block fixed", "block quotient",
)  # fmt: skip
CORE = (  # judge_core.py makes them
    "fraction", "binary32 multiply", "binary32 divide", "binary32 add", "binary32 minimum", "binary32 maximum",
    "binary32 key", "binary32 is_nan", "binary32 truncate", "binary32 to_integer", "binary32 from_integer",
    "binary32 long_product", "binary32 long_quotient", "binary32 round_pack",
)  # fmt: skip
_OPERATIONS = "add sub mul mac fma div sqrt rem convert scale_b log_b round_to_integral".split()
ARITHMETIC = (  # judge_arithmetic.py makes them
    *(f"arithmetic {name}" for name in _OPERATIONS), *(f"arithmetic {name} flags" for name in _OPERATIONS),
)  # fmt: skip
_SUMS = ("settle", "settle_long", "keep", "accumulate")
DOT = (  # judge_dot.py makes them
    "dot align", "dot cut", "dot lifted", "dot lifted low", *(f"dot {name}" for name in _SUMS), *(f"dot {name} exponent" for name in _SUMS),
)  # fmt: skip
KERNELS = {
    "arithmetic.py": ARITHMETIC,
    "binary32.py": CORE[1:],
    "block.py": BLOCK,
    "dot.py": DOT,
    "fixed.py": ("fixed", "decode fixed", "block fixed", *ARITHMETIC),
    "fraction.py": ("fraction", "gapped", "table"),
    "gapped.py": ("gapped", *ARITHMETIC),
    "table.py": ("table",),
    "threefry.py": ("threefry",),
}


def concerned(file: str, kernel: str) -> bool:
    """Whether a change in a file of _core can change what a kernel gives."""
    return kernel in KERNELS.get(file, (kernel,))
