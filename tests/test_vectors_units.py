"""Golden vectors of matrix units: names, rows, files, coverage, and that every parameter of a unit is told apart."""

import io
import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

import numfmt as nf
from numfmt import vectors
from numfmt.units import CUSTOM
from numfmt.vectors import coverage, unit_limits
from numfmt.vectors.directed_units import drawn
from numfmt.vectors.functions import Rules, evaluate, functions_of
from numfmt.vectors.unit_functions import register_format, unit_dot
from numfmt.vectors.unit_mutants import differences, mutants
from numfmt.vectors.unit_reasons import bounds_of, reason
from spec import oracle
from spec import units as judge

from .support import mostly_nightly
from .test_vectors_cli import nfmt, rows  # noqa: F401

DIVERSE = ["v100.fp16", "h100.e4m3", "mi250.bf16", "x86.vpdpbusd", "b200.mxfp4", "kahan.bf16"]
NAMED = mostly_nightly(nf.list_units(), DIVERSE)
RULES = Rules()
STOCHASTIC = "unit(fp32, rounding=stochastic_a, a=e4m3fn, b=e4m3fn)_dot5"


def written(function, syntax="testfloat", **options):
    """A file of a function, as a stream, and its manifest."""
    stream = io.BytesIO()
    made = vectors.write(stream, function, syntax=syntax, **options)
    return io.BytesIO(stream.getvalue()), made


# Names


@pytest.mark.parametrize("name", nf.list_units())
def test_every_named_unit_has_a_function_whose_name_finds_it_again(name):
    function = unit_dot(name)
    again = vectors.parse(function.name)
    assert again == function
    assert replace(nf.get_unit(name), evidence=CUSTOM, scales=again.unit.scales, scale_blocks=again.unit.scale_blocks) == again.unit


def test_a_format_keeps_its_name():
    assert vectors.parse("bf16_dot9").operation == "dot"
    assert unit_dot("bf16").name == "unit(bf16)_dot9"
    assert vectors.parse("unit(bf16)_dot9").operation == "unit_dot"


@pytest.mark.parametrize(("name", "widths", "sizes", "to"), [
    ("h100.e4m3_dot64", (8, 8, 32), (64, 64, 1), "float32"), ("ada.e4m3.fp16out_dot3", (8, 8, 16), (3, 3, 1), "float16"),
    ("b200.nvfp4_dot32", (4, 8, 4, 8, 32), (32, 2, 32, 2, 1), "float32"), ("kahan.bf16_dot4", (16, 16, 16), (4, 4, 1), "bfloat16"),
    ("x86.vpdpbusd_dot8", (8, 8, 32), (8, 8, 1), "int32"), ("a100.tf32_dot4", (19, 19, 32), (4, 4, 1), "float32"),
    ("unit(b200.nvfp4, scale=e8m0)_dot16", (4, 8, 4, 8, 32), (16, 1, 16, 1, 1), "float32"),
    ("unit(b200.f8f6f4, a=e2m1, b=e3m2)_dot5", (4, 6, 32), (5, 5, 1), "float32"),
    ("unit(kind=aligned, inputs=e4m3fn/e5m2, length=8, fraction=20, zero_exponent=none)_dot9", (8, 8, 32), (9, 9, 1), "float32"),
])  # fmt: skip
def test_names_say_operands_and_results(name, widths, sizes, to):
    function = vectors.parse(name)
    assert (function.operand_widths, function.operand_sizes, str(function.to)) == (widths, sizes, to)
    assert vectors.parse(function.name) == function


def test_a_unit_of_python_calls_is_a_function_whose_name_says_everything():
    unit = nf.DotUnit(inputs=("e4m3fn",), kind="aligned", length=8, fraction=20, rounding="toward_zero", nan=0x7FFFFFFF)
    function = unit_dot(unit, 12)
    assert vectors.parse(function.name).unit == replace(unit, evidence=CUSTOM)
    assert unit_dot(nf.get_unit("v100.fp16"), 6).name == "v100.fp16_dot6"


