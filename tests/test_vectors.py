"""Golden vectors: names of functions, what they compute, how rows are made, how answers are judged."""

import io
import json
from fractions import Fraction

import numpy as np
import pytest

import numfmt as nf
from numfmt import arithmetic, vectors
from numfmt.vectors import manifest
from numfmt.vectors.checking import is_nan
from numfmt.vectors.files import TESTFLOAT_ROUNDINGS
from numfmt.vectors.functions import INTEGERS, OPERATIONS, Rules, functions_of, parse
from numfmt.vectors.pipeline import in_order
from spec import oracle

RNG = np.random.default_rng(5)


def all_columns(function, **options):
    """Every column of what `generate` gives, in one piece."""
    chunks = [[*rows.operands, rows.results, rows.flags] for rows in vectors.generate(function, **options)]
    return [None if parts[0] is None else np.concatenate(parts) for parts in zip(*chunks, strict=True)]


def judged(text, function, **options):
    return vectors.check(io.BytesIO(text.encode()), function, **options)


# Names


@pytest.mark.parametrize(("name", "operation", "widths", "result"), [
    ("f32_to_e4m3fn", "convert", (32,), 8), ("e4m3fn_mulAdd", "fma", (8, 8, 8), 8), ("f16_le_quiet", "less_equal_quiet", (16, 16), 1),
    ("f16_eq_signaling", "equal_signaling", (16, 16), 1), ("ui64_to_bf16", "from_integer", (64,), 16), ("f64_to_i8", "to_integer", (64,), 8),
    ("e5m2_scaleB", "scale_b", (8, 32), 8), ("float8_e4m3fn_to_float16", "convert", (8,), 16), ("q3.12_mac", "mac", (16, 16, 16), 16),
    ("mxfp4_encode32", "encode_block", (32,), 4), ("e4m3fn_dot32", "dot", (8, 8), 32), ("mxfp8_e4m3_dot32", "dot", (8, 8, 8, 8), 32),
    ("f32 2", "operands", (32, 32), 0), ("e2m1", "operands", (4,), 0), ("hif4_scale_e6m2_nextDown", "next_down", (8,), 8),
    ("block(e2m1, scale=e4m3, size=8)_encode8", "encode_block", (32,), 4), ("f32_to_nf4", "convert", (32,), 4),
])  # fmt: skip
def test_names_are_those_of_the_field(name, operation, widths, result):
    function = parse(name)
    assert (function.operation, function.operand_widths, function.result_bits, function.name) == (
        operation,
        widths,
        result,
        name,
    )
    scalar = operation not in ("encode_block", "dot", "operands")
    assert not scalar or operation in arithmetic.OPERATIONS


@pytest.mark.parametrize(("name", "says"), [
    ("e4m3fm_mul", "unknown format 'e4m3fm'"), ("f16_mull", "nearest: f16_mul"), ("", "unknown function"), ("f32_to_", "unknown"),
    ("i8_to_i16", "one side of a conversion is a float"), ("q3.12_div", "add, sub, mul and mac"), ("nf4_add", "conversions only"),
    ("f32_mac", "mulAdd"), ("e4m3fn_encode32", "encode takes a block format"), ("mx9_encode16", "one scale code a block"),
    ("mxfp4_encode0", "1 to 4096"), ("e4m3fn_dot99999", "1 to 4096"), ("f64_dot4", "at most 32 bits"), ("nf4_to_i32", "nf4 is none"),
    ("int8_tensor_encode16", "one scale code a block"), ("nvfp4_16x16_encode16", "one scale code"), ("f32 4", "unknown function"),
])  # fmt: skip
def test_names_that_are_none_are_refused_with_advice(name, says):
    with pytest.raises(ValueError, match="(?s)" + says.replace("(", r"\(")) as caught:
        parse(name)
    assert "\n" not in str(caught.value)


def test_every_function_that_is_listed_can_be_computed():
    for fmt in ("e4m3fn", "bf16", "int8", "nf4", "mxfp4", "nvfp4", "e8m0"):
        for name in functions_of(fmt):
            columns = all_columns(name, style="random", count=3)
            assert len(columns[0]) == 3, name


@pytest.mark.parametrize("arguments", [
    {"rounding": "up"}, {"overflow": "big"}, {"tininess": "never"}, {"rounding": "stochastic_a"},
    {"rounding": "stochastic_a", "random_bit_count": 33}, {"random_bit_count": 8}, {"rounding": "stochastic", "random_bit_count": 8},
])  # fmt: skip
def test_rules_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match=r"given|unknown"):
        Rules(**arguments)


