"""IBM's FPgen test suite (.fptest), read as it is: one case a line, each with its operation and rounding.

    b32+ =0 i -1.6E9177P49 -1.7FFFFFP127 -> -1.7FFFFFP127 x

Precision and operation, rounding, trapped exceptions, operands, results, exceptions raised. Significands are
hexadecimal: a leading digit 0 or 1, then the trailing significand. Lines that say nothing about arithmetic in binary32,
binary64 and binary128 as IEEE 754 delivers it without traps are skipped, each with its reason.

References: IBM Floating-Point Test-Suite for IEEE 754R, syntax.txt.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..formats import FloatFormat
from ..named import scalar_format
from ..rounding import Rounding
from .functions import Function, Rules, parse
from .lines import LineSource
from .rows import Rows, VectorFileError, fields_of

ROUNDINGS = {
    ">": Rounding.TOWARD_POSITIVE, "<": Rounding.TOWARD_NEGATIVE, "0": Rounding.TOWARD_ZERO,
    "=0": Rounding.TIES_TO_EVEN, "=^": Rounding.TIES_TO_AWAY,
}  # fmt: skip
OPERATIONS = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "*+": "mulAdd", "V": "sqrt", "%": "rem", "Nu": "nextUp",
    "Nd": "nextDown",
}  # fmt: skip
# Known operations that are not read: their results are no codes, or the suite leaves open what they are.
OTHERS = {
    "rfi": "whether it raises inexact is open", "cfi": "the width is open", "cif": "the width is open",
    "cfd": "a conversion to decimal", "cdf": "a conversion from decimal", "qC": "a comparison", "sC": "a comparison",
    "cp": "no arithmetic", "~": "no arithmetic", "A": "no arithmetic", "@": "no arithmetic", "S": "scalb of a float",
    "L": "the result's format is open", "Na": "nextafter of IEEE 754-1985", "eq": "no arithmetic",
    "<C": "minNum of IEEE 754-2008", ">C": "maxNum of IEEE 754-2008", "<A": "minNumMag", ">A": "maxNumMag",
    "=quant": "decimal", "quant": "decimal",
}  # fmt: skip

_HEAD = re.compile(r"([bd])(32|64|128)(?:b(32|64|128))?(.*)")
_NUMBER = re.compile(r"([+-])([01])\.([0-9A-F]+)P(-?\d{1,6})", re.IGNORECASE)
_TRAPS = re.compile(r"[xuozi]+")
_RAISED = re.compile(r"[xuvwozi]+")


class Case(NamedTuple):
    """A line that is read: the function, the rounding, codes of operands and result, flags."""

    function: Function
    rounding: Rounding
    operands: list[int]
    result: int
    flags: int


class Skip(Exception):
    """A line that says nothing here, and why."""


def looks_so(head: bytes) -> bool:
    """Whether a text begins as a file of the suite does."""
    for line in head.splitlines()[:8]:
        words = line.decode("ascii", "replace").split()
        if len(words) > 3 and _HEAD.fullmatch(words[0]) and words[1] in ROUNDINGS:
            return True
    return False


@lru_cache(maxsize=8)
def _binary(bits: str) -> FloatFormat:
    found = scalar_format({"32": "float32", "64": "float64", "128": "binary128"}[bits])
    assert isinstance(found, FloatFormat)
    return found


@lru_cache(maxsize=64)
def _function(operation: str, bits: str, source: str | None) -> Function:
    if operation == "cff":
        return parse(f"{_name(str(source))}_to_{_name(bits)}")
    return parse(f"{_name(bits)}_{OPERATIONS[operation]}")


def _name(bits: str) -> str:
    return f"f{bits}"


def rows(source: LineSource, rules: Rules) -> Iterator[Rows]:
    """Rows by block, gathered by function and rounding; lines that are skipped are noted in `source.skipped`.

    Raises:
        VectorFileError: a line that is none of the suite's, a file without any case.
    """
    seen = 0
    for block in source.blocks():
        found: dict[tuple[Function, Rounding], list[tuple[int, Case]]] = defaultdict(list)
        for line in block.split(b"\n")[: None if block[-1:] != b"\n" else -1]:
            seen += _take(source, line, rules, found, seen)
            source.line += 1
        for (function, rounding), cases in found.items():
            yield _gathered(function, replace(rules, rounding=rounding), cases)
    if not seen:
        raise VectorFileError(source.path, None, "no cases: no line is one of IBM's test suite")


def _take(
    source: LineSource,
    line: bytes,
    rules: Rules,
    found: dict[tuple[Function, Rounding], list[tuple[int, Case]]],
    seen: int,
) -> bool:
    """Take a line in; whether it is a case, read or skipped."""
    if len(line) > source.longest:
        source.too_long(source.line)
    try:
        words = line.decode("ascii").split()
        if not words or (not seen and "->" not in words):  # what stands above the first case is prose
            return False
        case = case_of(words, rules)
    except UnicodeDecodeError:
        raise VectorFileError(source.path, source.line, "bytes that are no ASCII text") from None
    except Skip as reason:
        source.skip(str(reason))
        return True
    except ValueError as error:
        raise VectorFileError(source.path, source.line, str(error)) from None
    found[case.function, case.rounding].append((source.line, case))
    return True


def case_of(words: list[str], rules: Rules) -> Case:
    """The case of a line's words.

    Raises:
        Skip: the line is of the suite, and says nothing here.
        ValueError: it is none of the suite's.
    """
    match = _HEAD.fullmatch(words[0])
    if match is None or len(words) < 4 or words[1] not in ROUNDINGS or words.count("->") != 1:
        raise ValueError(
            f"{' '.join(words)[:60]!r} is no case: precision and operation, rounding, operands, ->, result"
        )
    radix, bits, second, operation = match.groups()
    if radix == "d":
        raise Skip("decimal")
    if operation not in OPERATIONS and not (operation == "cff" and second):
        if operation in OTHERS or operation.startswith("?"):
            raise Skip(f"operation {operation}: {OTHERS.get(operation, 'no arithmetic')}")
        raise ValueError(f"operation {operation!r} is none of the suite's")
    # b32b64cff: from the first precision to the second
    function = _function(operation, second or bits, bits if operation == "cff" else None)
    count, arrow = len(function.sources), words.index("->")
    traps = words[2] if arrow == 3 + count and _TRAPS.fullmatch(words[2]) else ""
    if arrow != 2 + count + bool(traps):
        raise ValueError(f"{arrow - 2} operands are given; {operation} takes {count}")
    after = words[arrow + 1 :]
    raised = after[1] if len(after) > 1 else ""
    if not 1 <= len(after) <= 2 or (raised and not _RAISED.fullmatch(raised)):
        raise ValueError(
            f"after -> there is {' '.join(after)[:60]!r}; a result and the letters of exceptions belong there"
        )
    _check_traps(traps, raised, after[0])
    operands = [code_of(word, _binary(bits)) for word in words[arrow - count : arrow]]
    result = code_of(after[0], _binary(second or bits))
    return Case(function, ROUNDINGS[words[1]], operands, result, _flags(raised, rules, result, _binary(second or bits)))


def _check_traps(traps: str, raised: str, result: str) -> None:
    """Skip what a trap that was taken delivers."""
    letters = {"u" if letter in "vw" else letter for letter in raised}
    taken = [letter for letter in traps if letter in letters and letter != "x"]
    if taken:
        raise Skip(f"a trapped exception is delivered ({', '.join(taken)})")
    if result == "#":
        raise Skip("no result is stated (#)")


def _flags(raised: str, rules: Rules, result: int, fmt: FloatFormat) -> int:
    """TestFloat's flags. u, v, w are three definitions of underflow: extraordinary error, tiny after, before rounding.

    An extraordinary error implies the others, and tininess after rounding that before, but for results that are the
    smallest normal number, where u does not say which of the others hold.
    """
    flags = sum(bit for letter, bit in (("i", 16), ("z", 8), ("o", 4), ("x", 1)) if letter in raised)
    asked = "v" if rules.tininess == "after" else "w"
    stated = [letter for letter in "uvw" if letter in raised]
    smallest = result & fmt.magnitude_mask == 1 << fmt.trailing_bits
    if stated == ["u"] and smallest and "x" in raised:
        raise Skip(
            "underflow is stated by extraordinary error alone, which leaves tininess open at the smallest normal"
        )
    underflow = bool(stated) and (asked in stated or "u" in stated or (asked == "w" and "v" in stated))
    return flags | 2 * (underflow and "x" in raised)


def code_of(text: str, fmt: FloatFormat) -> int:
    """The code of an operand: +1.7FFFFFP127, -Zero, +Inf, Q, S.

    >>> hex(code_of("+0.7FFFFFP-126", scalar_format("f32")))
    '0x7fffff'
    """
    assert fmt.infinity_code is not None
    assert fmt.nan_code is not None
    if text in ("Q", "+Q", "-Q", "S", "+S", "-S"):
        return fmt.nan_code if text[-1] == "Q" else fmt.infinity_code + 1
    sign = fmt.sign_mask if text[:1] == "-" else 0
    if text[1:] in ("Zero", "Inf") and text[:1] in ("+", "-"):
        return sign | (fmt.infinity_code if text[1:] == "Inf" else 0)
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no operand: +1.000000P0, +Zero, -Inf, Q or S")
    digits, exponent = -(-fmt.trailing_bits // 4), int(match[4])
    fraction = int(match[3], 16)
    if len(match[3]) != digits or fraction >> fmt.trailing_bits:
        raise ValueError(
            f"{text[:40]!r} has no significand of {fmt}: {digits} digits that hold {fmt.trailing_bits} bits"
        )
    if match[2] == "0":
        if exponent != fmt.emin:
            raise ValueError(f"{text[:40]!r} has exponent {exponent}; a subnormal of {fmt} has {fmt.emin}")
        return sign | fraction
    if not fmt.emin <= exponent <= fmt.emax:
        raise ValueError(f"{text[:40]!r} has exponent {exponent}; those of {fmt} are {fmt.emin} to {fmt.emax}")
    return sign | (exponent + fmt.bias) << fmt.trailing_bits | fraction


def _gathered(function: Function, rules: Rules, cases: list[tuple[int, Case]]) -> Rows:
    """Cases of one function and rounding as a chunk."""
    fields = fields_of(function, rules)
    operands = []
    for i, one in enumerate(fields[: len(function.sources)]):
        operands.append(np.array([case.operands[i] for _, case in cases], one.dtype))
    results = np.array([case.result for _, case in cases], fields[-2].dtype)
    flags = np.array([case.flags for _, case in cases], np.uint8)
    numbers = np.array([number for number, _ in cases], np.int64)
    return Rows(operands, results, flags, None, numbers, function, rules)