@pytest.mark.parametrize(("name", "says"), [
    ("h100.e4m4_dot4", "nearest: h100.e4m3"), ("h100_dot4", "its units are h100.fp16"), ("tpu.bf16_dot4", "is no unit"),
    ("b200.nvfp4_dot50", "multiple of 16, the elements of a scale: 48 and 64"), ("unit(h100.e4m3, a=f16)_dot4", "the unit takes float8_e4m3fn"),
    ("unit(h100.e4m3, fractoin=4)_dot4", "unknown parameter of a unit 'fractoin'; nearest: fraction"), ("h100.e4m3_dot0", "1 to 4096"),
    ("unit(h100.e4m3, fraction=70)_dot4", "it is 0 to 52"), ("unit(h100.e4m3, x)_dot4", "written as fraction=14"),
    ("unit(h100.e4m3, scale=e8m0)_dot4", "takes no scales"), ("unit(b200.mxfp4, block=16)_dot32", "one scale for 32 elements"),
    ("unit(kind=aligned, inputs=e4m3fn)_dot4", "fraction is given"),
])  # fmt: skip
def test_names_that_are_none_are_refused_with_advice(name, says):
    with pytest.raises(ValueError, match=r".") as caught:
        vectors.parse(name)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_length_that_nobody_says_crosses_every_boundary():
    lengths = {name: unit_dot(name).size for name in nf.list_units()}
    for name, size in lengths.items():
        unit = nf.get_unit(name)
        assert size > (unit.length or 1) + (unit.promote_every or 0)
    assert (lengths["h100.e4m3"], lengths["h100.e4m3.promote128"], lengths["b200.nvfp4"]) == (48, 176, 96)


def test_results_have_the_format_of_c_where_it_holds_them():
    found = {name: str(register_format(nf.get_unit(name))) for name in ("h100.e4m3", "h100.e4m3.promote128", "bf16", "int32")}
    assert found == {"h100.e4m3": "float32", "h100.e4m3.promote128": "float32", "bf16": "bfloat16", "int32": "int32"}
    assert functions_of("h100.e4m3") == ["h100.e4m3_dot48"]


# Results


def test_64_000_ones_stall_as_known():
    ones = [np.full((1, 4096), 0x38, np.uint8)] * 2
    for name, c, expected in (("h100.e4m3", 16384.0, 16384.0), ("h100.e4m3.promote128", 16384.0, 20480.0)):
        codes = [*ones, np.float32([c]).view(np.uint32)]
        got, flags = evaluate(vectors.parse(f"{name}_dot4096"), codes, RULES)
        assert (got.view(np.float32).tolist(), flags) == ([expected], None)


def test_a_nan_is_the_unit_s_and_an_integer_is_two_s_complement():
    nan = [np.uint8([[0x7F, 0]]), np.uint8([[0x38, 0]]), np.uint32([0])]
    assert evaluate(vectors.parse("h100.e4m3_dot2"), nan, RULES)[0].tolist() == [0x7FFFFFFF]
    wraps = [np.uint8([[255]]), np.uint8([[0x80]]), np.uint32([0x80000000])]
    assert evaluate(vectors.parse("x86.vpdpbusd_dot1"), wraps, RULES)[0].tolist() == [0x80000000 - 255 * 128]
    assert evaluate(vectors.parse("x86.vpdpbusds_dot1"), wraps, RULES)[0].tolist() == [0x80000000]


@pytest.mark.parametrize("name", mostly_nightly(nf.list_units(), ["v100.fp16", "h100.e4m3", "b200.nvfp4", "mi300.bf16", "x86.vdpbf16ps", "bf16"]))
def test_results_are_those_of_the_oracle(name):
    function = unit_dot(name)
    columns = [column[::61][:24] for column in drawn(function, 1500, 3)]
    got, _ = evaluate(function, columns, RULES)
    for i in range(len(got)):
        assert int(got[i]) == oracle_code(function, [column[i] for column in columns]), f"row {i} of {name}"