# Results


def test_scalar_functions_are_those_of_arithmetic():
    a, b, c = (RNG.integers(0, 65536, 200).astype(np.uint16) for _ in range(3))
    for suffix, (operation, count) in OPERATIONS.items():
        if suffix in ("mac", "scaleB"):
            continue
        got, flags = vectors.evaluate(parse(f"f16_{suffix}"), [a, b, c][:count], Rules("toward_zero"))
        kind = arithmetic.OPERATIONS[operation].kind
        options = {"rounding": "toward_zero"} if kind == "rounded" else {}
        expected, raised = arithmetic.compute(operation, [a, b, c][:count], "float16", **options)
        assert (got == expected).all(), suffix
        assert (flags == raised).all(), suffix


def test_integers_are_two_s_complement():
    got, flags = vectors.evaluate(parse("f16_to_i8"), [np.uint16([0xBC00, 0xFC00])], Rules())
    assert (got.tolist(), flags.tolist()) == ([0xFF, 0x80], [0, 16])
    got, _ = vectors.evaluate(parse("i8_to_f16"), [np.uint8([0xFF, 0x80])], Rules())
    assert got.tolist() == [0xBC00, 0xD800]
    got, _ = vectors.evaluate(parse("f16_scaleB"), [np.uint16([0x3C00]), np.uint32([0xFFFFFFFF])], Rules())
    assert got.tolist() == [0x3800]


def test_blocks_are_those_of_encode():
    x = RNG.standard_normal((6, 32)).astype(np.float32)
    got, flags = vectors.evaluate(parse("mxfp4_encode32"), [x.view(np.uint32)], Rules())
    q = nf.encode(x, "mxfp4")
    assert flags is None
    assert (got[:, :1] == q.scales).all()
    assert (got[:, 1:] == q.codes).all()


def test_a_row_with_a_tensor_scale_is_the_whole_array():
    x = RNG.standard_normal((6, 16)).astype(np.float32)
    x[1] = x[0][::-1]
    x[2, 3], x[3, 4], x[4] = np.nan, np.nan, 0
    got, _ = vectors.evaluate(parse("nvfp4_encode16"), [x.view(np.uint32)], Rules())
    for row, codes in zip(x, got, strict=True):
        q = nf.encode(row, "nvfp4")
        assert codes.tolist() == [*q.scales.tolist(), *q.codes.tolist()]


def test_several_blocks_a_row_have_their_scales_in_front():
    x = RNG.standard_normal((3, 40)).astype(np.float32)
    function = parse("mxfp4_encode40")
    got, _ = vectors.evaluate(function, [x.view(np.uint32)], Rules())
    assert got.shape == (3, 42)
    assert (got[:, :2] == nf.encode(x, "mxfp4").scales).all()


def exact_dot(function, row):
    """The sum of products of one row as a Fraction, from `exact`; None where it has a NaN or an infinity."""
    half = len(row) // 2
    total = Fraction(0)
    for i in range(function.size):
        factors = [function.sources[0].exact(int(row[0][i])), function.sources[0].exact(int(row[half][i]))]
        if half == 2:
            at = i // function.block.elements_per_block
            factors += [function.sources[1].exact(int(row[c][at])) for c in (1, 3)]
        product = Fraction(1)
        for factor in factors:
            if factor in ("nan", "inf", "-inf"):
                return None
            product *= 0 if factor == "-0" else factor
        total += product
    return total


@pytest.mark.parametrize("name", [
    "e4m3fn_dot32", "e5m2_dot8", "f16_dot4", "bf16_dot4", "f32_dot2", "int8_dot4", "mxfp8_e4m3_dot32", "mxfp4_dot64", "nvfp4_dot16",
    "mxint8_dot32", "q8_0_dot32", "e4m3fn_dot1",
])  # fmt: skip
@pytest.mark.parametrize("rounding", ["ties_to_even", "toward_negative", "to_odd"])
def test_dots_are_exact_sums_rounded_once(name, rounding):
    function = parse(name)
    columns = [
        RNG.integers(0, 2**width, (40, size), dtype=np.uint64)
        for width, size in zip(function.operand_widths, function.operand_sizes, strict=True)
    ]
    got, flags = vectors.evaluate(function, columns, Rules(rounding))
    seen = 0
    for i in range(40):
        total = exact_dot(function, [column[i] for column in columns])
        if total is None or total == 0:
            continue
        expected, raised = oracle.encode_flags(total, "float32", rounding)
        assert (int(got[i]), int(flags[i])) == (expected, raised), f"row {i} of {name}"
        seen += 1
    assert seen > 3


