"""The part of the judge that is for numfmt/_core/block.py: elements under scales, and quotients.

A format times 2**shift is, to spec/, the format with another bias (or number of fraction bits). So the cases of a
format are its own `directed` operands at each of several shifts, joined in one array. Quotients are judged by
fractions.

    cases(seed, formats)     the cases, in the order in which they are tried
    sweeps()                 the same calls on many operands, without expectations, for sweep.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import product
from math import floor
from typing import Any
from unittest.mock import patch

import numpy as np

from spec import oracle
from spec.formats import floor_log2, power_of_two
from tests.mutation.judge import SAMPLE, Case, _words, close, directed, integers, pattern, reals

Array = np.ndarray[Any, Any]
Scalar = oracle.FloatFormat | oracle.FixedFormat

FORMATS: dict[str, Scalar | str] = {
    "e2m1": "e2m1", "e4m3fn": "e4m3fn", "e5m2": "e5m2", "e3m2": "e3m2", "e2m3": "e2m3", "e3m0": "e3m0",
    "int8": "int8", "s2f6": "s2f6",
    "fixed(bits=4, fraction=2, sign_magnitude=yes)": oracle.fixed(4, 2, encoding="sign_magnitude"),
}  # fmt: skip
STOCHASTIC = [("stochastic_a", 8), ("stochastic_b", 31), ("stochastic_c", 32)]
NUMBERS = ("block saturating", "block nearest")  # kernels for numbers only
UNSIGNED = ("ties_to_even", "ties_to_odd", "ties_to_away", "ties_to_zero")  # modes to nearest that do not look at signs
OVERFLOWS = ("propagate", "infinity", "nan")
LEAST, MOST = -126, 127  # exponents of binary32's normal values


def cases(seed: int = 0, formats: Sequence[str] | None = None) -> list[Case]:
    """All cases of these formats, of those above; quotients where none are named."""
    made = Maker(np.random.default_rng(seed))
    with patch.object(oracle, "ENUMERABLE_BITS", 8):
        for name in FORMATS if formats is None else [name for name in formats if name in FORMATS]:
            found = FORMATS[name]
            judge = oracle.get(found) if isinstance(found, str) else found
            for kernel, in_carrier in _calls(judge):
                made.add_rounding(kernel, name, judge, in_carrier)
    if formats is None:
        made.add_quotients()
    return [made.cases[i] for i in made.rng.permutation(len(made.cases))]


def _calls(judge: Scalar) -> list[tuple[str, bool]]:
    """Which kernels serve a format, for codes and for values."""
    if judge.kind == "fixed":
        return [("block fixed", False), ("block fixed", True)]
    calls = [("block float", False), ("block float", True), ("block slow", False), ("block saturating", False)]
    if not judge.trailing_bits:  # type: ignore[union-attr]
        return calls
    return [*calls, ("block saturating", True), ("block nearest", False), ("block nearest", True)]


def shifts(judge: Scalar, kernel: str, in_carrier: bool) -> list[int]:
    """Exponents of scales: the ends of what a kernel is for, those next to them, and some between.

    Codes need a grid that is normal in binary32, values need all values to be, rounding in place needs one binade more;
    a slow kernel needs nothing.
    """
    if isinstance(judge, oracle.FixedFormat):
        low, high = -149 + judge.fraction_bits, MOST - floor_log2(max(judge.high, -judge.low) * judge.quantum)
    elif kernel == "block slow":
        low, high = -149, LEAST - floor_log2(judge.min_normal) - 1
        return [low, high - 9, high, 0, MOST]
    elif kernel == "block nearest":
        low, high = LEAST + 1 - floor_log2(judge.magnitude(1)), MOST - floor_log2(judge.max)
    elif in_carrier:
        low, high = LEAST - floor_log2(judge.magnitude(1)), MOST - floor_log2(judge.max)
    else:
        low, high = LEAST - floor_log2(judge.min_normal), 254
    return [low, low + 1, 0, 37, high - 1, high]


def scaled(judge: Scalar, shift: int) -> Scalar:
    """A format times 2**shift, with the codes that it has."""
    if isinstance(judge, oracle.FixedFormat):
        return replace(judge, fraction_bits=judge.fraction_bits - shift)
    return replace(judge, bias=judge.bias - shift)


def takes(kernel: str, judge: Scalar, in_carrier: bool, value: oracle.Value) -> bool:
    """Whether a kernel is for an operand, under the format times 2**shift."""
    if kernel in NUMBERS and value in ("inf", "-inf"):
        return judge.max < power_of_two(MOST + 1)  # type: ignore[union-attr]
    if value != "nan" or judge.kind == "fixed":
        return True
    # A format without a NaN has a value for it, which only codes name whatever the scale.
    return kernel not in NUMBERS and (not in_carrier or judge.nan_code is not None)  # type: ignore[union-attr]


def finite_ends(judge: Scalar, mode: str, overflow: str | None) -> tuple[int, int] | None:
    """1 or 0: whether overflow, and infinity, become finite values; None where that depends on the sign."""
    ends = [
        {int(isinstance(oracle.value(oracle.encode(v, judge, mode, overflow), judge), Fraction)) for v in pair}
        for pair in ((4 * judge.max, -4 * judge.max), ("inf", "-inf"))  # type: ignore[union-attr]
    ]
    return None if any(len(end) > 1 for end in ends) else (min(ends[0]), min(ends[1]))


@dataclass
class Maker:
    """Makes cases."""

    rng: np.random.Generator
    cases: list[Case] = field(default_factory=list)

    # ---- elements under a scale --------------------------------------------------------------------------------

    def add_rounding(self, kernel: str, name: str, judge: Scalar, in_carrier: bool) -> None:
        """One kernel for one format: deterministic and stochastic modes, and what overflows."""
        by_shift = []
        for shift in shifts(judge, kernel, in_carrier):
            moved = scaled(judge, shift)
            operands = directed(moved, 32)
            pairs = [
                (p, v)
                for p, v in zip(operands, reals(operands, 32), strict=True)
                if takes(kernel, moved, in_carrier, v)
            ]
            by_shift.append((shift, moved, [(p, oracle.bracket(v, moved)) for p, v in pairs]))
        nearest = kernel == "block nearest"
        rules = [(mode, "saturate") for mode in (UNSIGNED if nearest else SAMPLE)]
        if kernel == "block float":
            others = [overflow for overflow in OVERFLOWS if _allows(judge, overflow)]
            rules += product(("ties_to_even", "toward_negative"), others)
        for mode, overflow in rules:
            finite = finite_ends(judge, mode, overflow) if kernel == "block float" else (1, 1)
            if in_carrier and finite is None:
                continue
            thin = 1 if mode == "ties_to_even" and overflow == "saturate" else 4
            rows = [
                (p, shift, oracle.choose(b, moved, mode, overflow), moved)
                for shift, moved, operands in by_shift
                for p, b in operands[shift % thin :: thin]
            ]
            self._add(kernel, name, in_carrier, rows, mode, overflow, finite=finite or (0, 0))
        for mode, count in () if nearest else STOCHASTIC:
            self._add_stochastic(kernel, name, in_carrier, by_shift, mode, count)

    def _add_stochastic(
        self, kernel: str, name: str, in_carrier: bool, by_shift: list[Any], mode: str, count: int
    ) -> None:
        rows, random = [], []
        for shift, moved, operands in by_shift:
            finite = [(p, b) for p, b in operands if b.special is None]
            for i in self.rng.choice(len(finite), 12, replace=False):
                p, b = finite[i]
                for number in close(b.fraction, count, self.rng):
                    code = oracle.choose(b, moved, mode, "saturate", number, count)
                    rows.append((p, shift, code, moved))
                    random.append(number + (int(self.rng.integers(0, 2 ** (32 - count))) << count))
        self._add(kernel, name, in_carrier, rows, mode, "saturate", random, count=count)

    def _add(
        self,
        kernel: str,
        name: str,
        in_carrier: bool,
        rows: list[tuple[int, int, int, Scalar]],
        mode: str,
        overflow: str,
        random: list[int] | None = None,
        **options: Any,
    ) -> None:
        """A case for NumPy; for the commonest mode and a stochastic one also for the other engines."""
        patterns = [p for p, _, _, _ in rows]
        by = np.array([shift for _, shift, _, _ in rows], np.int32)
        codes = [pattern(oracle.value(c, moved), 32) if in_carrier else c for _, _, c, moved in rows]
        expected, words = integers(codes, 32), None if random is None else _words(random, 32)
        case = Case(
            kernel, name, 32, "numpy", in_carrier, integers(patterns, 32), expected, mode, overflow, random=words, by=by,
            **options,
        )  # fmt: skip
        self.cases.append(case)
        if (mode, overflow) in (("ties_to_even", "saturate"), ("stochastic_b", "saturate")):
            self.cases += [part_of(case, slice(0, None, 3), "strict"), part_of(case, slice(0, None, 20), "python")]

    # ---- quotients ---------------------------------------------------------------------------------------------

    def add_quotients(self) -> None:
        """x / d for every kind of both."""
        pairs = quotient_operands(self.rng)
        by = integers((pattern(d, 64) for _, d in pairs), 64)
        expected = integers((odd_quotient(x, d) for x, d in pairs), 64)
        case = Case("block quotient", "", 64, "numpy", True, integers((x for x, _ in pairs), 64), expected, by=by)
        parts = [(slice(i, None, 3), "numpy") for i in range(3)]
        parts += [(slice(None, None, 3), "strict"), (slice(None, None, 40), "python")]
        self.cases += [part_of(case, part, engine) for part, engine in parts]


def _allows(judge: Scalar, overflow: str) -> bool:
    try:
        oracle.encode(Fraction(0), judge, None, overflow)
    except ValueError:
        return False
    return True


def part_of(case: Case, part: slice, engine: str) -> Case:
    """Some of a case's operands, on an engine."""
    arrays = {name: getattr(case, name) for name in ("operands", "expected", "random", "by")}
    cut = {name: None if array is None else array[part] for name, array in arrays.items()}
    if engine == "python":
        cut = {name: None if array is None else array.tolist() for name, array in cut.items()}
    return replace(case, engine=engine, **cut)