def oracle_code(function, row):
    """What spec.units gives for a row of codes, in the function's result format."""
    unit, codes = function.unit, [np.atleast_1d(column).tolist() for column in row]
    pair = (0, 2) if unit.scales else (0, 1)
    scales = (codes[1], codes[3]) if unit.scales else None
    formats = [function.sources[i] for i in pair]
    code = judge.dot(unit, codes[pair[0]], codes[pair[1]], codes[-1][0], formats, scales)
    if code == unit.nan or function.to == unit.result_format:
        return code
    return oracle.encode(oracle.value(code, judge.format_of(unit.result_format)), str(function.to))


# Files


@pytest.mark.parametrize("syntax", ["txt", "hex", "csv", "jsonl", "npz"])
@pytest.mark.parametrize("name", ["unit(v100.fp16, fraction=22)_dot6", "b200.mxfp4_dot32", "x86.vpdpbusds_dot3"])
def test_files_of_every_syntax_are_read_back(tmp_path, name, syntax):
    path = tmp_path / f"dot.{syntax}"
    made = vectors.write(path, name, style="random", count=60)
    assert vectors.check(path, nan="bits").passed
    assert made["fields"][-1]["role"] == "result"
    assert json.loads((tmp_path / f"dot.{syntax}.json").read_bytes())["unit"] == vectors.parse(name).unit.as_dict()
    assert vectors.cover(path)[name]["products zero in every lane"] >= 0


def test_a_name_of_a_file_says_its_unit(tmp_path):
    path = tmp_path / "h100.e4m3_dot48.first.txt"
    vectors.write(path, "h100.e4m3_dot48", style="random", count=20, manifest_path=tmp_path / "m.json")
    assert list(vectors.check(path).functions) == ["h100.e4m3_dot48"]


def test_a_manifest_of_another_definition_is_refused(tmp_path):
    path = tmp_path / "x.txt"
    made = vectors.write(path, "v100.fp16_dot6", style="random", count=5)
    made["unit"]["fraction"] = 24
    (tmp_path / "x.txt.json").write_text(json.dumps(made))
    with pytest.raises(vectors.VectorFileError, match="defined otherwise than here: fraction is 24 there, 23 here"):
        vectors.check(path)


def test_files_are_the_same_bytes_every_time():
    assert written("v100.fp16_dot6", seed=4)[0].getvalue() == written("v100.fp16_dot6", seed=4)[0].getvalue()
    assert written("v100.fp16_dot6", seed=4)[0].getvalue() != written("v100.fp16_dot6", seed=5)[0].getvalue()


def test_stochastic_units_carry_a_number_for_every_rounding():
    rules = Rules("stochastic_a", random_bit_count=8)
    stream, made = written(STOCHASTIC, rules=rules, coverage=False, count=250)
    assert [(f["name"], f["bits"], f["count"]) for f in made["fields"]][3] == ("random", 8, 5)
    assert vectors.check(io.BytesIO(stream.getvalue()), STOCHASTIC, rules).passed
    found = {one.mutant: one for one in vectors.mutants(stream, STOCHASTIC, rules)[STOCHASTIC]}
    assert found["rounding=stochastic_b"].rows > 0
    with pytest.raises(ValueError, match="say that and the random bits"):
        vectors.generate(STOCHASTIC)
    with pytest.raises(ValueError, match="a unit has its own"):
        vectors.generate("v100.fp16_dot6", rounding="to_odd")


# Judging


def test_a_planted_fault_is_found_and_explained_in_a_sentence():
    answers, _ = written("unit(h100.e4m3, fraction=12)_dot48", coverage=False)
    report = vectors.check(answers, "h100.e4m3_dot48", errors=2)
    assert report.mismatches > 10
    assert report.common.startswith("another unit: fraction=12 instead of fraction=13 explains ")
    assert report.common.endswith(f"{report.classified} of {report.classified} mismatches")
    first = report.examples[0]
    assert (first.cause, len(report.examples)) == ("another unit", 2)
    labels = [line.split()[0] for line in first.lines]
    assert {"lane", "c", "exact", "step", "expected", "got", "cause", "class"} <= set(labels)