def dot(a, b, name="e5m2_dot2", rounding=None):
    codes = [np.array([row], np.uint64) for row in (a, b)]
    got, flags = vectors.evaluate(parse(name), codes, Rules(rounding))
    return hex(got[0]), int(flags[0])


def test_zeros_infinities_and_nans_of_dots_are_those_of_ieee():
    one, minus, zero, minus_zero, inf, minus_inf, quiet, signaling = 0x3C, 0xBC, 0x00, 0x80, 0x7C, 0xFC, 0x7E, 0x7D
    assert dot([one, one], [one, minus]) == ("0x0", 0)
    assert dot([one, one], [one, minus], rounding="toward_negative") == ("0x80000000", 0)
    assert dot([minus_zero, minus_zero], [one, one]) == ("0x80000000", 0)
    assert dot([zero, zero], [one, one], rounding="toward_negative") == ("0x0", 0)
    assert dot([minus_zero, zero], [one, one]) == ("0x0", 0)
    assert dot([inf, one], [one, minus]) == ("0x7f800000", 0)
    assert dot([inf, one], [minus, inf]) == ("0x7fc00000", 16)
    assert dot([inf, one], [zero, one]) == ("0x7fc00000", 16)
    assert dot([minus_inf, one], [one, one]) == ("0xff800000", 0)
    assert dot([quiet, inf], [one, zero]) == ("0x7fc00000", 0)
    assert dot([signaling, one], [one, one]) == ("0x7fc00000", 16)


# Rows


def test_exhaustive_rows_are_all_combinations():
    a, b, results, flags = all_columns("e2m1_mul", style="exhaustive")
    assert sorted(zip(a.tolist(), b.tolist(), strict=True)) == [(i, j) for i in range(16) for j in range(16)]
    assert results.shape == flags.shape == (256,)


def test_exhaustive_rows_of_a_stochastic_mode_have_every_random_number():
    rows = next(vectors.generate("e3m2_to_e2m1", style="exhaustive", rounding="stochastic_a", random_bit_count=3))
    assert sorted(zip(rows.operands[0].tolist(), rows.random.tolist(), strict=True)) == [
        (i, j) for i in range(64) for j in range(8)
    ]


def test_exhaustive_rows_that_are_too_many_are_refused():
    with pytest.raises(ValueError, match=r"2\*\*64 rows; say how many"):
        vectors.generate("f32_add", style="exhaustive")
    assert len(all_columns("f32_add", style="exhaustive", count=70000)[0]) == 70000


@pytest.mark.parametrize(
    "function", ["f16_add", "f64_mulAdd", "mxfp4_encode32", "i64_to_f16", "f128_mul", "mxfp8_e4m3_dot32"]
)
def test_random_rows_depend_on_seed_and_place_alone(function):
    from numfmt.vectors import operands

    one, rules = parse(function), Rules()
    whole, _ = operands.random(one, rules, 3, 0, 100)
    part, _ = operands.random(one, rules, 3, 37, 61)
    other, _ = operands.random(one, rules, 4, 0, 100)
    for column, piece, unlike in zip(whole, part, other, strict=True):
        assert (column[37:61] == piece).all()
        assert (column != unlike).any()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_do_not_change_rows(threads):
    expected = all_columns("f16_mulAdd", style="random", count=200_000, threads=1)
    found = all_columns("f16_mulAdd", style="random", count=200_000, threads=threads)
    assert all((a == b).all() for a, b in zip(expected, found, strict=True))


def test_random_rows_meet_the_interesting_codes():
    a, _, _, flags = all_columns("f16_add", style="random", count=100_000)
    assert {0, 0x8000, 0x7C00, 0xFC00, 0x0001, 0x03FF, 0x0400, 0x7BFF, 0x3C00} <= set(a.tolist())
    assert set(flags.tolist()) >= {0, 1, 5, 16}


def test_directed_rows_are_followed_by_random_ones():
    few = all_columns("e4m3fn_mul", count=100)
    some = all_columns("e4m3fn_mul")
    many = all_columns("e4m3fn_mul", count=5000)
    assert len(few[0]) == 100
    assert len(many[0]) == 5000
    assert (many[0][:100] == few[0]).all()
    assert (many[0][: len(some[0])] == some[0]).all()


@pytest.mark.parametrize("options", [
    {"style": "clever"}, {"level": 3}, {"seed": -1}, {"seed": 2**32}, {"count": 0}, {"count": -2}, {"rounding": "up"},
])  # fmt: skip
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=r"given|unknown|asked"):
        vectors.generate("e4m3fn_mul", **options)


