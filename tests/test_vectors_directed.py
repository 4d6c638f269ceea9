"""Directed vectors: they reach every class, find every planted bug, and pass what is right."""

from fractions import Fraction

import numpy as np
import pytest

from numfmt.vectors import coverage, directed
from numfmt.vectors.functions import Rules, evaluate, parse
from spec import oracle
from tests.support import mostly_nightly
from tests.vector_devices import BUGS, Converter, Multiplier

FORMATS = ["e4m3fn", "e5m2", "f16", "e2m1", "bf16"]
OPERATIONS = [
    "add",
    "sub",
    "mul",
    "div",
    "sqrt",
    "mulAdd",
    "rem",
    "minNum",
    "le",
    "roundToInt",
    "nextDown",
    "scaleB",
    "logB",
]
LONG = ["mxfp4_encode32", "mxfp8_e4m3_encode32", "nvfp4_encode16", "e4m3fn_dot32", "e5m2_dot16", "f16_dot8", "bf16_dot4",
        "mxfp8_e4m3_dot32", "nvfp4_dot16", "int8_dot32"]  # fmt: skip
RULES = Rules()


def rows_of(function, level=1, seed=1):
    """All columns of the directed rows."""
    chunks = list(directed.cases(function, RULES, level, seed))
    return [np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def missed(name):
    """Classes that level 1 does not reach."""
    function = parse(name)
    found = coverage.count(function, rows_of(function), RULES)
    assert list(found) == coverage.classes(function)
    return [name for name, rows in found.items() if not rows]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fmt", mostly_nightly(FORMATS, ["e4m3fn"]))
def test_level_1_reaches_every_class_of_an_operation(fmt, operation):
    assert missed(f"{fmt}_{operation}") == []


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("source", mostly_nightly(["f32", "f64"], ["f32"]))
def test_level_1_reaches_every_class_of_a_conversion(source, to):
    assert missed(f"{source}_to_{to}") == []


@pytest.mark.parametrize(
    "name",
    ["f16_to_e4m3fn", "e5m2_to_f32", "bf16_to_i32", "f32_to_i8", "f32_to_ui16", "f64_to_i64", "i32_to_f32", "i64_to_bf16",
     "ui8_to_e4m3fn", "f32_to_q3.12", "q3.12_to_e4m3fn", "f32_to_nf4", "f32_mul", "f64_mulAdd", "q3.4_add", "q3.4_mul",
     "f32_to_e8m0", "f32_to_e4m3fnuz", "f32_to_binary8p3se", "e3m2_mul", "e4m3fnuz_add", "e8m0_mulAdd", "ue5m3_mulAdd",
     "q3.12_mul", "q3.4_mac", "uq12.4_sub", "dlfloat16_mul", "cfloat8_1_4_3_mul", "f32_to_ternary"],
)  # fmt: skip
def test_level_1_reaches_every_class_of_other_functions(name):
    assert missed(name) == []


@pytest.mark.parametrize("name", mostly_nightly(LONG, ["mxfp4_encode32", "e4m3fn_dot32"]))
def test_level_1_reaches_every_class_of_blocks_and_dots(name):
    assert missed(name) == []


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ["mxfp8_e4m3_dot8", "mxfp4_dot32", "mxfp4_dot96", "nvfp4_dot32", "deepseek_fp8_dot130"])
def test_level_1_has_a_nan_scale_in_every_place(name, seed):
    """Of a, of b and of both, in the first and in the last block, alone; the elements are numbers."""
    function = parse(name)
    a, scale_a, b, scale_b = columns = rows_of(function, seed=seed)
    found = coverage.masks(function, columns)["NaN scale"]
    elements, scales = (str(function.sources[i]) for i in (0, 1))
    places = set()
    for i in np.flatnonzero(found):
        numbers = {oracle.value(int(code), elements) for code in (*a[i], *b[i])}
        assert not numbers & {"nan", "inf", "-inf"}
        nans = [[oracle.value(int(code), scales) == "nan" for code in codes[i]] for codes in (scale_a, scale_b)]
        places.add(tuple(tuple(np.flatnonzero(row).tolist()) for row in nans))
    ends = {(0,), (function.scales - 1,)}
    assert places == {places for end in ends for places in ((end, ()), ((), end), (end, end))}
    nan = [oracle.value(int(code), "float32") == "nan" for code in evaluate(function, columns, RULES)[0]]
    assert np.all(np.array(nan)[found])


