"""The part of the judge that is for numfmt/_core/arithmetic.py: results and flags of operations, by spec/arithmetic.py.

    cases(seed)     the cases, in the order in which they are tried
    sweeps()        the same calls on other operands, without expectations, for sweep.py

Where a result and its flags fit one int64 they are judged together (the flags from bit 40 on), else apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from spec import arithmetic as oracle
from spec.names import get
from tests.mutation import judge
from tests.mutation.judge import ARITHMETIC, Case

Array = np.ndarray[Any, Any]

FLAGS = 40  # the first bit of the flags
# Narrow and wide frames; no infinity, no -0, no zero, holes in the grid, unsigned, one symbol for NaN and infinity, no
# exponent above zero; two's complement, sign and magnitude. A plus joins the formats of a first and the other operands.
FORMATS = {
    "float16": 300, "e5m2": 100, "e4m3fn": 100, "float32": 150, "float64": 300, "e4m3fnuz": 80, "e8m0": 80, "dlfloat16": 80,
    "binary8p3se": 80, "ue5m3": 60, "cfloat8_1_4_3": 60, "e2m1": 60, "float(e=4, m=3, subnormals=none)": 100, "e5m2b60": 80,
    "float(e=6, m=28, subnormals=none)": 80, "e5m2+float32": 80, "float32+e5m2": 80, "q3.4": 100, "uint8": 60,
    "fixed(bits=6, fraction=2, sign_magnitude=yes)": 100, "e3m0": 200, "e4m3fn+e3m0": 200,
    "bfloat16": 60, "float16+e5m2": 60,
}  # fmt: skip
MODES = ("ties_to_even", "toward_negative", "to_odd", "away_from_zero", "toward_positive", "toward_zero")
FIXED = ("add", "sub", "mul", "mac")
COUNTS = {"add": 2, "sub": 2, "mul": 2, "mac": 3, "fma": 3, "div": 2, "sqrt": 1, "rem": 2, "convert": 1, "scale_b": 2,
          "log_b": 1, "round_to_integral": 1}  # fmt: skip
TARGETS = {"float32": "float16", "float64": "float32", "e4m3fn": "float16", "e8m0": "e4m3fn", "float16": "e2m1",
           "dlfloat16": "float32", "e5m2": "binary8p3ue",
           "bfloat16": "e8m0", "e4m3fn+e3m0": "e3m0", "e5m2+float32": "float32", "float32+e5m2": "float64",
           "float16+e5m2": "ue5m3"}  # fmt: skip


def spec_format(name: str) -> Any:
    """The format of a name in FORMATS, as spec has it."""
    found = judge.FORMATS.get(name, name)
    return get(found) if isinstance(found, str) else found


def sources(name: str, operation: str) -> list[str]:
    """Names of the operands' formats."""
    first, _, others = name.partition("+")
    return [first, *[others or first] * (COUNTS[operation] - 1)][: 1 if operation == "scale_b" else 3]


def cases(seed: int = 0) -> list[Case]:
    """All cases."""
    made = list(_with_expectations(np.random.default_rng(seed)))
    return [made[i] for i in np.random.default_rng(seed).permutation(len(made))]


def _calls(rng: np.random.Generator) -> Iterator[tuple[str, str, str | None, str, str, list[Array]]]:
    """Operation, format, result's format, rounding, tininess and operands."""
    for name, count in FORMATS.items():
        fixed = spec_format(name.partition("+")[0]).kind == "fixed"
        own = FIXED if fixed else [op for op in COUNTS if op != "mac"]
        for place, operation in enumerate(own):
            if "+" in name and COUNTS[operation] == 1:
                continue
            columns = operands(name, operation, count, rng)
            modes = MODES if name == "float16" else (MODES[place % 6], MODES[(place + 1) % 6])
            to = TARGETS[name] if "+" in name else None
            for turn, rounding in enumerate(modes):
                yield operation, name, to, rounding, "before" if turn & 1 else "after", columns
            if name in TARGETS and to is None and operation not in ("scale_b", "log_b"):
                yield operation, name, TARGETS[name], "ties_to_even", "after", columns