TOP = (2046 << 52) + 2**52 - 1  # the largest finite value of binary64


def quotient_operands(rng: np.random.Generator) -> list[tuple[int, Fraction]]:
    """Patterns of binary64 and divisors of 1 to 24 bits: exact quotients, what is beside them, and all ends."""
    digits = [1, 3, 5, 7, 9, 2**23 - 1, 2**23 + 1, 2**24 - 1, 2**24 - 3, 0xAAAAAB, 448, 57344]
    digits += [int(rng.integers(2**i, 2 ** (i + 1))) for i in range(24)]
    divisors = [n * power_of_two(int(e)) for n in digits for e in (0, -149, 104, rng.integers(-149, 105))]
    divisors += [power_of_two(e) for e in (-149, -127, -126, -1, 0, 1, 127, -1022, 1023)]
    divisors += [(2**24 - 1) * power_of_two(e) for e in (-1022, 1000)]
    shapes = [0, 1, 2**52 - 1, 2**51, *(int(t) for t in rng.integers(0, 2**52, 4))]
    pairs = []
    for i, d in enumerate(divisors):
        middle = floor_log2(d) + 1023
        for around in (0, 1023, -1020, *(int(f) for f in rng.integers(-900, 900, 2))):  # quotients of any size
            field = min(max(middle + around, 1), 2045)
            pairs += [((field << 52) + shapes[(i + k) % 8], d) for k in range(2)]
        for size in (1, 11, 12, 28, 29):  # multiples of d, and those beside
            times = int(rng.integers(2 ** (size - 1), 2**size))
            found = pattern(times * d / power_of_two(floor_log2(d)), 64)
            pairs += [(found + step, d) for step in (-1, 0, 1)]
    for d in (Fraction(1), Fraction(3), Fraction(448), power_of_two(-149), 3 * power_of_two(100)):  # the carrier's ends
        low, high = floor_log2(d) + 1, floor_log2(d) + 2046
        pairs += [((e << 52) + t, d) for e in range(low - 56, low + 3) if e >= 1 for t in shapes[: 1 + e % 4]]
        pairs += [((e << 52) + t, d) for e in range(high - 6, high + 3) if e <= 2046 for t in shapes]
        pairs += [(p, d) for p in (1, 2, 3, 2**20 + 1, 2**51, 2**52 - 1, 2**52, 2**52 + 1, TOP - 1, TOP)]
        pairs += [(p, d) for p in (0, TOP + 1, TOP + 2, TOP + 2**51)]
    pairs += [(p + 2**63, d) for p, d in pairs if p > TOP or p == 0]
    return [(p | (n % 3 == 0 and 0 < p <= TOP) << 63, d) for n, (p, d) in enumerate(pairs)]