def test_scales_without_nan_have_no_class_of_it():
    assert "NaN scale" in coverage.classes(parse("mxfp4_dot32"))
    assert "NaN scale" not in coverage.classes(parse("e4m3fn_dot8"))


@pytest.mark.parametrize(
    "fmt", mostly_nightly(["e4m3fn", "e5m2", "e2m1", "e3m2", "e4m3fnuz", "binary8p3se", "e5m0f"], ["e4m3fn", "e2m1"])
)
@pytest.mark.parametrize("operation", [op for op in OPERATIONS if op not in ("scaleB", "mulAdd")])
def test_no_operands_reach_what_is_called_unreachable(fmt, operation):
    function = parse(f"{fmt}_{operation}")
    found = coverage.masks(function, coverage._every(function))
    assert {name for name in coverage.unreachable(function) if name in found and found[name].any()} == set()


@pytest.mark.parametrize(("name", "reached"), [("f16_mul.near_even.every37", 51), ("f32_to_f16.near_even", 31), ("f16_sqrt.odd", 28)])
def test_files_of_others_are_classified(golden, name, reached):
    """TestFloat's own rows reach most classes, not all."""
    function = parse(name.partition(".")[0])
    lines = golden("berkeley-testfloat", f"{name}.txt").read_text().split("\n")
    rows = [[int(digits, 16) for digits in line.split()[: len(function.sources)]] for line in lines if line]
    found = coverage.count(function, [np.array(column, np.uint64) for column in zip(*rows, strict=True)])
    assert sum(n > 0 for n in found.values()) == reached
    assert found["just above a value"] > 0


# ---- classes, by fractions


def exact_of(function, row):
    """The exact result by fractions, or None."""
    values = [oracle.value(int(code), str(fmt)) for code, fmt in zip(row, function.sources, strict=True)]
    if not all(isinstance(v, Fraction) for v in values):
        return None
    match function.operation:
        case "add":
            return values[0] + values[1]
        case "mul":
            return values[0] * values[1]
        case "div":
            return values[0] / values[1] if values[1] else None
        case "fma":
            return values[0] * values[1] + values[2]
        case "convert":
            return values[0]
    raise AssertionError(function.operation)


def classes_by_fractions(x, fmt):
    """The classes that the oracle's neighbours say a number is in."""
    b = oracle.bracket(x, fmt)
    odd, eighth = not b.inner_is_even, b.fraction * 8
    word = "odd" if odd else "even"
    least, largest = oracle.get(fmt).magnitude(1), oracle.get(fmt).max
    return {
        "exact": b.exact,
        f"tie, {word} below": b.side == 0 and not b.exact,
        f"just above a tie, {word} below": 4 < eighth <= 5,
        f"just below a tie, {word} below": 3 <= eighth < 4,
        "just above a value": 0 < eighth <= 1,
        "just below a value": eighth >= 7,
        "half the least value": abs(x) * 2 == least,
        "overflow threshold": abs(x) == oracle.overflow_threshold(fmt),
        "largest finite value": abs(x) == largest,
        "far overflow": abs(x) >= Fraction(4) * Fraction(2) ** oracle.floor_log2(largest),
        "rounded, negative": x < 0 and not b.exact,
    }


@pytest.mark.parametrize(
    "name", ["e4m3fn_mul", "e5m2_add", "f16_mul", "f16_div", "e4m3fn_mulAdd", "f32_to_e5m2", "f64_to_bf16", "bf16_mulAdd",
             "f32_add", "f64_mul", "f64_mulAdd", "f64_add", "e2m1_div", "f32_to_e4m3fnuz"],
)  # fmt: skip
def test_classes_are_what_fractions_say(name):
    function = parse(name)
    columns = rows_of(function)
    found = coverage.masks(function, columns)
    for i in range(0, len(columns[0]), 7):
        x = exact_of(function, [c[i] for c in columns])
        if not x:
            continue
        for claim, holds in classes_by_fractions(x, str(function.to)).items():
            assert found[claim][i] == holds, (claim, [hex(int(c[i])) for c in columns])