def _with_expectations(rng: np.random.Generator) -> Iterator[Case]:
    for operation, name, to, rounding, tininess, columns in _calls(rng):
        case = _case(operation, name, to, rounding, tininess, columns)
        signed = [c.view(np.int64) if operation == "scale_b" and i else c for i, c in enumerate(columns)]
        formats = [spec_format(each) for each in sources(name, operation)]
        target, exact = spec_format(to or name), operation == "round_to_integral"
        found = [
            oracle.compute(operation, list(row), formats, target, rounding=rounding, tininess=tininess, exact=exact)
            for row in zip(*(column.tolist() for column in signed), strict=True)
        ]
        codes, flags = (np.array(column, np.uint64).view(np.int64) for column in zip(*found, strict=True))
        if target.bits <= FLAGS:
            made = [replace(case, expected=codes + (flags << FLAGS))]
        else:
            made = [replace(case, expected=codes), replace(case, kernel=f"{case.kernel} flags", expected=flags)]
        yield from made
        if rounding in ("ties_to_even", "toward_positive"):
            yield _part(made[0], 5, "python")
            yield _part(made[0], 3, "strict")
    yield from _of_platforms(rng)


def _of_platforms(rng: np.random.Generator) -> Iterator[Case]:
    """Conversions under a vendor's rules: the sign is dropped, or NaNs have a code for each sign."""
    codes = np.concatenate([np.arange(0, 2**16, 41), [0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFE01]]).astype(np.uint64)
    signs, sizes = codes >> np.uint64(15), codes & np.uint64(0x7FFF)
    case = _case("convert", "float16", "e8m0", "ties_to_even", "after", [codes])
    found = [oracle.compute("convert", [code], "float16", get("e8m0")) for code in sizes.tolist()]
    absolute = np.array([code + (flags << FLAGS) for code, flags in found])
    yield replace(case, platform=f"{case.platform}, absolute", expected=absolute)
    case = _case("convert", "float16", "e4m3fn", "ties_to_even", "after", [codes])
    found = [oracle.compute("convert", [code], "float16", get("e4m3fn")) for code in codes.tolist()]
    signed = np.array([code + (flags << FLAGS) for code, flags in found])
    signed = np.where(sizes > 0x7C00, signed | (signs << np.uint64(7)).astype(np.int64), signed)
    yield replace(case, platform=f"{case.platform}, signed NaN", expected=signed)


def _part(case: Case, step: int, engine: str) -> Case:
    def cut(array: Any) -> Any:
        return array[::step].tolist() if engine == "python" else array[::step]

    by = None if case.by is None else tuple(cut(column) for column in case.by)
    return replace(case, engine=engine, operands=cut(case.operands), expected=cut(case.expected), by=by)


def _case(operation: str, name: str, to: str | None, rounding: str, tininess: str, columns: list[Array]) -> Case:
    first, *others = (column.view(np.int64) for column in columns)
    kernel = f"arithmetic {operation}"
    assert kernel in ARITHMETIC
    return Case(
        kernel, name, 64, "numpy", False, first, None, rounding, platform=f"{to or name}, {tininess}",
        by=tuple(others) or None,
    )  # fmt: skip


# ---- operands ----------------------------------------------------------------------------------------------------