# Files and their manifests


def test_files_are_the_same_bytes_every_time(tmp_path):
    for syntax in ("txt", "hex", "csv", "jsonl", "npz"):
        made = []
        for i in range(2):
            folder = tmp_path / str(i)
            folder.mkdir(exist_ok=True)
            vectors.write(folder / f"x.{syntax}", "f16_mul", seed=3, threads=i + 1)
            made.append(((folder / f"x.{syntax}").read_bytes(), (folder / f"x.{syntax}.json").read_bytes()))
        assert made[0] == made[1], syntax


def test_a_manifest_says_what_the_file_holds(tmp_path):
    made = vectors.write(tmp_path / "x.txt", "e5m2_mul", rounding="toward_zero", seed=9, level=1)
    stated = json.loads((tmp_path / "x.txt.json").read_bytes())
    assert made == stated
    assert stated["rules"] == {
        "rounding": "toward_zero", "overflow": "infinity", "platform": None, "tininess": "after", "exact": False, "random_bit_count": None,
    }  # fmt: skip
    assert [(f["name"], f["bits"], f["digits"]) for f in stated["fields"]] == [
        ("a", 8, 2),
        ("b", 8, 2),
        ("result", 8, 2),
        ("flags", 5, 2),
    ]
    assert stated["formats"]["float8_e5m2"]["definition"]["bias"] == 15
    assert (stated["style"], stated["level"], stated["seed"]) == ("directed", 1, 9)
    assert stated["coverage"]["missed"] == []
    assert sum(stated["coverage"]["reached"].values()) >= stated["count"]
    assert not {"date", "time", "path"} & set(stated)


def test_the_hash_of_a_format_is_that_of_all_its_fields():
    formats = [
        nf.get_format(name)
        for name in ("e4m3fn", "e5m2", "float8_e4m3", "mxfp4", "nvfp4", "nf4", "q3.12", "e4m3fnuz", "mxfp8", "e5m7b20")
    ]
    assert len({manifest.format_hash(f) for f in formats}) == len(formats)
    assert manifest.format_hash(nf.get_format("e4m3fn")) == manifest.format_hash(nf.FloatFormat(8, 4, 7, specials="fn"))


def test_a_file_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"only fixed-point formats"):
        vectors.write(
            tmp_path / "x.txt", "mxfp4_encode32", rounding="stochastic_a", random_bit_count=8, overflow="wrap"
        )
    assert list(tmp_path.iterdir()) == []


def test_a_prefix_is_the_first_line_and_is_read_back(tmp_path):
    path = tmp_path / "x.txt"
    vectors.write(path, "f16_add", prefix="near_even f16_add", count=5)
    assert path.read_text().startswith("near_even f16_add\n")
    assert vectors.check(path).rows == 5
    with pytest.raises(ValueError, match="one line"):
        vectors.write(path, "f16_add", prefix="a\nb")


def test_what_is_open_in_a_manifest_is_decided_by_the_caller_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    vectors.write(path, "f16_add", rounding="toward_zero", count=50)
    assert vectors.check(path, "f16_add", rounding="toward_zero").passed
    with pytest.raises(ValueError, match=r"rounding ties_to_even is given, its manifest says toward_zero"):
        vectors.check(path, rounding="ties_to_even")
    with pytest.raises(ValueError, match=r"function f16_sub is given, its manifest says f16_add"):
        vectors.check(path, "f16_sub")


def test_the_function_must_be_said_by_somebody(tmp_path):
    path = tmp_path / "dut.txt"
    path.write_text("3C 3D 42 01\n")
    with pytest.raises(ValueError, match=r"nothing says which function dut.txt holds"):
        vectors.check(path)
    assert vectors.check(path, "e4m3fn_mul").passed


# Judging


def test_all_files_of_testfloat_agree(golden):
    folder = golden("berkeley-testfloat")
    paths = sorted(folder.glob("*.txt"))
    assert len(paths) == 43
    rows = 0
    for path in paths:
        report = vectors.check(path)
        assert report.mismatches == 0, f"{path.name}: {report.causes}"
        rows += report.rows
    assert rows == 36054