# ---- planted bugs

MULTIPLIERS = ["e4m3fn", "e5m2", "f16"]
DEVICES = [
    (fmt, bug) for fmt in MULTIPLIERS for bug in BUGS
    # e4m3fn has no infinity; products of 8-bit formats have no more digits than the first of two roundings keeps
    if not (fmt == "e4m3fn" and bug in ("overflow to the largest", "NaN for infinity times zero lost"))
    and not (fmt != "f16" and bug == "two roundings")
]  # fmt: skip
CONVERTERS = [
    # subnormals of float32 are beyond e4m3fn
    ("bf16" if bug == "flushed operands" else "e4m3fn", bug)
    for bug in BUGS if bug not in ("overflow to the largest", "NaN for infinity times zero lost")
]  # fmt: skip


def differing(device, function, level):
    """Rows where the device is wrong (every bit compared), and their right and wrong answers."""
    columns = rows_of(function, level)
    right = evaluate(function, columns, RULES)[0]
    got = np.array([device(*row) for row in zip(*(c.tolist() for c in columns), strict=True)])
    wrong = np.flatnonzero(right != got)
    return [c[wrong] for c in columns], right[wrong], got[wrong]


@pytest.mark.parametrize(("fmt", "bug"), DEVICES)
def test_level_1_finds_every_bug_of_a_multiplier(fmt, bug):
    _, right, _ = differing(Multiplier(fmt, bug), parse(f"{fmt}_mul"), 1)
    assert len(right) > 0


@pytest.mark.parametrize(("to", "bug"), CONVERTERS)
def test_level_1_finds_every_bug_of_a_converter(to, bug):
    _, right, _ = differing(Converter(to, bug), parse(f"f32_to_{to}"), 1)
    assert len(right) > 0


@pytest.mark.parametrize("fmt", MULTIPLIERS)
def test_the_right_multiplier_passes_level_2(fmt):
    assert len(differing(Multiplier(fmt), parse(f"{fmt}_mul"), 2)[1]) == 0


@pytest.mark.parametrize("to", ["e4m3fn", "e5m2", "f16"])
def test_the_right_converter_passes_level_2(to):
    assert len(differing(Converter(to), parse(f"f32_to_{to}"), 2)[1]) == 0


def test_level_1_has_hundreds_and_level_2_tens_of_thousands_of_rows():
    for name in ("f16_mul", "f32_to_e4m3fn", "bf16_mulAdd"):
        few, many = (len(rows_of(parse(name), level)[0]) for level in (1, 2))
        assert 500 < few < 5000
        assert many > 10_000


# ---- what rows are like


@pytest.mark.parametrize("name", ["f16_add", "mxfp4_encode32", "e4m3fn_dot32"])
def test_rows_depend_on_the_seed_alone(name):
    function = parse(name)
    first, again, other = rows_of(function), rows_of(function), rows_of(function, seed=2)
    directed._candidates.cache_clear()
    fresh = rows_of(function)
    for a, b, c in zip(first, again, fresh, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    "name",
    ["e4m3fn_mul", "f16_sqrt", "f16_scaleB", "mxfp4_encode40", "mxfp4_dot32", "e4m3fn_dot7", "f16 2", "e5m2_dot1"],
)
def test_codes_fit_their_columns(name):
    function = parse(name)
    for column, width, size in zip(rows_of(function), function.operand_widths, function.operand_sizes, strict=True):
        assert column.ndim == (2 if size > 1 or function.operation in ("dot", "encode_block") else 1)
        assert column.ndim == 1 or column.shape[1] == size
        assert int(column.max()) < 1 << width


def test_wide_formats_have_rows():
    for name in ("binary128_mul", "binary256_add", "f64_to_binary128"):
        columns = rows_of(parse(name))
        assert len(columns[0]) > 300


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="level 3 is given"):
        next(directed.cases(parse("f16_add"), RULES, 3))