def operands(name: str, operation: str, count: int, rng: np.random.Generator) -> list[Array]:
    """Codes that meet: specials with each other, neighbouring exponents, few and many digits, and any."""
    formats = [spec_format(each) for each in sources(name, operation)]
    fmt, own = formats[0], COUNTS[operation]
    columns = [rng.choice(_codes(each, count * 3, rng), count) for each in formats]
    pools = [_special(each) for each in formats]
    pools = [pool if own == 1 or pool.size < 14 else rng.choice(pool, 14, replace=False) for pool in pools]
    if operation == "scale_b":
        span = 2 * fmt.bits + 40
        columns.append(rng.integers(-span, span + 1, count))
        pools.append(np.array([0, 1, 5000, -5000]))
    columns = _beside(columns, pools[:2] if own == 3 else pools, rng.choice(pools[-1], 14 * 14))
    if operation == "convert":
        columns = _beside(columns, [np.arange(256)])  # of wide formats, small subnormals
    if own > 1 and operation != "scale_b":
        columns = _beside(columns, [_kinds(each) for each in formats])
        columns = _beside(columns, [_whole(each)[: 24 if own == 2 else 7] for each in formats])
    if operation in ("add", "sub") and getattr(fmt, "trailing_bits", 0) and "+" not in name:
        near = columns[0] ^ rng.integers(0, 16, columns[0].size).astype(np.uint64)
        columns = [np.concatenate([columns[0]] * 2), np.concatenate([columns[1], near])]
    if operation == "fma" and "+" not in name and getattr(fmt, "trailing_bits", 0):
        columns = _cancelling(fmt, columns, rng)
    above = [2**each.bits * rng.integers(0, 4) if each.bits < 60 else 0 for each in formats]  # bits that do not count
    return [c + np.uint64(extra) for c, extra in zip(columns, [*above, 0], strict=False)]


def _beside(columns: list[Array], pools: list[Array], last: Array | None = None) -> list[Array]:
    """Rows, and below them all that pools can be combined to."""
    grid = [axis.ravel() for axis in np.meshgrid(*pools)]
    if len(grid) < len(columns):
        assert last is not None
        grid.append(np.resize(last, grid[0].size))
    return [np.concatenate([c.astype(np.uint64), g.astype(np.uint64)]) for c, g in zip(columns, grid, strict=True)]


def _kinds(fmt: Any) -> Array:
    """Codes of a few kinds of values: zeros, one, infinities, NaNs, the ends."""
    values = [0, "-0", 1, "inf", "-inf", "nan"]
    found = {oracle.encode_flags(Fraction(v) if v in (0, 1) else v, fmt)[0] for v in values}
    ieee = getattr(fmt, "nan", None) == "ieee"
    return np.array(sorted(found | ({fmt.code(fmt.infinity_rank, False) + 1} if ieee else set())), np.uint64)


def _whole(fmt: Any) -> Array:
    """Codes of small integers, whose quotients are whole or meet in ties."""
    return np.array([oracle.encode_flags(Fraction(n), fmt)[0] for n in (5, 2, 3, 1, 4, 6, 7, *range(8, 25))], np.uint64)


def _cancelling(fmt: Any, columns: list[Array], rng: np.random.Generator) -> list[Array]:
    """Addends next to -a · b, so that the low half of the product decides."""
    rows = zip(*(c.tolist() for c in columns), strict=True)
    made = []
    for a, b, _ in list(rows)[: 250 if fmt.bits > 8 else 60]:
        code, _ = oracle.compute("mul", [a, b], fmt, rounding="toward_zero")
        made.append((a, b, (code ^ 1 << fmt.bits - 1) + int(rng.integers(-2, 3)) & 2**fmt.bits - 1))
    one, t = oracle.encode_flags(Fraction(1), fmt)[0], fmt.trailing_bits
    for k in range(t, min(2 * t + 12, one >> t)):  # (1 + ε)² ± 2^-k: the low words of both cancel, or borrow
        small = oracle.encode_flags(Fraction(1, 2**k), fmt)[0]
        made += [(one + 1, one + 1, small), (one + 1, one + 1, small ^ 1 << fmt.bits - 1)]
    extra = np.array(made, np.uint64)
    return [np.concatenate([c, extra[:, i]]) for i, c in enumerate(columns)]