def test_a_fault_of_no_parameter_is_said_to_be_none():
    answers, _ = written("v100.fp16_dot6", coverage=False)
    lines = answers.getvalue().split(b"\n")
    at = next(i for i, line in enumerate(lines) if line.endswith(b" 00000000"))
    lines[at] = lines[at][:-8] + b"40490FDB"
    report = vectors.check(io.BytesIO(b"\n".join(lines)), "v100.fp16_dot6")
    assert (report.mismatches, report.examples[0].line, report.examples[0].cause) == (1, at + 1, "other")
    assert "no unit with one other parameter gives this" in "\n".join(report.examples[0].lines)


def test_patterns_of_nans_are_told_apart_by_their_bits():
    answers, _ = written("unit(v100.fp16, nan=0x7fc00000)_dot6", coverage=False)
    assert vectors.check(answers, "v100.fp16_dot6").passed
    report = vectors.check(io.BytesIO(answers.getvalue()), "v100.fp16_dot6", nan="bits")
    assert set(report.causes) == {"NaN bits"}


# Told apart


@pytest.mark.parametrize("name", NAMED)
def test_every_mutant_of_a_named_unit_is_told_apart_or_cannot_matter(name):
    function = unit_dot(name)
    stream, made = written(function)
    assert made["coverage"]["missed"] == []
    verdicts = vectors.mutants(stream, function)[function.name]
    assert [f"{one.mutant}: {one}" for one in verdicts if not one.is_settled] == []


@pytest.mark.parametrize("name", NAMED)
def test_what_cannot_matter_or_be_reached_is_never_seen(name):
    function = unit_dot(name)
    columns = drawn(function, 3000, 11)
    excused = [mutant for mutant in mutants(function) if reason(function, mutant)]
    seen = [str(mutant) for mutant, rows_ in differences(function, excused, columns, RULES) if rows_.any()]
    assert seen == []
    found = coverage.masks(function, columns)
    assert [one for one in unit_limits.unreachable(function) if one in found and found[one].any()] == []


def test_mutants_have_the_parameters_that_the_unit_reads():
    named = {name: [str(m) for m in mutants(unit_dot(name))] for name in ("h100.e4m3", "mi300.e4m3fnuz", "b200.nvfp4", "x86.vdpbf16ps")}
    wanted = ["length=64", "length=16", "fraction=12", "fraction=14", "alignment=to_odd", "rounding=ties_to_even", "addend=late"]
    assert set(wanted) < set(named["h100.e4m3"])
    assert {"late_fraction=30", "late_fraction=none", "late_reach=26", "order=sequential", "addend=early"} < set(named["mi300.e4m3fnuz"])
    assert {"group=32", "group=8", "scale_signs=true", "zero_exponent=-138"} < set(named["b200.nvfp4"])
    assert {"order=sequential", "length=4", "flush_inputs=none", "flush_results=false", "nan_rule=canonical"} < set(named["x86.vdpbf16ps"])


def test_a_file_of_a_unit_tells_its_every_parameter():
    function = unit_dot("h100.e4m3")
    found = {one.mutant: one for one in vectors.mutants(written(function)[0], function)[function.name]}
    excused = {name for name, one in found.items() if one.reason}
    assert excused == {"zero_exponent=none", "zero_exponent=-134", "zero_exponent=-132", "overflow=none", "overflow=saturate"}
    assert min(one.rows for name, one in found.items() if name not in excused) >= 3
    assert all(1 <= one.first <= one.tried for one in found.values() if one.rows)


