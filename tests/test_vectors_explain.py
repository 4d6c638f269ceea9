"""Explanations of mismatches: planted bugs get the right cause, lines say the row in bits."""

import io
from collections import Counter

import numpy as np
import pytest

from numfmt import vectors
from numfmt.vectors import directed, explain
from numfmt.vectors.explain import CAUSES, common_cause
from numfmt.vectors.functions import Rules, evaluate, parse
from tests.vector_devices import BUGS, Converter, Multiplier

RULES = Rules()


def explained(device, name, limit=25):
    """Explanations of the first rows of level 1 where a device is wrong, evenly spread."""
    function = parse(name)
    columns = [np.concatenate(parts) for parts in zip(*directed.cases(function, RULES), strict=True)]
    right = evaluate(function, columns, RULES)[0]
    got = np.array([device(*row) for row in zip(*(c.tolist() for c in columns), strict=True)])
    wrong = np.flatnonzero(right != got)
    wrong = wrong[:: max(1, len(wrong) // limit)]
    return [explain.explain(function, [c[i] for c in columns], right[i], got[i], None, None, RULES) for i in wrong]


# The class in which a bug shows: some explained row must be in it.
CLASSES = {
    "ties up": "tie, even below",
    "ties to odd": "tie, odd below",
    "lost sticky": "just above a tie, even below",
    "short sticky": "sticky only",
    "flushed results": "underflow: exact subnormal",
    "flushed operands": "subnormal operand",
    "no sign of zero": "result -0",
    "two roundings": "just above a tie, even below",
    "no carry": "carry to the next binade",
    "overflow to the largest": "overflow",
    "NaN on overflow": "overflow",
    "NaN with a payload": "NaN kept",
    "NaN for infinity times zero lost": "zero times infinity",
}


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize("fmt", ["e4m3fn", "e5m2", "f16"])
def test_the_cause_of_every_bug_of_a_multiplier_is_named(fmt, bug):
    if not _shows(fmt, bug):
        return
    found = explained(Multiplier(fmt, bug), f"{fmt}_mul")
    assert found
    _check(found, bug)


def _shows(fmt, bug):
    if fmt == "e4m3fn" and bug in ("overflow to the largest", "NaN for infinity times zero lost"):
        return False
    if fmt != "f16" and bug in ("two roundings", "short sticky"):
        return False  # too few digits for them
    return True


def _check(found, bug):
    causes = Counter(m.cause for m in found)
    assert set(causes) <= set(CAUSES)
    named = CLASSES.get(bug, "rounded, positive" if BUGS[bug] == "wrong rounding direction" else None)
    if named is not None:
        assert any(named in m.classes for m in found), Counter(c for m in found for c in m.classes)
    if bug in ("NaN with a payload", "zero for NaN", "no sign of zero", "NaN for infinity times zero lost"):
        assert causes.most_common(1)[0][0] == BUGS[bug]
    else:
        sentence = common_cause(found) if len(found) > 1 else ": ".join(found[0].fits[0][::-1])
        assert sentence.startswith(BUGS[bug]), (sentence, causes)


@pytest.mark.parametrize(
    "bug", [b for b in BUGS if "infinity" not in b and b not in ("overflow to the largest", "flushed operands")]
)
def test_the_cause_of_every_bug_of_a_converter_is_named(bug):
    _check(explained(Converter("e4m3fn", bug), "f32_to_e4m3fn"), bug)


# ---- single rows


def cause(name, operands, expected, got, rules=RULES, flags=(None, None)):
    return explain.explain(parse(name), operands, expected, got, *flags, rules)


@pytest.mark.parametrize(
    ("name", "operands", "expected", "got", "why"),
    [
        ("f32_to_e4m3fn", [0x3F880001], 0x39, 0x38, "missing sticky"),  # 1.0625 and a digit far below
        ("f32_to_e4m3fn", [0x3F880000], 0x38, 0x39, "wrong tie"),
        ("f32_to_e5m2", [0x47800000], 0x7C, 0x7B, "saturation"),
        ("f32_to_e4m3fn", [0x44000000], 0x7E, 0x7F, "overflow"),
        ("f32_to_e4m3fn", [0x80000000], 0x80, 0x00, "sign of zero"),
        ("f32_to_e4m3fn", [0x7FC00000], 0x7F, 0x7E, "number instead of NaN"),
        ("f32_to_e4m3fn", [0x3F800000], 0x38, 0x7F, "NaN instead of a number"),
        ("f32_to_e5m2", [0x7FC00000], 0x7E, 0x7F, "NaN bits"),
        ("f32_to_e4m3fn", [0x3F800000], 0x38, 0x39, "off by one ulp"),
        ("f32_to_e4m3fn", [0x3F800000], 0x38, 0x51, "other"),
        ("f32_to_e4m3fn", [0x3F810000], 0x38, 0x39, "wrong rounding direction"),
        ("f32_to_e4m3fn", [0x3B000000], 0x01, 0x00, "flushed subnormal"),
        ("f64_to_e4m3fn", [0x3FF1000000000001], 0x39, 0x38, "missing sticky"),
        ("f16_mulAdd", [0x4801, 0x4801, 0xD402], 0x0400, 0x0000, "double rounding"),  # (1 + u)^2 - (1 + 2u) = u^2
        ("f16_mul", [0x0001, 0x3C00], 0x0001, 0x0000, "flushed subnormal"),
        ("f16_add", [0x3C00, 0x8BFF], 0x3C00, 0x3BFF, "wrong rounding direction"),
        ("f16_sqrt", [0x4000], 0x3DA8, 0x3DA9, "wrong rounding direction"),
        ("f16_to_i8", [0x4100], 2, 3, "wrong tie"),
        ("f16_to_i8", [0x5800], 127, 0x80, "overflow"),
        ("i32_to_f16", [2049], 0x6800, 0x6801, "wrong tie"),
        ("f16_roundToInt", [0x4100], 0x4000, 0x4200, "wrong tie"),
        ("f16_lt", [0x8000, 0x0000], 0, 1, "sign of zero"),
        ("f16_lt", [0x0001, 0x0000], 0, 1, "flushed subnormal"),
        ("f16_eq", [0x7E00, 0x7E00], 0, 1, "number instead of NaN"),
        ("f16_min", [0x8000, 0x0000], 0x8000, 0x0000, "sign of zero"),
        ("f16_nextUp", [0x3C00], 0x3C01, 0x3C02, "off by one ulp"),
        ("f16_scaleB", [0x0400, 0xFFFFFFFF], 0x0200, 0x0000, "flushed subnormal"),
        ("f16_rem", [0x4500, 0x4200], 0xBC00, 0x4000, "other"),
        ("f32_to_nf4", [0x3F800000], 15, 14, "other"),
        ("q3.4_mul", [0x10, 0x18], 0x18, 0x19, "off by one ulp"),
        ("q3.4_mul", [0x7F, 0x7F], 0x7F, 0xF0, "overflow"),
        ("e8m0_mul", [0x7F, 0x80], 0x80, 0x81, "off by one ulp"),
    ],
)  # fmt: skip
def test_a_row_has_its_cause(name, operands, expected, got, why):
    found = cause(name, operands, expected, got)
    assert found.cause == why, found.lines
    assert found.lines[-1].startswith(("cause", "also fits", "class"))


def test_the_lines_show_the_row_in_bits():
    found = cause("e4m3fn_mul", [0x3D, 0x3C], 0x42, 0x41)
    assert found.lines == [
        "a         0x3d = 0 0111 101 = 13/8 × 2^0 = 1.625",
        "b         0x3c = 0 0111 100 = 3/2 × 2^0 = 1.5",
        "exact     +1.001|1|1 × 2^1 = 2.4375: guard 1, sticky 1",
        "between   2.25 and 2.5, 0.75 of the way",
        "expected  0x42 = 2.5 (guard 1, sticky 1: above the midpoint, so up)",
        "got       0x41 = 2.25, 1 ulp below",
        "cause     wrong rounding direction: rounds toward zero",
        "also fits rounds toward negative, rounds to odd",
        "class     signs + +; product in [2, 4); rounded, positive",
    ]


def test_flags_alone_are_named():
    found = cause("e5m2_mul", [0x3C, 0x3C], 0x3C, 0x3C, flags=(0, 3))
    assert (found.cause, found.hypothesis) == ("flags only", "underflow raised, inexact raised")
    assert "flags     00 (none) expected, 03 (underflow, inexact) given" in found.lines


def test_tininess_on_the_other_side_of_rounding_is_said():
    rules = Rules(tininess="before")
    function, operands = parse("f32_to_f16"), [np.array([0x387FF000], np.uint64)]  # 2^-14 (1 - 2^-12)
    after, before = (int(evaluate(function, operands, r)[1][0]) for r in (RULES, rules))
    assert (after, before) == (1, 3)
    found = cause("f32_to_f16", [0x387FF000], 0x0400, 0x0400, flags=(after, before))
    assert "tininess is decided on the other side" in found.hypothesis


@pytest.mark.parametrize("mode", ["toward_zero", "toward_positive", "to_odd", "ties_to_away"])
def test_other_modes_are_explained_by_their_own_rules(mode):
    rules = Rules(mode)
    x = [0x3F8C0000]  # 1.09375
    right = int(evaluate(parse("f32_to_e4m3fn"), [np.array(x, np.uint64)], rules)[0][0])
    assert cause("f32_to_e4m3fn", x, right, 0x38 + 0x39 - right, rules).cause == "wrong rounding direction"


def test_stochastic_rows_are_explained():
    rules = Rules("stochastic_a", random_bit_count=4)
    found = cause("f32_to_e4m3fn", [0x3F8C0000], 0x38, 0x3A, rules)
    assert found.cause in CAUSES


def test_stochastic_rows_are_explained_by_their_random_number():
    """With R = 8 of 4 bits 1.09375, three quarters of the way, goes up; a device that cuts is no device with R = 0."""
    rules = {"rounding": "stochastic_a", "random_bit_count": 4}
    lines = b"3F8C0000 8 38 01\n3F8C0000 3 39 01\n"
    report = vectors.check(io.BytesIO(lines), "f32_to_e4m3fn", syntax="testfloat", **rules)
    assert [e.cause for e in report.examples] == ["wrong rounding direction"] * 2
    assert "cause     wrong rounding direction: rounds toward zero" in report.examples[0].lines
    assert "cause     wrong rounding direction: rounds away from zero" in report.examples[1].lines


@pytest.mark.parametrize("name", ["f32_to_e4m3fn", "e4m3fn_mul", "e4m3fn_dot8", "mxfp4_encode32", "mxfp8_e4m3_encode32"])
def test_a_device_that_cuts_is_found_in_stochastic_modes(name):
    function, rules = parse(name), Rules("stochastic_a", random_bit_count=8)
    columns = [c[:400] for c in next(directed.cases(function, rules))]
    random = directed.random_bits(function, columns, rules)
    right, got = (evaluate(function, columns, *how)[0] for how in ((rules, random), (Rules("toward_zero"),)))
    wrong = np.flatnonzero((right != got).reshape(len(got), -1).any(axis=1))[:25]
    assert len(wrong) > 10
    found = [explain.explain(function, [c[i] for c in columns], right[i], got[i], None, None, rules, random[i]) for i in wrong]
    assert {"rounds toward zero"} <= set.intersection(*({name for name, _ in m.fits} for m in found))


def test_the_common_cause_explains_what_single_rows_leave_open():
    found = explained(Multiplier("e4m3fn", "truncates"), "e4m3fn_mul")
    assert len({m.cause for m in found}) > 1  # on some rows a lost sticky digit would do
    assert (
        common_cause(found)
        == f"wrong rounding direction: rounds toward zero explains {len(found)} of {len(found)} mismatches"
    )
    assert common_cause([]) == common_cause(found[:1]) == ""


# ---- blocks and dots


def block(name, values):
    function = parse(name)
    x = np.zeros(function.size, np.float32)
    x[: len(values)] = values
    x = x.view(np.uint32)
    return function, x, evaluate(function, [x[None]], RULES)[0][0].astype(np.int64)


@pytest.mark.parametrize(
    ("place", "step", "why"),
    [(0, 1, "off by one ulp"), (1, 1, "wrong tie"), (2, -1, "off by one ulp"), (3, 1, "wrong rounding direction")],
)
def test_blocks_name_the_scale_or_the_element(place, step, why):
    function, x, right = block("mxfp4_encode32", [1.25, 6, 1.1])
    got = right.copy()
    got[place] += step
    found = explain.explain(function, [x], right, got, None, None, RULES)
    assert found.cause == why, found.lines
    assert found.lines[0] == "block     0: largest magnitude 6"


def test_a_nan_scale_that_is_a_number_is_named():
    function, x, right = block("mxfp4_encode32", [np.nan, 1])
    got = right.copy()
    got[0] = 0x7F
    assert explain.explain(function, [x], right, got, None, None, RULES).cause == "number instead of NaN"


def test_nvfp4_elements_are_explained():
    function, x, right = block("nvfp4_encode16", [2688, 600, 100])
    got = right.copy()
    got[2] -= 1
    assert explain.explain(function, [x], right, got, None, None, RULES).cause == "missing sticky"


def test_dots_are_explained_by_their_exact_sum():
    function = parse("e4m3fn_dot4")  # 448 × 448, its negative, 1 × 2^-9
    a, b = np.array([[0x7E, 0x38, 0x7E, 0]]), np.array([[0x7E, 0x01, 0xFE, 0]])
    right, _ = evaluate(function, [a, b], RULES)
    assert right[0] == 0x3B000000
    found = explain.explain(function, [a[0], b[0]], right[0], 0, None, None, RULES)
    assert (found.cause, found.hypothesis) == ("flushed subnormal", "subnormal operands are read as zero")
    assert ("rounded after each addition", "double rounding") in found.fits


def test_dots_rounded_after_each_addition_are_named():
    function = parse("f16_dot4")  # 2^12 × 2^12, 2^-12, its negative of the first
    a, b = np.array([[0x6C00, 0x0C00, 0x6C00, 0]]), np.array([[0x6C00, 0x3C00, 0xEC00, 0]])
    right, _ = evaluate(function, [a, b], RULES)
    found = explain.explain(function, [a[0], b[0]], right[0], 0, None, None, RULES)
    assert (found.cause, found.hypothesis) == ("double rounding", "rounded after each addition")


def test_block_dots_are_explained():
    function = parse("mxfp4_dot32")
    columns = [c[:40] for c in next(directed.cases(function, RULES))]
    right, _ = evaluate(function, columns, RULES)
    for i in range(40):
        found = explain.explain(function, [c[i] for c in columns], right[i], int(right[i]) ^ 1, None, None, RULES)
        assert found.cause in CAUSES


@pytest.mark.parametrize("name", ["f16_add", "e5m2_mulAdd", "f32_to_e4m3fnuz", "bf16_div", "f16_to_ui8", "f32_to_e8m0", "e4m3fn_logB",
                                  "q3.12_to_e4m3fn", "f16_maxNum", "q3.4_mac", "i64_to_f64", "f32_to_nf4", "e4m3fn_rem"])  # fmt: skip
def test_any_wrong_answer_has_an_explanation(name):
    function = parse(name)
    columns = next(directed.cases(function, RULES))
    right, flags = evaluate(function, columns, RULES)
    for i in range(0, len(right), max(1, len(right) // 25)):
        for wrong in {int(right[i]) ^ 1, 0, (1 << function.result_bits) - 1} - {int(right[i])}:
            found = explain.explain(function, [c[i] for c in columns], right[i], wrong, int(flags[i]), 0, RULES)
            assert found.cause in CAUSES
            assert all(isinstance(line, str) for line in found.lines)