def _special(fmt: Any) -> Array:
    top = 2**fmt.bits - 1
    t = getattr(fmt, "trailing_bits", fmt.bits - 2)
    sign = 1 << fmt.bits - 1
    found = {0, 1, 2, 3, sign - 1, sign - 2, sign, sign + 1, top, top - 1, (1 << t) - 1, 1 << t, (1 << t) + 1}
    found |= {sign | (1 << t), sign | (1 << t) - 1, 3 << max(t - 1, 0)}
    half = fmt.bits // 2
    found |= {c + d for c in (sign - (1 << t), sign - (2 << t), sign >> 1, (sign >> 1) + (1 << t)) for d in (-1, 0, 1)}
    found |= {(1 << half) - 1, sign | sign - (1 << t)}
    return np.array(sorted(c for c in found if 0 <= c <= top), np.uint64)


def _codes(fmt: Any, count: int, rng: np.random.Generator) -> Array:
    """Codes around the middle of the range, whose significands have runs of ones and zeros, or any digits."""
    t = getattr(fmt, "trailing_bits", 0)
    if not t or fmt.bits <= 8:
        return rng.integers(0, 2**fmt.bits, count).astype(np.uint64)
    ones = 2**t - 1
    shapes = [rng.integers(0, ones + 1, count), rng.integers(0, ones + 1, count) & ~(ones >> 3)]
    cut = rng.integers(0, t + 1, count)
    shapes += [ones & ~((1 << cut) - 1), (1 << cut) - 1, (1 << cut) & ones, ones - ((1 << cut) & ones)]
    fraction = np.choose(np.arange(count) % 6, [np.asarray(s, np.int64) for s in shapes])
    fields = 2 ** (fmt.bits - 1 - t)
    middle = rng.integers(max(0, fields // 2 - t - 3), min(fields, fields // 2 + t + 3), count)
    edge = np.choose(np.arange(count) % 3, [rng.integers(0, 3, count), fields - 1 - rng.integers(0, 3, count), middle])
    field = np.where(np.arange(count) % 4 == 0, edge, middle)
    field = np.where(np.arange(count) % 16 == 1, rng.integers(0, fields, count), field)
    sign = rng.integers(0, 2, count).astype(np.uint64) << np.uint64(fmt.bits - 1)
    return (field.astype(np.uint64) << np.uint64(t)) | fraction.astype(np.uint64) | sign


# ---- calls -------------------------------------------------------------------------------------------------------


def call_of(case: Case) -> Any:
    """The imported numfmt's kernels, as `judge.answer` calls them."""
    from numfmt import arithmetic_engine as engine
    from numfmt.named import scalar_format
    from numfmt.plans import resolve
    from numfmt.rounding import Rule

    operation = case.kernel.removeprefix("arithmetic ").removesuffix(" flags")
    words, _, rule = str(case.platform).partition(", after, ")
    to, _, tininess = (f"{words}, after" if rule else words).rpartition(", ")
    target = scalar_format(to)
    formats = tuple(scalar_format(each) for each in sources(case.format, operation))
    rules = resolve(target, case.rounding, None, None, None)
    if rule:
        changed = {"absolute": True} if rule == "absolute" else {"nan": (0x7F, 0xFF)}
        rules = rules._replace(rule=Rule(**changed))
    call = engine.Call(operation, formats, target, rules, None, tininess == "after", operation == "round_to_integral")
    _, frame = call.frame()
    plan = call.plan(frame)

    def answer(a: Any, _: Any, by: Any, xp: Any) -> Any:
        codes, flags = engine.one(call, (a, *(by or ())), None, frame, plan, xp)
        if case.kernel.endswith("flags"):
            return flags
        return codes if target.bits > FLAGS else codes + (flags << FLAGS)

    return answer


# ---- sweeps ------------------------------------------------------------------------------------------------------


def sweeps() -> Iterator[Case]:
    """Every call on other operands than those of `cases`, without expectations."""
    for seed in (101, 102, 103):
        for operation, name, to, rounding, tininess, columns in _calls(np.random.default_rng(seed)):
            case = _case(operation, name, to, rounding, tininess, columns)
            yield case
            if spec_format(to or name).bits > FLAGS:
                yield replace(case, kernel=f"{case.kernel} flags")