def test_promotions_are_told_apart_on_both_sides_of_the_boundary():
    function = vectors.parse("unit(h100.e4m3, promote_every=8, length=4)_dot14")
    found = {one.mutant: one.rows for one in vectors.mutants(written(function, coverage=False)[0], function)[function.name]}
    assert all(found[f"promote_every={n}"] for n in ("none", 7, 9, 16, 4, 12))


def test_rows_that_show_nothing_are_said_to_show_nothing():
    zeros = io.BytesIO(b"0000 " * 12 + b"00000000 00000000\n")
    verdicts = vectors.mutants(zeros, "v100.fp16_dot6")["v100.fp16_dot6"]
    found = {one.mutant: str(one) for one in verdicts}
    assert found["fraction=22"] == "not told apart in 1 rows"
    assert found["zero_exponent=none"] == "cannot matter: no term has an exponent below -126, and E is never lower"


def test_bounds_are_those_of_the_formats():
    found = bounds_of(vectors.parse("b200.nvfp4_dot32"))
    assert (found.exponent, found.place, found.product) == (-12, -20, Fraction(6 * 6 * 448 * 448))


# On the command line


def test_a_unit_is_an_option(nfmt, tmp_path):  # noqa: F811
    code, out, err = nfmt("generate", "dot", "--unit", "v100.fp16", "-o", "dot.txt")
    assert (code, err) == (0, "")
    assert out.startswith("dot.txt: ")
    assert "rows of v100.fp16_dot6" in out
    assert "missed" not in out
    assert nfmt("check", "dot.txt")[:2] == (0, f"{len(rows((tmp_path / 'dot.txt').read_text()))} rows of v100.fp16_dot6: none differs\n")
    code, out, _ = nfmt("cover", "dot.txt", "--strict")
    assert code == 0
    assert "cannot be reached\n  result infinite, of finite operands: the products of a row" in out
    code, out, _ = nfmt("mutants", "dot.txt", "--strict")
    assert code == 0
    assert out.endswith(" cannot matter, 0 not told apart\n")
    shown = json.loads(nfmt("mutants", "dot.txt", "--json")[1])["units"][0]
    assert {one["verdict"] for one in shown["mutants"]} == {"told apart", "cannot matter"}


def test_parameters_and_formats_are_options(nfmt):  # noqa: F811
    argv = ("generate", "dot3", "--unit", "h100.e4m3", "--inputs", "e5m2,e4m3fn", "--set", "fraction=14", "--style", "random", "-n", "2")
    code, out, _ = nfmt(*argv)
    assert (code, [[len(word) for word in row] for row in rows(out)]) == (0, [[2] * 6 + [8, 8]] * 2)
    assert nfmt("check", "-", "--function", "unit(h100.e4m3, fraction=14, a=e5m2)_dot3", stdin=out.encode())[0] == 0


@pytest.mark.parametrize(("argv", "says"), [
    (["dot", "--unit", "h100.e4m4"], "nearest: h100.e4m3"), (["dot50", "--unit", "b200.nvfp4"], "48 and 64 fits"),
    (["dot", "--unit", "h100.e4m3", "--inputs", "f16"], "the unit takes"), (["f16_add", "--unit", "h100.e4m3"], "dot and dot<K>"),
    (["dot", "--set", "fraction=3"], "without --unit"), (["dot", "--unit", "h100.e4m3", "--set", "fraction"], "PARAMETER=VALUE"),
    (["dot", "--unit", "h100.e4m3", "--inputs", "e5m2,e5m2,e5m2"], "one for each"),
])  # fmt: skip
def test_errors_are_one_line(nfmt, argv, says):  # noqa: F811
    code, out, err = nfmt("generate", *argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_mutants_are_of_units(nfmt):  # noqa: F811
    code, _, err = nfmt("mutants", "-", "--function", "f16_add", stdin=b"0000 0000 0000 00\n")
    assert code == 2
    assert "mutants are of dots of units" in err
    assert "nfmt vectors mutants dot.txt" in nfmt("mutants", "--help")[1]