def odd_quotient(x: int, d: Fraction) -> int:
    """The pattern of x / d, rounded to odd at 2**-51 of the powers of two that lead x and d.

    Below the normal values it loses bits, but nothing becomes zero. NaN and infinite x stay what they are.
    """
    sign, magnitude = x & 2**63, x % 2**63
    if magnitude > TOP or magnitude == 0:
        return x
    value = reals([magnitude], 64)[0]
    assert isinstance(value, Fraction)
    unit = power_of_two(floor_log2(value) - floor_log2(d) - 51)
    n = floor(value / d / unit)
    rounded = (n | (n * unit != value / d)) * unit
    least = power_of_two(-1074)
    if rounded < power_of_two(-1022):
        rounded = max(floor(rounded / least), 1) * least
    return sign + pattern(min(rounded, power_of_two(1021)), 64)  # from there on only the end counts


# ---- sweeps ----------------------------------------------------------------------------------------------------


def sweeps(x: Array, y: Array) -> Iterator[Case]:
    """Every call on many operands, without expectations.

    Args:
        x, y: patterns of binary32 and of binary64.
    """
    rng = np.random.default_rng(2)
    word = _words(rng.integers(0, 2**32, x.size, np.uint32), 32)
    for name, found in FORMATS.items():
        judge = oracle.get(found) if isinstance(found, str) else found
        for kernel, in_carrier in _calls(judge):
            for shift in shifts(judge, kernel, in_carrier):
                taken = np.ones(x.size, bool)
                for bad in [v for v in ("nan", "inf") if not takes(kernel, scaled(judge, shift), in_carrier, v)]:
                    magnitude = x & 0x7FFFFFFF
                    taken &= (magnitude <= 0x7F800000) if bad == "nan" else (magnitude != 0x7F800000)
                operands = x[taken]
                by = np.full(operands.size, shift, np.int32)
                for mode, count in [*((m, None) for m in SAMPLE), *STOCHASTIC]:
                    random = word[taken] if count else None
                    yield Case(
                        kernel, name, 32, "numpy", in_carrier, operands, None, mode, "saturate", random=random,
                        count=count, by=by,
                    )  # fmt: skip
    divisors = rng.integers(1, 2**24, y.size) * 2.0 ** rng.integers(-149, 104, y.size)
    yield Case("block quotient", "", 64, "numpy", True, y, None, by=divisors.view(np.int64))