@pytest.mark.parametrize("name", ["f32_to_e4m3fn", "f16_add", "e5m2_mul", "e4m3fn_sub"])
def test_random_bits_stand_at_the_threshold(name):
    """At R the result goes away from zero, at R - 1 it does not; stochastic_a with 8 bits."""
    function, rules = parse(name), Rules("stochastic_a", random_bit_count=8)
    columns = rows_of(function)
    drawn = directed.random_bits(function, columns, rules)
    assert drawn.max() < 256
    at, under = drawn.copy(), drawn.copy()
    under[0::5] -= at[0::5] > 0
    to = function.to
    away = 0
    results = [evaluate(function, columns, rules, r)[0] for r in (at, under)]
    for i in range(0, len(at), 5):
        x = exact_of(function, [c[i] for c in columns]) if name != "e4m3fn_sub" else None
        if x is None or oracle.bracket(x, str(to)).exact or abs(x) > to.max or at[i] == 0:
            continue
        if int(oracle.bracket(x, str(to)).fraction * 256) == 0:
            continue  # never away
        away += 1
        assert results[0][i] != results[1][i], hex(int(columns[0][i]))
    assert away > 20 or name == "e4m3fn_sub"


def test_deterministic_modes_have_no_random_bits():
    assert directed.random_bits(parse("f16_add"), [np.zeros(3, np.uint64)] * 2, RULES) is None


def test_random_bits_of_blocks_are_one_an_element():
    rules = Rules("stochastic_a", random_bit_count=4)
    drawn = directed.random_bits(parse("mxfp4_encode32"), [np.zeros((7, 32), np.uint64)], rules)
    assert drawn.shape == (7, 32)
    assert drawn.max() < 16


# ---- what two ways of computing tell apart


@pytest.mark.parametrize(("source", "middle", "to"), [("f64", "f32", "e4m3fn"), ("f64", "f32", "f16"), ("f32", "f16", "e5m2"), ("f32", "bf16", "e4m3fn")])
def test_level_1_tells_two_roundings_from_one(source, middle, to):
    function = parse(f"{source}_to_{to}")
    columns = rows_of(function)
    first, _ = evaluate(parse(f"{source}_to_{middle}"), columns, RULES)
    twice, _ = evaluate(parse(f"{middle}_to_{to}"), [first.astype(np.uint64)], RULES)
    assert np.count_nonzero(twice != evaluate(function, columns, RULES)[0]) >= 10


@pytest.mark.parametrize("fmt", ["e4m3fn", "f16", "f32", "f64"])
def test_level_1_tells_a_fused_operation_from_two(fmt):
    function = parse(f"{fmt}_mulAdd")
    a, b, c = rows_of(function)
    product, _ = evaluate(parse(f"{fmt}_mul"), [a, b], RULES)
    unfused, _ = evaluate(parse(f"{fmt}_add"), [product.astype(np.uint64), c], RULES)
    assert np.count_nonzero(unfused != evaluate(function, [a, b, c], RULES)[0]) >= 50


@pytest.mark.parametrize("name", ["f32_to_f16", "f16_mul", "e5m2_mulAdd", "f64_mul"])
def test_level_1_tells_tininess_before_rounding_from_after(name):
    function = parse(name)
    columns = rows_of(function)
    before, after = (evaluate(function, columns, Rules(tininess=t))[1] for t in ("before", "after"))
    assert np.count_nonzero(before != after) > 0


@pytest.mark.parametrize("name", ["f32_to_e5m2", "f16_add", "f16_mul", "f16_div", "bf16_mulAdd", "e4m3fn_dot32"])
def test_level_1_tells_all_rounding_modes_apart(name):
    function = parse(name)
    columns = rows_of(function)
    modes = ["ties_to_even", "toward_zero", "toward_positive", "toward_negative", "to_odd", "away_from_zero"]
    modes += ["ties_to_away", "ties_to_zero"]
    results = [evaluate(function, columns, Rules(mode))[0] for mode in modes]
    for i, one in enumerate(results):
        for mode, other in zip(modes[:i], results[:i], strict=True):
            assert (one != other).any(), (modes[i], mode)