def test_results_and_flags_are_compared():
    report = judged("3C 3D 42 01\n3C 3D 41 01\n3C 3D 42 00\n3C 3D 41 00\n", "e4m3fn_mul")
    assert (report.rows, report.mismatches, report.passed) == (4, 3, False)
    assert [one.line for one in report.examples] == [2, 3, 4]
    assert (report.examples[0].expected, report.examples[0].got) == (0x42, 0x41)
    assert report.examples[1].cause == "flags only"
    assert sum(report.causes.values()) == 3
    assert judged("3C 3D 42 00\n", "e4m3fn_mul", flags=False).passed
    assert judged("3C 3D 42\n3C 3D 42\n", "e4m3fn_mul", flags=False).passed


def test_nans_are_compared_by_class_or_by_bits():
    row = "7F80 3F80 7FFF 00\n"
    nan = "7FC0 3F80 FFC1 00\n"
    assert judged(nan, "bf16_mul").passed
    assert not judged(nan, "bf16_mul", nan="bits").passed
    assert not judged(row, "bf16_mul").passed  # an infinity is no NaN


def test_nans_of_blocks_are_those_of_their_parts():
    x = np.full((1, 32), np.nan, np.float32)
    got, _ = vectors.evaluate(parse("mxfp8_e4m3_encode32"), [x.view(np.uint32)], Rules())
    line = " ".join(
        ["7FC00000"] * 32
        + [f"{got[0, 0]:02X}"]
        + [f"{c ^ 0x80:02X}" if c & 0x7F == 0x7F else f"{c:02X}" for c in got[0, 1:]]
    )
    assert judged(line + "\n", "mxfp8_e4m3_encode32").passed
    assert got[0, 0] == 0xFF


@pytest.mark.parametrize(
    "name", ["e4m3fn", "e5m2", "e4m3fnuz", "e2m1", "e8m0", "binary8p3se", "binary8p3ue", "ue5m3", "bf16", "dlfloat16"]
)
def test_nans_are_those_that_exact_says(name):
    fmt = nf.get_format(name)
    codes = np.arange(2**fmt.bits)
    expected = [fmt.exact(int(code)) == "nan" for code in codes]
    assert is_nan(codes, fmt).tolist() == expected


def test_few_mismatches_are_explained_and_all_are_counted():
    text = "3C 3D 41 01\n" * 5000
    report = judged(text, "e4m3fn_mul", errors=3)
    assert (len(report.examples), report.mismatches) == (3, 5000)
    assert report.classified < 5000
    assert sum(report.classes.values()) >= 5000
    assert len(judged("3C 3D 41 01\n" * 30, "e4m3fn_mul", errors=0).examples) == 30


def test_stochastic_rows_are_judged_with_their_random_numbers():
    rules = Rules("stochastic_a", random_bit_count=8)
    stream = io.BytesIO()
    vectors.write(stream, "f32_to_bf16", rules=rules, style="random", count=2000)
    report = vectors.check(io.BytesIO(stream.getvalue()), "f32_to_bf16", rules)
    assert report.passed
    other = vectors.check(io.BytesIO(stream.getvalue()), "f32_to_bf16", rounding="stochastic_b", random_bit_count=8)
    assert other.mismatches
    assert other.examples[0].lines[0].startswith("random")


def test_several_files_are_one_report(tmp_path):
    for name in ("f16_add.minMag.txt", "f16_mul.odd.txt"):
        rounding = TESTFLOAT_ROUNDINGS[name.split(".")[1]]
        vectors.write(tmp_path / name, name.split(".")[0], rounding=rounding, style="random", count=20)
    report = vectors.check(sorted(tmp_path.glob("*.txt")))
    assert (report.rows, dict(report.functions)) == (40, {"f16_add": 20, "f16_mul": 20})
    assert [rules.rounding.value for rules in report.rules] == ["toward_zero", "to_odd"]


def test_classes_of_a_file_are_counted(tmp_path):
    vectors.write(tmp_path / "x.txt", "e5m2_mul")
    found = vectors.cover(tmp_path / "x.txt")["e5m2_mul"]
    assert min(found.values()) > 0
    few = judged_classes("3C 3C 3C 00\n", "e5m2_mul")
    assert sum(n > 0 for n in few.values()) < len(few)


def judged_classes(text, function):
    return vectors.cover(io.BytesIO(text.encode()), function)[function]


def test_work_in_threads_keeps_its_order_and_its_errors():
    assert list(in_order(lambda x: x + 1, range(100), 4)) == list(range(1, 101))

    def fails(x):
        if x == 50:
            raise ValueError("here")
        return x

    with pytest.raises(ValueError, match="here"):
        list(in_order(fails, range(100), 3))


def test_integers_of_testfloat_are_known():
    assert INTEGERS["ui32"] == "uint32"
    assert len(INTEGERS) == 8
